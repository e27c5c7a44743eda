"""What is not drawn: the list that Phosphene ships (`blocked.toml`), and what a deployment adds to it."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Self

from phosphene.errors import InvalidSettings

_FROM_FILE = "@"
_COMMENT = "#"
_BREAK = "\n"  # stands where an allowed phrase stood: no blocked phrase reaches over it
_IN_PLACE_OF_LETTERS = str.maketrans("013457@$", "oieastas")


@dataclass(frozen=True)
class Concepts:
    """What is refused, and what it is told apart from. All phrases are lists of plain words, see `plain_words`."""

    blocked: Mapping[str, tuple[str, ...]]  # the name that a refusal tells -> descriptions
    everyday: tuple[str, ...]
    words: tuple[str, ...]
    pairs: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    allowed: tuple[str, ...]
    added: tuple[str, ...] = ()  # names of those blocked that a deployment added

    @classmethod
    def shipped(cls) -> Self:
        """Read the list that comes with the package."""
        read = tomllib.loads((files("phosphene.generation") / "blocked.toml").read_text(encoding="utf-8"))
        return cls(
            blocked={name: tuple(texts) for name, texts in read["concepts"].items()},
            everyday=tuple(text for texts in read["everyday"].values() for text in texts),
            words=tuple(read["words"]["terms"]),
            pairs=tuple((tuple(pair["one"]), tuple(pair["other"])) for pair in read["pairs"]),
            allowed=tuple(read["allowed"]["phrases"]),
        )

    def extended(self, settings: Sequence[str]) -> Self:
        """Add what a deployment blocks: each is a concept of its own, and refused word for word too.

        `@FILE` stands for the lines of a file; empty ones and those that begin with # are left out. Raises
        InvalidSettings.
        """
        listed = tuple(dict.fromkeys(_listed(settings)))
        added = tuple(text for text in listed if text not in self.blocked)
        blocked = dict(self.blocked) | {text: (text,) for text in added}
        return replace(self, blocked=blocked, words=(*self.words, *listed), added=(*self.added, *added))

    def in_words(self, prompt: str) -> str | None:
        """Give the word, phrase or pair of words for which a prompt is refused; None: there is none."""
        for words in _readings(prompt):
            text = _joined(words)
            for allowed in self._allowed:
                text = text.replace(allowed, f" {_BREAK} ")
            for phrase, name in self._phrases:
                if phrase in text:
                    return name
            for one, other in self.pairs:
                first = next((word for word in one if f" {word} " in text), None)
                second = next((word for word in other if f" {word} " in text), None)
                if first is not None and second is not None:
                    return f"{first} + {second}"
        return None

    @cached_property
    def _phrases(self) -> tuple[tuple[str, str], ...]:
        return tuple((_joined(plain_words(text)), text) for text in self.words if plain_words(text))

    @cached_property
    def _allowed(self) -> tuple[str, ...]:
        return tuple(_joined(plain_words(text)) for text in self.allowed)


def plain_words(text: str) -> list[str]:
    """Take a text apart into words, without case, accents, invisible characters and punctuation.

    Letters that stand alone are put together ("n u d e"), as people write who want to get past a list.
    """
    folded = unicodedata.normalize("NFKD", text).casefold()
    shown = "".join(char for char in folded if unicodedata.category(char) not in {"Mn", "Cf"})
    words: list[str] = []
    alone = False
    for word in re.findall(r"[^\W_]+", shown):
        if alone and len(word) == 1:
            words[-1] += word
        else:
            words.append(word)
            alone = len(word) == 1
    return words


def _readings(prompt: str) -> Iterator[list[str]]:
    """Give the words of a prompt, and once more with digits and signs read as the letters that they resemble."""
    words = plain_words(prompt)
    yield words
    resembling = [
        word.translate(_IN_PLACE_OF_LETTERS) if re.search(r"[^\W\d_]", word) else word for word in prompt.split()
    ]
    read = plain_words(" ".join(resembling))
    if read != words:
        yield read


def _joined(words: Sequence[str]) -> str:
    """Write words so that one of them is found as a whole: with a space on either side."""
    return f" {' '.join(words)} "


def _listed(settings: Sequence[str]) -> Iterator[str]:
    for entry in settings:
        if not entry.startswith(_FROM_FILE):
            lines = [entry]
        else:
            path = Path(entry.removeprefix(_FROM_FILE)).expanduser()
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidSettings(
                    f"PHOSPHENE_BLOCKED_CONCEPTS names {path}, which can't be read: {error}"
                ) from error
        for line in lines:
            concept = " ".join(line.split())
            if concept and not concept.startswith(_COMMENT):
                yield concept
