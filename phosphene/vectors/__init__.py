"""Vector indexes: the protocol, and one file for each engine behind it."""
