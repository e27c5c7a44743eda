"""The bank of training texts, and how strongly each picture belongs to each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from training.clip.model import embed_all_tokens, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import open_clip
    from numpy.typing import NDArray

NEIGHBOURS = 16
SMOOTHED_SHARE = 0.5
_SOFTNESS = 0.07  # temperature of the weights among neighbours
_BLOCK = 1024

WeightedTexts = list[tuple[str, float]]


@dataclass(frozen=True)
class TextBank:
    """Texts with their embeddings, and two matrices of shape (items, texts) whose rows sum to one.

    `said` holds the texts an item really carries; in `smoothed` half of each is spread over the texts that mean
    nearly the same.
    """

    texts: list[str]
    embeddings: Tensor  # (texts, d) float32, unit
    said: sparse.csr_matrix
    smoothed: sparse.csr_matrix

    def targets(self, items: NDArray[np.int64]) -> Tensor:
        """Smoothed targets of some items, (n, texts) float32."""
        return torch.from_numpy(self.smoothed[items].toarray())

    def sample(self, items: NDArray[np.int64], chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        """One text for each item, and which of the items it is true of: (n,) int64 and (n, n) bool [text, item]."""
        rows = self.said[items]
        bounds = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
        chosen = np.array([chance.choice(rows.indices[a:b], p=_normalised(rows.data[a:b])) for a, b in bounds])
        return torch.from_numpy(chosen.astype(np.int64)), torch.from_numpy(rows[:, chosen].toarray().T > 0)


def build_bank(model: open_clip.CLIP, items: Sequence[WeightedTexts]) -> TextBank:
    """Embed every text that an item carries."""
    index: dict[str, int] = {}
    rows, columns, values = [], [], []
    for row, weighted in enumerate(items):
        total = sum(weight for _, weight in weighted)
        for text, weight in weighted:
            rows.append(row)
            columns.append(index.setdefault(text, len(index)))
            values.append(weight / total)
    said = sparse.csr_matrix((values, (rows, columns)), shape=(len(items), len(index)), dtype=np.float32)
    said.sum_duplicates()
    texts = list(index)
    embeddings = embed_all_tokens(model, tokenize(texts))
    smoothed = (1 - SMOOTHED_SHARE) * said + SMOOTHED_SHARE * (said @ _neighbours(embeddings))
    return TextBank(texts, embeddings, said, sparse.csr_matrix(smoothed))


def _neighbours(embeddings: Tensor) -> sparse.csr_matrix:
    """(texts, texts): each text's weight on those nearest to it, itself among them."""
    rows, columns, values = [], [], []
    for start in range(0, len(embeddings), _BLOCK):
        cosines, nearest = (embeddings[start : start + _BLOCK] @ embeddings.T).topk(NEIGHBOURS, dim=1)
        values.append(functional.softmax(cosines / _SOFTNESS, dim=1).flatten().numpy())
        columns.append(nearest.flatten().numpy())
        rows.append(np.repeat(np.arange(start, start + len(nearest)), NEIGHBOURS))
    places = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(embeddings), len(embeddings))
    return sparse.csr_matrix((np.concatenate(values), places), shape=shape, dtype=np.float32)


def _normalised(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = weights.astype(np.float64) / weights.astype(np.float64).sum()
    return shares
