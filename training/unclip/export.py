"""Step `export`: write the folder that `phosphene.unclip` loads."""

from __future__ import annotations

from pathlib import Path

import torch

from phosphene.unclip.base import Sampling
from phosphene.unclip.starter_layout import StarterNetworks
from training.unclip.embeddings import CLIP_MODEL

# What did best on the validation split of what was tried; README.md has the figures.
SAMPLING = Sampling(prior_guidance=2.0, candidates=2, decoder_guidance=3.0, decoder_steps=10, drafts=64)
MAX_MEGABYTES = 30


def export_networks(networks: StarterNetworks, target: Path, *, space: str) -> None:
    """Write averaged networks as float16, readable by everyone; `space` is the id of the CLIP space.

    The networks given are float16 afterwards.
    """
    for network in (networks.prior, networks.decoder, networks.super_resolution):
        network.half()
        if any(not torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
            raise ValueError(f"{type(network).__name__} holds numbers that float16 cannot")
    networks.save(target, space=space, model=CLIP_MODEL, sampling=SAMPLING)
    size = sum(path.stat().st_size for path in target.rglob("*.safetensors")) / 1e6
    if size > MAX_MEGABYTES:
        raise ValueError(f"{target} has {size:.1f} MB, more than the {MAX_MEGABYTES} MB that may be shipped")
    print(f"{target.name}: {size:.1f} MB")
