"""What the three diffusion models share in training: noise, dropped conditions, the loss on clean samples."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from phosphene.unclip.starter_layout import TRAIN_STEPS
from training.unclip.fit import Draw

DROPPED_SHARE = 0.1  # of conditions: what guidance pushes away from
_MOST_WEIGHT = 5.0


@dataclass(frozen=True)
class Noised:
    """Clean samples at random places of the way from data to noise."""

    noisy: Tensor  # as the clean samples, (n, …)
    t: Tensor  # (n,) int64

    @classmethod
    def of(cls, clean: Tensor, schedule: Any, draw: Draw) -> Self:  # noqa: ANN401  # a diffusers scheduler
        """Add noise; t is uniform over all timesteps."""
        t = draw.integers(TRAIN_STEPS, len(clean))
        return cls(schedule.add_noise(clean, draw.gaussian(clean), t), t)


def half_precision() -> AbstractContextManager[object]:
    """Run networks, and nothing else, in bfloat16: half as many steps again in the same time."""
    return torch.autocast("cpu", torch.bfloat16)


def drop_conditions(conditions: Tensor, draw: Draw, *, share: float = DROPPED_SHARE) -> Tensor:
    """Replace a share of the rows (n, d) by zeros, which is how absent conditions are told."""
    kept = draw.uniform(len(conditions)) >= share
    return conditions * kept[:, None]


def perturb(units: Tensor, draw: Draw, *, most: float) -> Tensor:
    """Push unit embeddings (n, d) aside by up to `most` times their length, each differently, back to length 1."""
    amount = most * draw.uniform(len(units), 1) / units.shape[1] ** 0.5
    return functional.normalize(units + amount * draw.gaussian(units), dim=-1)


def picture_loss(predicted: Tensor, clean: Tensor, t: Tensor, schedule: Any) -> Tensor:  # noqa: ANN401  # the same
    """Mean squared error on the clean sample, (n, c, h, w), weighted by min(SNR + 1, 5).

    SNR + 1 = 1 / (1 - ᾱ) makes it the loss on v of Salimans and Ho 2022 (arXiv 2202.00512), section 4; cut off as in
    Hang et al. 2023 (arXiv 2303.09556), so that almost clean samples don't crowd out what shapes and colours hang on.
    """
    weights = (1 / (1 - schedule.alphas_cumprod[t])).clamp(max=_MOST_WEIGHT)
    errors = functional.mse_loss(predicted.float(), clean, reduction="none").mean(dim=(1, 2, 3))
    loss: Tensor = (errors * weights).mean()
    return loss


def shrink(pictures: Tensor, side: int) -> Tensor:
    """Shrink (n, 3, h, w) without aliasing."""
    return functional.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
