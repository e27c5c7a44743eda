"""Write the starter as an ordinary open_clip folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from training.clip.model import MODEL_CFG, PREPROCESS_CFG
from training.clip.workspace import STARTER

if TYPE_CHECKING:
    from pathlib import Path

MAX_MEGABYTES = 45


def export_starter(weights: Path, target: Path = STARTER / "clip") -> None:
    """Weights as float16 safetensors beside `open_clip_config.json`, readable by everyone."""
    target.mkdir(parents=True, exist_ok=True)
    state = load_file(weights)
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    model = target / "open_clip_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in half.items()}, model, metadata={"format": "pt"})
    config = target / "open_clip_config.json"
    settings = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    for path in (model, config):
        path.chmod(0o644)
    size = model.stat().st_size / 1e6
    if size > MAX_MEGABYTES:
        raise ValueError(f"{model.name} has {size:.1f} MB, more than the {MAX_MEGABYTES} MB that may be shipped")
    if any(not torch.isfinite(tensor).all() for tensor in half.values() if tensor.is_floating_point()):
        raise ValueError(f"{weights.name} holds numbers that float16 cannot")
    print(f"{model.name}: {size:.1f} MB")
