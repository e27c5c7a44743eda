"""Evidence from lists whose numbers can be told by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.nomatch.evidence import FEATURES, GROUPS, evidence

AXES = np.eye(4, dtype=np.float32)


def _told(scores: list[float], *, words: list[float], share: float = 1.0, same: bool = False) -> dict[str, float]:
    row = evidence(
        np.array(scores),
        background=np.array([0.0, 0.1] * 10),
        vectors=AXES[[0, 0, 0]] if same else AXES[:3],
        words=np.array(words),
        share=share,
    )
    return dict(zip(FEATURES, row.tolist(), strict=True))


def test_a_list_is_told_in_numbers() -> None:
    told = _told([0.3, 0.25, 0.2], words=[0.8, np.nan, 0.4], share=0.1)
    assert told["top"] == 0.3
    assert told["z_score"] == pytest.approx((0.3 - 0.05) / 0.05)
    assert told["gap_to_second"] == pytest.approx(1.0)
    assert told["gap_to_last"] == pytest.approx(2.0)
    assert told["rivals"] == pytest.approx(np.log(np.exp(-1) + np.exp(-2)))
    assert told["close_rivals"] == pytest.approx(np.log(np.exp(-3) + np.exp(-6)))
    assert told["closest_rivals"] == pytest.approx(np.log(np.exp(-20) + 1e-9))
    assert told["contested"] == pytest.approx(5 * told["close_rivals"])
    assert told["rank"] == pytest.approx(np.log(1 / 21))
    assert told["selectivity"] == pytest.approx(np.log(0.1))
    assert (told["words_of_top"], told["words_on_average"], told["words_at_best"]) == pytest.approx((0.8, 0.6, 0.8))


def test_hits_that_are_alike_agree() -> None:
    assert _told([0.3, 0.3, 0.3], words=[])["agreement"] == pytest.approx(0)
    assert _told([0.3, 0.3, 0.3], words=[], same=True)["agreement"] == pytest.approx(1)


def test_what_has_nothing_to_say_is_not_a_number() -> None:
    told = _told([0.3], words=[np.nan])
    silent = {name for name, value in told.items() if np.isnan(value)}
    assert silent == {*GROUPS["gaps"], *GROUPS["words"]}


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.floats(-0.5, 0.5), st.floats(0.1, 2))
def test_what_is_relative_to_the_background_moves_with_it(scores: list[float], shift: float, scale: float) -> None:
    """Another model may score all higher or wider: z-score, rank and gaps stay."""
    ordered = np.sort(np.array(scores))[::-1]
    background = np.linspace(-0.3, 0.4, 30)
    still = evidence(ordered, background=background, vectors=AXES[:2], words=np.array([]), share=1.0)
    moved = evidence(
        scale * ordered + shift,
        background=scale * background + shift,
        vectors=AXES[:2],
        words=np.array([]),
        share=1.0,
    )
    for name in ("z_score", *GROUPS["gaps"], "agreement"):
        at = FEATURES.index(name)
        assert moved[at] == pytest.approx(still[at], abs=1e-6, nan_ok=True)
