"""HTTP routes: parse, call one plain function, translate."""
