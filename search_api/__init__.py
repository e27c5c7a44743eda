"""Questions in, answers out: the search itself, and its HTTP interface and page."""
