"""The catalogue in SQL: the truth about tenants, pictures, ingests and the work still to be done."""
