"""Image embeddings as sequences of tokens, for the autoregressive prior.

Ramesh et al. 2022 (arXiv 2204.06125), section 2.2: principal components, largest first, each cut into buckets. Buckets
hold equally many training embeddings here; the paper does not say how it cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class EmbeddingTokens:
    """How embeddings (n, d) become tokens (n, components), and back."""

    mean: Tensor  # (d,)
    axes: Tensor  # (d, components), orthonormal
    edges: Tensor  # (components, buckets - 1), ascending
    centres: Tensor  # (components, buckets): what a token stands for

    @classmethod
    def fit(cls, units: Tensor, *, components: int, buckets: int) -> Self:
        """Find axes and buckets of unit embeddings (n, d) float32, n >= 2 * buckets."""
        if len(units) < 2 * buckets:
            raise ValueError(f"{len(units)} embeddings can't be cut into {buckets} buckets: at least {2 * buckets}")
        mean = units.mean(dim=0)
        _, axes = torch.linalg.eigh(torch.cov((units - mean).T))  # ascending
        axes = axes.flip(1)[:, :components]
        ordered = ((units - mean) @ axes).sort(dim=0).values
        bounds = torch.arange(buckets + 1) * len(units) // buckets
        edges = (ordered[bounds[1:-1] - 1] + ordered[bounds[1:-1]]) / 2
        filled = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        centres = torch.stack([ordered[start:end].mean(dim=0) for start, end in filled])
        return cls(mean, axes.contiguous(), edges.T.contiguous(), centres.T.contiguous())

    @property
    def components(self) -> int:
        """Tokens of an embedding."""
        return self.axes.shape[1]

    @property
    def buckets(self) -> int:
        """Values of a token."""
        return self.centres.shape[1]

    def encode(self, units: Tensor) -> Tensor:
        """Cut unit embeddings (n, d) into tokens (n, components) int64, 0..buckets-1."""
        projected = (units - self.mean) @ self.axes
        return torch.searchsorted(self.edges, projected.T.contiguous()).T.contiguous()

    def decode(self, tokens: Tensor) -> Tensor:
        """Give unit embeddings (n, d) of tokens (n, components), as near as buckets allow."""
        places = torch.arange(self.components).expand_as(tokens)
        return functional.normalize(self.centres[places, tokens] @ self.axes.T + self.mean, dim=-1)

    def values(self, tokens: Tensor, *, first: int) -> Tensor:
        """Give what tokens (n, length) of the components from `first` on stand for, in standard deviations."""
        centres = self.centres[first : first + tokens.shape[1]]
        centres = centres / centres.std(dim=1, keepdim=True)
        return centres[torch.arange(len(centres)), tokens]

    def state(self) -> dict[str, Tensor]:
        """Name the tensors, to be saved."""
        return {"mean": self.mean, "axes": self.axes, "edges": self.edges, "centres": self.centres}


@dataclass(frozen=True)
class MatchTokens:
    """How well a caption fits its picture, their cosine, as a token; by asking for a good fit sampling gets one."""

    edges: Tensor  # (buckets - 1,), ascending

    @classmethod
    def fit(cls, cosines: Tensor, *, buckets: int) -> Self:
        """Cut cosines (n,) so that each bucket holds equally many."""
        return cls(torch.quantile(cosines, torch.arange(1, buckets) / buckets))

    @property
    def buckets(self) -> int:
        """Values of the token."""
        return len(self.edges) + 1

    def encode(self, cosines: Tensor) -> Tensor:
        """Cut cosines (n,) into tokens (n,) int64."""
        return torch.searchsorted(self.edges, cosines)
