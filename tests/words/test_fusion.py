"""Two ranked lists made one."""

from __future__ import annotations

from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phosphene.errors import InvalidQuery
from phosphene.types import PointId
from phosphene.words.fusion import Fusion, Weights, fuse

Ranked = list[tuple[PointId, float]]

IDS = st.integers(1, 12).map(lambda number: PointId(UUID(int=number)))


def lists(least: float, most: float) -> st.SearchStrategy[Ranked]:
    """Lists with ties: scores of few different values."""
    scores = st.integers(0, 6).map(lambda step: least + (most - least) * step / 6)
    return st.dictionaries(IDS, scores, max_size=10).map(
        lambda found: sorted(found.items(), key=lambda one: (-one[1], one[0]))
    )


PICTURE, WORDS = lists(-0.2, 0.9), lists(0.5, 20.0)
BY = st.sampled_from(Fusion)
WEIGHTS = st.builds(Weights, st.floats(0.1, 10), st.floats(0.1, 10))


def order(picture: Ranked, words: Ranked, by: Fusion, weights: Weights) -> list[PointId]:
    return [one.id for one in fuse(picture, words, by=by, weights=weights)]


@given(PICTURE, WORDS, BY, WEIGHTS)
def test_nothing_is_lost_or_doubled_and_scores_are_shares(
    picture: Ranked, words: Ranked, by: Fusion, weights: Weights
) -> None:
    fused = fuse(picture, words, by=by, weights=weights)
    assert sorted(one.id for one in fused) == sorted({id_ for id_, _ in [*picture, *words]})
    assert all(-1e-9 <= one.score <= 1 + 1e-9 for one in fused)
    assert [one.score for one in fused] == sorted((one.score for one in fused), reverse=True)
    for one in fused:
        assert (one.picture.score if one.picture else None) == dict(picture).get(one.id)
        assert (one.words.score if one.words else None) == dict(words).get(one.id)


@given(PICTURE, WORDS, BY, WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_in_which_equals_come_does_not_matter(
    picture: Ranked, words: Ranked, by: Fusion, weights: Weights, random: Random
) -> None:
    mixed = [list(picture), list(words)]
    for one in mixed:
        random.shuffle(one)
    assert fuse(*mixed, by=by, weights=weights) == fuse(picture, words, by=by, weights=weights)


@given(PICTURE, WORDS, BY, WEIGHTS)
def test_what_is_better_in_both_comes_first(picture: Ranked, words: Ranked, by: Fusion, weights: Weights) -> None:
    places = {id_: place for place, id_ in enumerate(order(picture, words, by, weights))}
    cosines, scores = dict(picture), dict(words)
    for one, place in places.items():
        for other, other_place in places.items():
            looks = cosines.get(one, -9.0), cosines.get(other, -9.0)
            says = scores.get(one, 0.0), scores.get(other, 0.0)
            if looks[0] > looks[1] and says[0] > says[1]:
                assert place < other_place


@given(PICTURE, WORDS, BY, WEIGHTS, IDS)
def test_a_better_score_in_one_list_never_makes_it_worse(
    picture: Ranked, words: Ranked, by: Fusion, weights: Weights, risen: PointId
) -> None:
    best = max((score for _, score in picture), default=0.0)
    higher: Ranked = [(risen, best + 0.05), *((id_, score) for id_, score in picture if id_ != risen)]
    after = order(higher, words, by, weights).index(risen)
    before = order(picture, words, by, weights)
    assert risen not in before or after <= before.index(risen)


@given(PICTURE, BY, WEIGHTS)
def test_one_list_alone_keeps_its_order(picture: Ranked, by: Fusion, weights: Weights) -> None:
    assert order(picture, [], by, weights) == [id_ for id_, _ in picture]


@given(PICTURE, WORDS, BY)
def test_a_weight_of_nothing_leaves_the_other_lists_order(picture: Ranked, words: Ranked, by: Fusion) -> None:
    named = {id_ for id_, _ in words}
    assert [i for i in order(picture, words, by, Weights(0, 1)) if i in named] == [id_ for id_, _ in words]


@pytest.mark.parametrize(("picture", "words"), [(0, 0), (-1, 1), (1, float("nan")), (float("inf"), 1)])
def test_weights_that_mean_nothing_are_refused(picture: float, words: float) -> None:
    with pytest.raises(InvalidQuery, match="weights"):
        Weights(picture, words)
