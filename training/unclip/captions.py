"""Captions of pictures, and how each is drawn while training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

WeightedTexts = Sequence[tuple[str, float]]

# As people type them. The bare text is drawn as often as all others together.
TEMPLATES = ("{}", "a picture of a {}", "a drawing of {}", "{} clip art")


@dataclass(frozen=True)
class Captions:
    """The distinct texts that pictures carry, and how often each of them speaks for its picture."""

    texts: list[str]
    first: NDArray[np.int64]  # (pictures + 1,) where each picture's texts begin below
    text: NDArray[np.int64]  # (uses,) rows of `texts`
    running: NDArray[np.float64]  # (uses + 1,) running sum of weights

    @classmethod
    def of(cls, pictures: Sequence[WeightedTexts]) -> Self:
        """Take the texts and weights of each picture; every picture has one at least."""
        index: dict[str, int] = {}
        uses = [
            (index.setdefault(text, len(index)), weight)
            for weighted in pictures
            for text, weight in dict(weighted).items()
        ]
        counts = [len(dict(weighted)) for weighted in pictures]
        if min(counts, default=0) == 0:
            raise ValueError(f"picture {counts.index(0) if counts else 0} has no caption")
        return cls(
            texts=list(index),
            first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            text=np.array([text for text, _ in uses], dtype=np.int64),
            running=np.concatenate([[0.0], np.cumsum([weight for _, weight in uses])]),
        )

    def draw(self, pictures: NDArray[np.int64], chance: np.random.Generator) -> NDArray[np.int64]:
        """Draw a text for each picture by its weights: (n,) rows of `texts`."""
        start, end = self.running[self.first[pictures]], self.running[self.first[pictures + 1]]
        points = start + chance.random(len(pictures)) * (end - start)
        use = np.searchsorted(self.running, points, side="right") - 1
        return self.text[np.clip(use, self.first[pictures], self.first[pictures + 1] - 1)]


def draw_templates(count: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """Draw rows of TEMPLATES, (count,): the bare text half the time."""
    others = chance.integers(1, len(TEMPLATES), count)
    return np.where(chance.random(count) < 0.5, 0, others).astype(np.int64)
