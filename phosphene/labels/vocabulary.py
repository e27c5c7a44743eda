"""The words that are said of pictures: those that Phosphene ships, or a user's own."""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Self

from phosphene.encoders import PromptTemplates
from phosphene.errors import InvalidInput

SUBJECT = "subject"
MAX_LABEL = 200  # characters
MAX_WORDS = 10_000  # of a vocabulary, each embedded once
_PLAIN = PromptTemplates(("{}",))


@dataclass(frozen=True)
class Vocabulary:
    """Words by kind, and the sentences that words of a kind are put into."""

    name: str
    licence: str
    source: str
    words: Mapping[str, tuple[str, ...]]
    sentences: Mapping[str, PromptTemplates]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a user's own: TOML like the bundled one, or a text file with a subject on each line.

        Kinds that a TOML file leaves out are those of the bundled one. Raises InvalidInput.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the vocabulary {path} can't be read: {error}") from error
        shipped = bundled()
        if path.suffix.lower() != ".toml":
            lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            words: dict[str, tuple[str, ...]] = {SUBJECT: checked_labels(lines, most=MAX_WORDS, what=f"{path}")}
            return cls(str(path), "not said", str(path), {**shipped.words, **words}, shipped.sentences)
        try:
            return cls._of(str(path), tomllib.loads(text), shipped)
        except (tomllib.TOMLDecodeError, AttributeError, TypeError, ValueError) as error:
            raise InvalidInput(f"the vocabulary {path} is not laid out as the bundled one: {error}") from error

    @classmethod
    def _of(cls, name: str, read: Mapping[str, object], shipped: Vocabulary | None) -> Self:
        said, put = read.get("words", {}), read.get("sentences", {})
        if not isinstance(said, Mapping) or not isinstance(put, Mapping) or not said:
            raise InvalidInput(f"the vocabulary {name} has no [words] with a list for each kind")
        words = {
            str(kind): checked_labels(list(listed), most=MAX_WORDS, what=f"{name}, {kind}")
            for kind, listed in said.items()
        }
        sentences = {str(kind): PromptTemplates(tuple(map(str, listed))) for kind, listed in put.items()}
        if shipped is not None:
            words, sentences = {**shipped.words, **words}, {**shipped.sentences, **sentences}
        return cls(name, str(read.get("licence", "not said")), str(read.get("source", name)), words, sentences)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The words that automatic keywords are taken from."""
        return self.words[SUBJECT]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Name the kinds, the subject first."""
        return tuple(self.words)

    def sentences_of(self, kind: str) -> PromptTemplates:
        """Give the sentences of a kind; none is the bare word."""
        return self.sentences.get(kind, _PLAIN)


@cache
def bundled() -> Vocabulary:
    """Read the vocabulary that comes with the package."""
    read = tomllib.loads((files("phosphene.labels") / "vocabulary.toml").read_text(encoding="utf-8"))
    return Vocabulary._of("bundled", read, None)  # noqa: SLF001  of this module


def checked_labels(labels: Sequence[object], *, most: int, what: str = "labels") -> tuple[str, ...]:
    """Collapse white space, and refuse labels that are empty, too long, doubled or hold control characters.

    Raises InvalidInput, which names the first that is wrong.
    """
    if not 1 <= len(labels) <= most:
        raise InvalidInput(f"{what}: 1 to {most:,} labels can be told apart at once, not {len(labels):,}")
    found: dict[str, None] = {}
    for place, label in enumerate(labels):
        words = " ".join(label.split()) if isinstance(label, str) else ""
        if not words:
            raise InvalidInput(f"{what}: label {place} is no text with a word in it")
        if len(words) > MAX_LABEL:
            raise InvalidInput(f"{what}: label {place} has {len(words)} characters, {MAX_LABEL} are allowed")
        if any(unicodedata.category(char) in {"Cc", "Cs", "Co", "Cn"} for char in words):
            raise InvalidInput(f"{what}: label {place} holds characters that are no text: {words[:40]!a}")
        if words in found:
            raise InvalidInput(f"{what}: {words[:80]!r} is named twice")
        found[words] = None
    return tuple(found)
