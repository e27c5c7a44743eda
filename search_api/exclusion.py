"""What shall not be seen: a picture that shows it is taken out, however well it answers the rest of the question.

A picture shows a thing where the thing scores DISTANCE standard deviations above the catalogue with it, or where its
title, keywords or captions name it. Neither alone is good: of the demo catalogue's 71 concepts with all their pictures,
the score finds 62 % and the words 57 %, both together 85 %, and take out 1.8 % of the pictures that do not show it.
Subtracting the thing's vector instead takes out as much only where it also loses a quarter of what was right
(docs/search.md has the figures).
"""

from __future__ import annotations

from typing import Final

from search_api.aim import Words, words_in

DISTANCE: Final = 2.25  # standard deviations above the background; chosen by the figures above

# People are what is excluded most, and hardest to see: they are men, women and children, and few pictures say 'people'.
_PEOPLE: Final = ("people", "person", "man", "woman")
_PEOPLE_NAMED: Final = (
    *("people", "person", "man", "men", "woman", "women", "boy", "girl", "child", "children", "kid", "baby", "lady"),
    *("human", "guy", "couple", "crowd", "portrait"),
)
_MEANING_PEOPLE: Final = frozenset(
    {"people", "person", "human", "human being", "anybody", "anyone", "humans", "persons", "human beings", "folk"}
)


def asked_for(text: str) -> tuple[str, ...]:
    """Give the texts that a picture is compared with to see whether it shows a thing."""
    return _PEOPLE if text.casefold() in _MEANING_PEOPLE else (text,)


def named_by(text: str) -> tuple[Words, ...]:
    """Give sets of words: a picture that carries all of one of them is said to show the thing."""
    if text.casefold() in _MEANING_PEOPLE:
        return tuple(words_in(word) for word in _PEOPLE_NAMED)
    words = words_in(text)
    return (words,) if words else ()
