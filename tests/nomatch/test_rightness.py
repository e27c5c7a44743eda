"""What counts as a right answer, and which words speak."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.nomatch.rightness import Described, Rightness, tokens_of
from phosphene.nomatch.words import MOST_WORDS, plain, words_of
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, asset_id, sha256_of


def picture(title: str, *keywords: str, phash: int = 0) -> Described:
    words = words_of({"title": title, "keywords": list(keywords)})
    tokens = frozenset(token for word in words for token in tokens_of(word))
    return Described(AssetId(asset_id(T, sha256_of(title.encode()))), plain(title), words, tokens, phash)


SAMPLE = [
    picture("Electric guitar", "instrument", "music"),
    picture("Violin", "instrument", "music"),
    picture("Two sailboats at sunset", "boat", "sea"),
    picture("Magnifying glass", "tool"),
    picture("Wine glass", "drink"),
    picture("Glass of water", "drink"),
    *(picture(f"Thing {number}", "the") for number in range(30)),
]
AXES = np.eye(8, dtype=np.float32)


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("guitar", "Electric guitar"),
        ("instruments", "Violin"),
        ("two sailboats in the sunset", "Two sailboats at sunset"),
        ("MAGNIFYING GLASS", "Magnifying glass"),
    ],
)
def test_the_words_of_a_caption_make_a_picture_right(caption: str, right: str) -> None:
    rightness = Rightness(SAMPLE, AXES)
    chosen = next(one for one in SAMPLE if one.title == plain(right))
    assert rightness.is_right(tokens_of(caption), chosen, cosine_with_title=0.0)


@pytest.mark.parametrize(
    ("caption", "wrong"), [("guitar", "Violin"), ("magnifying glass", "Wine glass"), ("boat", "Violin")]
)
def test_one_common_word_is_not_enough(caption: str, wrong: str) -> None:
    rightness = Rightness(SAMPLE, AXES)
    chosen = next(one for one in SAMPLE if one.title == plain(wrong))
    assert not rightness.is_right(tokens_of(caption), chosen, cosine_with_title=0.0)


def test_a_title_that_means_the_same_is_right_whatever_the_model() -> None:
    chance = np.random.default_rng(0)
    for spread in (0.2, 2.0):  # a model whose cosines lie high, and one whose cosines lie low
        rows = np.ones(16) + spread * chance.normal(size=(800, 16))
        captions = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        rightness = Rightness(SAMPLE, captions)
        cosines = (captions @ captions.T)[np.triu_indices(800, 1)]
        assert (cosines >= rightness.synonym).mean() == pytest.approx(1 / 2000, rel=0.5)
        other = SAMPLE[1]
        assert rightness.is_right(tokens_of("fiddle"), other, cosine_with_title=rightness.synonym + 0.01)
        assert not rightness.is_right(tokens_of("fiddle"), other, cosine_with_title=rightness.synonym - 0.01)


@settings(deadline=None)
@given(st.text(), st.text())
def test_a_caption_is_covered_by_itself_and_more(caption: str, more: str) -> None:
    rightness = Rightness(SAMPLE, AXES)
    own = tokens_of(caption)
    whole = rightness.covered(own, own | tokens_of(more))
    assert whole == pytest.approx(1.0 if own else 0.0)
    assert rightness.covered(own, frozenset()) == 0


def test_looks_differ_in_bits() -> None:
    assert picture("a", phash=0b111111).looks_like([0])
    assert not picture("a", phash=0b1111111).looks_like([0])
    assert not picture("a").looks_like([])


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["title", "keywords", "tags", "year"]),
        st.one_of(st.text(), st.lists(st.text()), st.integers(), st.none()),
    )
)
def test_any_payload_gives_plain_words(said: dict[str, object]) -> None:
    words = words_of(said)
    assert len(words) <= MOST_WORDS
    assert len(set(words)) == len(words)
    assert all(word and word == plain(word) for word in words)


def test_the_title_speaks_first() -> None:
    assert words_of({"keywords": ["Cat", "PET", " cat "], "title": "A  Cat", "year": 1999}) == ("a cat", "cat", "pet")
