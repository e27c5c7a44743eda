"""The recipe that makes the starter's own unCLIP."""
