"""The starter CLIP: a small open_clip model trained on 2 CPU cores from packages anyone can install."""
