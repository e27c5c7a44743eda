"""Made evidence whose probability of being right is known."""

from __future__ import annotations

import numpy as np

from phosphene.nomatch.calibration import Trials
from phosphene.nomatch.evidence import FEATURES, Float64
from phosphene.nomatch.logistic import sigmoid

TOP, WORDS = FEATURES.index("top"), FEATURES.index("words_of_top")


def made_trials(count: int, *, seed: int = 0) -> tuple[Trials, Float64]:
    """Two features decide, one of them bent, a third of the words unsaid, the rest is noise; two questions a group."""
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(count, len(FEATURES)))
    rows[chance.random(count) < 1 / 3, WORDS] = np.nan
    logits = -1.5 + 1.5 * np.maximum(rows[:, TOP], -0.4) + 1.2 * np.nan_to_num(rows[:, WORDS])
    probabilities = sigmoid(logits)
    return Trials(rows, chance.random(count) < probabilities, np.arange(count) // 2), probabilities
