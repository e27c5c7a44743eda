"""Automatic keywords: words of a vocabulary that pictures would carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from phosphene.labels.calibration import LabelCalibration
from phosphene.labels.labeller import Labeller
from phosphene.types import Float32

MIN_PROBABILITY = 0.3  # docs/labels.md: what share of such words an owner has written
MOST = 8  # of one picture
_STANDS_OUT = 4.0  # standard deviations above the vocabulary, where there is no calibration


def keywords_of(
    pictures: Float32,
    words: Sequence[str],
    *,
    labeller: Labeller,
    calibration: LabelCalibration | None,
    min_probability: float = MIN_PROBABILITY,
    most: int = MOST,
) -> list[Mapping[str, float | None]]:
    """Give each picture of (n, d) its words, the likeliest first, with their probabilities.

    Without a calibration: words that stand out among the others by far, with None.
    """
    evidence = labeller.evidence(pictures, labeller.rows(words))
    standing = evidence[:, :, 1] if calibration is None else calibration.probabilities(evidence)
    least = _STANDS_OUT if calibration is None else min_probability
    found: list[Mapping[str, float | None]] = []
    for row in standing:
        order = np.argsort(-row, kind="stable")[:most]
        found.append(
            {words[at]: None if calibration is None else round(float(row[at]), 3) for at in order if row[at] >= least}
        )
    return found
