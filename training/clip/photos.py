"""Photographs imagined from the packaged classifier, since no photograph is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

_OBSERVED = 0.99  # decay of the running statistics
_WEAKEST, _STRONGEST = 8.0, 24.0  # length of a class direction in standard deviations of the features
_NOISE = 0.5


class PhotoMemory:
    """Features around which a photograph of a class would lie.

    Late in training a classifier's features gather around directions proportional to the classifier's own rows
    (Papyan, Han and Donoho 2020, arXiv 2008.08186). So a photograph of class c is imagined as the usual features,
    moved along row c, with noise.
    """

    def __init__(self, class_weights: Tensor) -> None:
        """Keep the rows of the classifier, (classes, features) float32, centred and of length one."""
        self._directions = functional.normalize(class_weights - class_weights.mean(dim=0), dim=1)
        self._mean: Tensor | None = None
        self._deviation = torch.ones(class_weights.shape[1])

    def observe(self, features: Tensor) -> None:
        """Follow mean and deviation of the untouched backbone's features, (n, features) float32."""
        mean, deviation = features.mean(dim=0), features.std(dim=0) + 1e-3
        if self._mean is None:
            self._mean, self._deviation = mean, deviation
        else:
            self._mean = _OBSERVED * self._mean + (1 - _OBSERVED) * mean
            self._deviation = _OBSERVED * self._deviation + (1 - _OBSERVED) * deviation

    def imagine(self, classes: NDArray[np.int64], chance: Generator) -> Tensor:
        """Features of one photograph for each class, (n, features) float32, none below zero."""
        rows = self._directions[torch.from_numpy(classes)]
        strength = _WEAKEST + (_STRONGEST - _WEAKEST) * torch.rand(len(rows), 1, generator=chance)
        noise = _NOISE * torch.randn(rows.shape, generator=chance)
        mean = torch.zeros(rows.shape[1]) if self._mean is None else self._mean
        return (mean + self._deviation * (rows * strength + noise)).clamp(min=0)
