"""How alike things are: cosines, and the CLIP score, of anything with anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phosphene.assemble import Engine
from phosphene.errors import InvalidQuery
from phosphene.types import Float32, Space, TenantId
from search_api.compose import require_space
from search_api.embedding import Embeddable, embed_all

CLIP_SCORE_WEIGHT = 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """`cosines` and `clip_scores` are (n, m) float32, or (n,) of pairs."""

    space: Space
    cosines: Float32  # -1..1
    clip_scores: Float32  # 0..2.5


def clip_scores(cosines: Float32) -> Float32:
    """Give the CLIP score of each cosine, 0..2.5: w * max(cos, 0) with w = 2.5.

    Hessel et al. 2021 (arXiv 2104.08718), section 3. Scores of two models can't be compared; those of the paper are of
    OpenAI's ViT-B/32, with "A photo depicts" before each caption.
    """
    return np.asarray(CLIP_SCORE_WEIGHT * np.maximum(cosines, 0), dtype=np.float32)


def compare(
    left: Sequence[Embeddable],
    right: Sequence[Embeddable] | None,
    *,
    pairs: bool,
    engine: Engine,
    tenant: TenantId,
    named_space: str | None = None,
) -> Similarity:
    """Compare each of left with each of right, or with `pairs` the first with the first and so on.

    Without right, each of left with each of left. Raises InvalidQuery, PictureError, NotFound, SpaceMismatch.
    """
    if pairs and (right is None or len(right) != len(left)):
        raise InvalidQuery(f"pairs need as many on the right as on the left: {len(left)}, not {len(right or ())}")
    with engine.answering() as space:
        require_space(named_space, space.space)
        every = embed_all([*left, *(right or ())], space, engine=engine, tenant=tenant).rows
        first = every[: len(left)]
        second = every[len(left) :] if right is not None else first
        together = np.einsum("nd,nd->n", first, second) if pairs else first @ second.T
        cosines = np.clip(np.asarray(together, dtype=np.float32), -1, 1)
        return Similarity(space.space, cosines, clip_scores(cosines))
