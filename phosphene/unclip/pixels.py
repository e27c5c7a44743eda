"""Between bytes and what pixel-space networks see: -1..1."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from phosphene.types import Pixels


def from_pixels(pixels: Pixels) -> torch.Tensor:
    """RGB bytes (n, h, w, 3) -> (n, 3, h, w) float32 in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(pictures: torch.Tensor) -> Pixels:
    """Undo `from_pixels`; what lies outside -1..1 is clipped."""
    scaled = (pictures.detach().float().clamp(-1, 1) + 1) * 127.5
    return np.ascontiguousarray(scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


def preview(pictures: torch.Tensor, px: int) -> Pixels:
    """Shrink (n, 3, h, w) in -1..1 so that the longer side is at most px, and give its bytes."""
    height, width = pictures.shape[2:]
    ratio = min(1.0, px / max(height, width))
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    return to_pixels(functional.interpolate(pictures.detach().float(), size=size, mode="area"))
