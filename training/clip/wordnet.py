"""Nouns and their meanings from WordNet 3.0's dictionary files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_READABLE = re.compile(r"[a-z][a-z' -]{2,}")


@dataclass(frozen=True)
class Synset:
    """One meaning: the words for it, what it is a kind of, and a definition."""

    offset: str
    topic: str  # WordNet's lexicographer file, such as '05' for animals
    lemmas: tuple[str, ...]
    hypernyms: tuple[str, ...]  # offsets
    gloss: str

    @property
    def readable_lemmas(self) -> tuple[str, ...]:
        """Words in lower case without digits or dots; proper nouns are left out."""
        return tuple(lemma for lemma in self.lemmas if _READABLE.fullmatch(lemma))


def read_synsets(folder: Path, part_of_speech: str) -> Iterator[Synset]:
    """Read `data.noun`, `data.adj` or `data.verb`; see wndb(5WN) for the format."""
    with (folder / f"data.{part_of_speech}").open(encoding="latin1") as lines:
        for line in lines:
            if not line.startswith(" "):
                yield _parse(line)


def english_lemmas(folder: Path) -> set[str]:
    """Every word and phrase that WordNet knows, the words of its phrases, and regular plurals."""
    words = {"a", "an", "and", "of", "on", "the", "with", "in", "to", "for", "by", "from", "without"}
    for part_of_speech in ("noun", "adj", "adv", "verb"):
        for synset in read_synsets(folder, part_of_speech):
            for lemma in synset.lemmas:
                words |= {lemma.lower(), *lemma.lower().split()}
    return words | {f"{word}s" for word in words}


def _parse(line: str) -> Synset:
    data, _, definition = line.partition("|")
    fields = data.split()
    word_count = int(fields[3], 16)
    words = fields[4 : 4 + 2 * word_count : 2]
    pointers = fields[5 + 2 * word_count :]
    hypernyms = tuple(pointers[place + 1] for place in range(0, len(pointers) - 3, 4) if pointers[place] in {"@", "@i"})
    gloss = re.sub(r"\(.*?\)", "", definition.split(";")[0]).strip().lower()
    lemmas = tuple(re.sub(r"\(.*\)", "", word).replace("_", " ") for word in words)
    return Synset(fields[0], fields[1], lemmas, hypernyms, gloss)
