"""What words a text has."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phosphene.words.tokens import MAX_LETTERS, words_asked, words_in

ANY_TEXT = st.text(max_size=80)
CODE_PART = st.one_of(
    st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=5), st.integers(0, 99999).map(str)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("IMG_2041", ["img", "2041", "img2041"]),
        ("DSC-17", ["dsc", "17", "dsc17"]),
        ("dsc17", ["dsc", "17", "dsc17"]),
        ("RedFoxAtHome", ["red", "fox", "home", "redfoxathome"]),  # "at" finds nothing
        ("HTMLPage", ["html", "page", "htmlpage"]),
        ("IMG_2041_edit", ["img", "2041", "edit", "img2041", "2041edit", "img2041edit"]),
        ("Gerald G., 2005", ["gerald", "g", "2005"]),
        ("Café  ÜBER straße", ["cafe", "uber", "strasse"]),
        ("ﬁve ①②", ["five", "12"]),  # compatibility letters
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("日", ["日"]),
        ("हिन्दी", ["हिन्दी"]),  # marks stay where they carry the word
        ("red東京", ["red", "東京"]),
        ("- _ ... ", []),
        ("the end.", ["end"]),
        ("The the", ["the"]),  # unless there are no others
        ("", []),
    ],
)
def test_words_that_are_asked(text: str, words: list[str]) -> None:
    assert words_asked(text) == words


def test_what_is_stored_has_the_single_letters_too() -> None:
    assert words_in("東京 dog dog") == ["東", "京", "東京", "dog", "dog"]


@given(ANY_TEXT)
def test_words_are_letters_marks_and_digits_folded(text: str) -> None:
    for word in [*words_in(text), *words_asked(text)]:
        assert 0 < len(word) <= 2 * MAX_LETTERS
        assert not any(letter.isspace() for letter in word)
        assert {unicodedata.category(letter)[0] for letter in word} <= set("LMN")


@given(ANY_TEXT)
def test_a_text_is_found_by_itself(text: str) -> None:
    """All that is asked is among what is stored."""
    assert set(words_asked(text)) <= set(words_in(text))


@given(ANY_TEXT)
def test_each_word_is_asked_once(text: str) -> None:
    assert len(set(words_asked(text))) == len(words_asked(text))


@given(st.lists(CODE_PART, min_size=1, max_size=4), st.sampled_from("-_./"), st.sampled_from("-_./"))
def test_a_code_is_the_same_however_it_is_joined(parts: list[str], one: str, other: str) -> None:
    assert words_in(one.join(parts)) == words_in(other.join(parts))
    assert words_in(one.join(parts)) == words_in(one.join(parts).lower())


@given(ANY_TEXT)
def test_the_form_of_unicode_and_the_case_of_words_do_not_matter(text: str) -> None:
    assert words_in(unicodedata.normalize("NFD", text)) == words_in(unicodedata.normalize("NFC", text))


@given(st.text(alphabet=st.characters(categories=["Ll", "Nd", "Zs"]), max_size=40))
def test_words_are_found_again_when_asked_in_other_order(text: str) -> None:
    assert sorted(words_asked(" ".join(reversed(text.split())))) == sorted(words_asked(text))
