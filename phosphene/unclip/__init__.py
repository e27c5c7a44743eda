"""Pictures imagined from CLIP embeddings: unCLIP (Ramesh et al. 2022, arXiv 2204.06125). docs/unclip.md is the way in.

The only package that imports diffusers, and only in the modules of its layouts: `base`, `geometry` and `imagine` need
numpy alone. Search never loads it before a picture is asked for.
"""
