"""What speaks for and against the first hits: one row of numbers for each question.

A cosine alone tells little: text-to-picture cosines lie near 0.2 to 0.35, picture-to-picture near 0.6 to 1, and both
shift from model to model and from question to question. So a question's best score is compared with what the same
question scores against a fixed sample of the catalogue (the background), and other witnesses are heard.

To add a witness, such as a prior's embedding against the hits: name it in FEATURES and GROUPS and give its number.
A calibration keeps the names of what it was fitted on, so those fitted before go on without the new one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from phosphene.types import Float32

Float64 = NDArray[np.float64]

HEAD = 10  # hits whose scores are looked at
CLOSE = 5  # hits whose vectors and words are looked at
_TAIL = 0.99  # quantile of the background
LEAST_BACKGROUND = 8  # scores; with fewer their spread says nothing

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "score": ("top",),
    "background": ("z_score", "margin", "rank", "spread", "tail"),
    "gaps": ("gap_to_second", "gap_to_last", "rivals", "close_rivals", "closest_rivals", "contested", "disputed"),
    "agreement": ("agreement",),
    "filter": ("selectivity",),
    "words": ("words_of_top", "words_on_average", "words_at_best"),
}
FEATURES: Final = tuple(name for names in GROUPS.values() for name in names)
Z_SCORE: Final = FEATURES.index("z_score")


def evidence(scores: Float64, *, background: Float64, vectors: Float32, words: Float64, share: float) -> Float64:
    """Give the numbers of FEATURES, (len(FEATURES),) float64; NaN where a witness has nothing to say.

    scores (k,), k >= 1: cosines of the first HEAD hits, best first. background (b,), b >= LEAST_BACKGROUND: cosines
    with the sample, without the top hit. vectors (<= CLOSE, d): of the first hits, length 1. words (<= CLOSE,): for
    each of these hits the best cosine between question and the hit's words, NaN where it carries none.
    share: of the catalogue that passes the filter, 0..1.
    """
    top = float(scores[0])
    background = np.sort(background)
    mean, spread = float(background.mean()), max(float(background.std()), 1e-6)
    told = words[~np.isnan(words)]
    z_score = (top - mean) / spread
    gaps = (top - scores[1:]) / spread
    rivals, close_rivals, closest_rivals = (_rivals(gaps, sharpness) for sharpness in (1.0, 3.0, 20.0))
    values = {
        "top": top,
        "z_score": z_score,
        "margin": top - float(background[len(background) // 2]),
        "rank": math.log((1 + len(background) - int(np.searchsorted(background, top))) / (len(background) + 1)),
        "spread": spread,
        "tail": float(background[int(_TAIL * (len(background) - 1))]) - mean,
        "gap_to_second": float(gaps[0]) if len(gaps) else np.nan,
        "gap_to_last": float(gaps[-1]) if len(gaps) else np.nan,
        "rivals": rivals,
        "close_rivals": close_rivals,
        "closest_rivals": closest_rivals,
        "contested": z_score * close_rivals,  # rivals tell another thing high above the background than near it
        "disputed": z_score * closest_rivals,
        "agreement": _agreement(vectors),
        "selectivity": math.log(max(share, 1e-9)),
        "words_of_top": float(words[0]) if len(words) else np.nan,
        "words_on_average": float(told.mean()) if len(told) else np.nan,
        "words_at_best": float(told.max()) if len(told) else np.nan,
    }
    return np.array([values[name] for name in FEATURES])


def _rivals(gaps: Float64, sharpness: float) -> float:
    """Weigh the hits behind the top one by how near they are: the log odds of a softmax against it; NaN for none."""
    return math.log(float(np.exp(-sharpness * gaps).sum()) + 1e-9) if len(gaps) else float("nan")


def _agreement(vectors: Float32) -> float:
    """Average the cosines between different hits; NaN for fewer than two."""
    count = len(vectors)
    if count < 2:
        return float("nan")
    total = vectors.sum(axis=0, dtype=np.float64)
    return float((total @ total - count) / (count * (count - 1)))
