"""How good search is: on golden queries, of the index alone, and of a model on published benchmarks."""
