"""'A beach without people' in plain English: what shall not be seen, told from what shall.

A CLIP model hears no negation: 'no people' is nearest to pictures of people. So the words after no, not and without
are taken out of the text, and the pictures that show them out of the list. What is no exclusion though it has such a
word ('no entry sign', 'yes or no', 'to be or not to be', 'no 7') stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_WORDS = 6  # of one exclusion; a longer one is a sentence that is better left alone

_PLAIN_TRIGGERS = {"without", "excluding", "except"}
_DETERMINERS = {"a", "an", "the", "any", "no", "some", "single", "visible", "of", "for"}
_SHOWING = {"show", "showing", "shows", "contain", "containing", "include", "including", "have", "having", "with"}
_LEADS = {"but", "and", "with", "that", "which", "is", "are", "does", "do", "has", "have", "having", "or", "containing"}
_ENDS = {
    *("but", "with", "without", "no", "not", "in", "on", "at", "by", "from", "near", "under", "over", "behind"),
    *("beside", "during", "against", "to", "for", "that", "which", "who", "while", "where", "excluding", "except"),
}
_SPLITS = {"and", "or", "nor"}
_SCENE = (
    ("in", "it"), ("on", "it"), ("in", "them"), ("in", "sight"), ("in", "view"), ("at", "all"), ("on", "them"),
    *((word, "the", place) for word in ("in", "on") for place in ("picture", "image", "photo", "background", "scene")),
)  # fmt: skip
_NOT_AFTER = {"or", "say", "says", "saying", "said", "yes", "dr", "dr.", "mr", "mr.", "the", "a", "of", "and/or", "to"}
_IDIOMS = {
    *("one", "longer", "more", "way", "doubt", "idea", "go", "entry", "exit", "access", "admittance", "vacancy"),
    *("signal", "matter", "problem", "thanks", "comment", "return", "thing", "body", "limit", "limits", "u-turn"),
}
_SIGNS = {"sign", "signs", "symbol", "symbols", "icon", "icons", "logo", "poster", "signal"}
_MARKS = ",;.!?"


def listen(words: Sequence[str | None]) -> tuple[list[int], tuple[str, ...]]:
    """Give the places of the words that stay, and what is excluded, each once, in the order it comes.

    None stands for words that were quoted: they are not looked into, and stay.
    """
    kept: list[int] = []
    excluded: list[str] = []
    at = 0
    while at < len(words):
        found = _exclusion(words, at)
        if found is None:
            kept.append(at)
            at += 1
            continue
        named, at = found
        excluded += named
        while kept and _folded(words[kept[-1]]) in _LEADS:
            kept.pop()
    return kept, tuple(dict.fromkeys(excluded))


def _exclusion(words: Sequence[str | None], at: int) -> tuple[list[str], int] | None:
    """Read an exclusion that begins here: what is named, and where the text goes on; None where none begins."""
    start = _after_trigger(words, at)
    if start is None:
        return None
    while start < len(words) and _folded(words[start]) in _DETERMINERS:
        start += 1
    end = start
    while end < len(words) and _names(words, start, end):
        end += 1
        if (words[end - 1] or "")[-1:] in tuple(_MARKS):
            break
    if not start < end <= start + MOST_WORDS + 1 or _last(words[start:end]) in _SIGNS:
        return None
    named = _named(words[start:end])
    if not named or any(len(one.split()) > MOST_WORDS for one in named):
        return None
    return named, end + _scene(words, end)


def _after_trigger(words: Sequence[str | None], at: int) -> int | None:
    word = _folded(words[at])
    before = _folded(words[at - 1]) if at else None
    after = _folded(words[at + 1]) if at + 1 < len(words) else None
    if word is None or after is None or (words[at] or "")[-1:] in tuple(_MARKS):
        return None
    if word in _PLAIN_TRIGGERS or word == "w/o":
        return at + 1
    if before in _NOT_AFTER:
        return None
    if word == "no":
        plain = after in _IDIOMS or after.endswith("ing") or not after[:1].isalpha()
        return None if plain else at + 1
    if word == "not":
        if after in _SHOWING:
            return at + 2
        return at + 1 if after in ("a", "an", "any") or before == "but" else None
    return None


def _names(words: Sequence[str | None], start: int, end: int) -> bool:
    """Whether the word at `end` goes on with what is named since `start`."""
    word = _folded(words[end])
    if word is None or word in _ENDS:
        return False
    if word in _SPLITS:
        following = _folded(words[end + 1]) if end + 1 < len(words) else None
        return end > start and following is not None and following not in _ENDS
    return True


def _named(words: Sequence[str | None]) -> list[str]:
    """Give each thing that is named: `people, or a dog` is two."""
    named: list[list[str]] = [[]]
    for word in words:
        folded = _folded(word) or ""
        if folded in _SPLITS:
            named.append([])
        elif not (folded in _DETERMINERS and not named[-1]):
            named[-1].append((word or "").strip(_MARKS))
    return [" ".join(one) for one in named if any(any(c.isalpha() for c in word) for word in one)]


def _scene(words: Sequence[str | None], at: int) -> int:
    """Count the words of a phrase that only says `in the picture`."""
    for phrase in _SCENE:
        if tuple(_folded(word) for word in words[at : at + len(phrase)]) == phrase:
            return len(phrase)
    return 0


def _last(words: Sequence[str | None]) -> str | None:
    return _folded(words[-1]) if words else None


def _folded(word: str | None) -> str | None:
    return None if word is None else word.strip(_MARKS).casefold()
