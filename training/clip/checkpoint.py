"""Save and load where a training stands, without pickles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch.optim import Optimizer


def save_checkpoint(path: Path, *, step: int, weights: dict[str, Tensor], optimizer: Optimizer) -> None:
    """Write weights, the optimizer's moments and the number of finished steps, all or nothing."""
    state = {f"weights/{name}": weight.detach().contiguous() for name, weight in weights.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        state |= {f"moments/{index}/{name}": value.contiguous() for name, value in moments.items()}
    state["step"] = torch.tensor(step)
    partial = path.with_suffix(".partial")
    save_file(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path, *, weights: dict[str, Tensor], optimizer: Optimizer) -> int:
    """Fill weights and optimizer from a checkpoint and return its step; without one, leave them and return 0."""
    if not path.exists():
        return 0
    saved = load_file(path)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[f"weights/{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in saved.items():
        if name.startswith("moments/"):
            _, index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(saved["step"])
