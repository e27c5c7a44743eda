"""What the generator draws for held-out captions and pictures, and what the starter sees in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from phosphene.encoders import Encoder
from phosphene.types import Pixels
from phosphene.unclip.base import Generator, RawRows, Watch
from phosphene.unclip.imagine import Part, Request, imagine
from training.unclip.held_out import HeldOut, embed_pictures

_TOP = 10
_BATCH = 2  # each with its drafts
_RESAMPLES = 1000


@dataclass(frozen=True)
class Drawn:
    """For some rows of the held-out pictures: drawn from the caption, and from the picture's own embedding."""

    rows: list[int]
    from_captions: Pixels  # (n, h, w, 3)
    from_pictures: Pixels  # the same
    seconds: float  # from a caption to its picture, one at a time

    @classmethod
    def of(cls, held_out: HeldOut, rows: list[int], generator: Generator) -> Self:
        """Draw everything, each row with its own seed."""
        started = time.perf_counter()
        captioned = [
            imagine(Request((Part(held_out.captions[row]),), seed=seed), generator=generator).pixels
            for seed, row in enumerate(rows)
        ]
        seconds = (time.perf_counter() - started) / len(rows)
        parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        varied = [vary(held_out.images[part], generator, first_seed=at * _BATCH) for at, part in enumerate(parts)]
        return cls(rows, np.concatenate(captioned), np.concatenate(varied), seconds)


def vary(images: Tensor, generator: Generator, *, first_seed: int = 0) -> Pixels:
    """Draw a variation of each picture from its unit embedding (n, d): (n, h, w, 3)."""
    return generator.decode(
        RawRows(images.numpy()),
        captions=[""] * len(images),
        seeds=range(first_seed, first_seed + len(images)),
        sampling=generator.card.sampling,
        negative=None,
        size=generator.card.sizes[0],
        watch=Watch(),
    )


def score_captions(held_out: HeldOut, drawn: Drawn, encoder: Encoder) -> dict[str, object]:
    """CLIP score (cosine of caption and picture) of what was drawn, against true pictures and random ones."""
    texts = held_out.texts[drawn.rows]
    others = np.random.default_rng(0).integers(1, len(held_out.images), len(drawn.rows))
    random = [(row + int(other)) % len(held_out.images) for row, other in zip(drawn.rows, others, strict=True)]
    scores = {
        "drawn_from_caption": (embed_pictures(drawn.from_captions, encoder) * texts).sum(dim=1),
        "drawn_from_true_embedding": (embed_pictures(drawn.from_pictures, encoder) * texts).sum(dim=1),
        "true_picture": (held_out.images[drawn.rows] * texts).sum(dim=1),
        "random_picture": (held_out.images[random] * texts).sum(dim=1),
    }
    above = scores["drawn_from_caption"] > scores["random_picture"]
    beaten = scores["drawn_from_caption"][:, None] > texts @ held_out.images.T
    return {
        "captions": len(drawn.rows),
        **{f"clip_score_{name}": _mean(score) for name, score in scores.items()},
        "above_random_picture_percent": _mean(100 * above.float(), digits=1),
        "held_out_pictures_beaten_percent": round(100 * float(beaten.float().mean()), 1),
        "seconds_a_picture": round(drawn.seconds, 2),
    }


def score_variations(held_out: HeldOut, drawn: Drawn, encoder: Encoder) -> dict[str, object]:
    """Whether a variation finds its source, or its concept, among the first ten held-out pictures.

    A concept is a title, or a keyword of the source. Beside each share stands that of ten random pictures.
    """
    found = (embed_pictures(drawn.from_pictures, encoder) @ held_out.images.T).topk(_TOP, dim=1).indices
    chance = np.random.default_rng(0)
    random = torch.from_numpy(np.stack([chance.choice(len(held_out.images), _TOP, replace=False) for _ in drawn.rows]))
    return {
        "variations": len(drawn.rows),
        **_shares(held_out, drawn.rows, found, "found"),
        **_shares(held_out, drawn.rows, random, "random"),
    }


def _shares(held_out: HeldOut, rows: Sequence[int], hits: Tensor, name: str) -> dict[str, object]:
    source, title, keyword = [], [], []
    for row, ten in zip(rows, hits.tolist(), strict=True):
        words = set(held_out.pictures[row].keywords)
        source.append(row in ten)
        title.append(any(held_out.captions[hit] == held_out.captions[row] for hit in ten))
        keyword.append(title[-1] or any(words & set(held_out.pictures[hit].keywords) for hit in ten))
    shares = {"source": source, "source_or_title": title, "source_or_keyword": keyword}
    return {
        f"{name}_{what}_percent": _mean(100 * torch.tensor(right).float(), digits=1) for what, right in shares.items()
    }


def _mean(values: Tensor, *, digits: int = 3) -> list[float]:
    """Mean, and its 95 % interval, bootstrapped."""
    chance = np.random.default_rng(0)
    means = [
        float(values[torch.from_numpy(chance.integers(0, len(values), len(values)))].mean()) for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return [round(float(values.mean()), digits), round(float(low), digits), round(float(high), digits)]
