"""How the catalogue's schema came to be, step by step."""
