"""Which pictures answer a caption, as far as a catalogue's own words tell.

The picture that a caption was taken from is not the only right answer: a catalogue may have seven magnifying glasses.
So a picture is right for a caption when

- its title and keywords have the words of the caption, two thirds of them at least, each weighed by how rare it is
  (its inverse document frequency): "guitar" is answered by "Electric guitar", and "Two sailboats in sunset" by a
  picture with both words and no "in"; or
- its title means nearly the same by the text tower: their cosine is one that only one pair of different captions in
  two thousand reaches, whatever the model (of a question's hits only the closest that words leave open, and the next
  that share a word with it, are looked at for that: asking.COMPARED of each); or
- it looks the same as such a picture (perceptual hashes that differ in a few bits).

This is as good as the titles are. A picture whose title is in another language, or says nothing of what it shows, is
called wrong though a person would take it: so rates observed with it are careful rather than flattering.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from phosphene.catalog.records import Asset
from phosphene.nomatch.logistic import Integers
from phosphene.nomatch.words import plain, words_of
from phosphene.types import AssetId, Float32

LOOKALIKE_BITS = 6  # of 64
_ENOUGH = 2 / 3  # of a caption's weight
_SYNONYM = 0.9995  # quantile of cosines between different captions
_PAIRS = 200_000
_LETTERS = re.compile(r"[^\W_]+")
_PLURAL = re.compile(r"..[^s]s$")


@dataclass(frozen=True, slots=True)
class Described:
    """A picture as its words and its looks tell of it."""

    id: AssetId
    title: str | None  # plain
    words: tuple[str, ...]  # plain, the title among them
    tokens: frozenset[str]
    phash: int

    @classmethod
    def of(cls, asset: Asset) -> Described:
        """Read an asset."""
        words = words_of({**asset.metadata, "title": asset.title})
        tokens = frozenset(token for word in words for token in tokens_of(word))
        return cls(asset.id, plain(asset.title) if asset.title else None, words, tokens, int(asset.phash, 16))

    def looks_like(self, phashes: Iterable[int]) -> bool:
        """Whether it looks the same as one of these."""
        return any((self.phash ^ other).bit_count() <= LOOKALIKE_BITS for other in phashes)


def tokens_of(text: str) -> frozenset[str]:
    """Cut a text into words, without the s of plurals."""
    found = _LETTERS.findall(text.casefold())
    return frozenset(word[:-1] if _PLURAL.search(word) else word for word in found)


class Rightness:
    """Tells right pictures from wrong ones, by the words of a sample of the catalogue."""

    def __init__(self, sample: Collection[Described], captions: Float32, *, seed: int = 0) -> None:
        """`captions` (n, d): embeddings of different captions, of length 1."""
        self._pictures = len(sample)
        self._carried = Counter(token for picture in sample for token in picture.tokens)
        self.synonym = _rare_cosine(captions, seed=seed)

    def covered(self, caption: frozenset[str], by: frozenset[str]) -> float:
        """Give the share of a caption's weight whose words are among others: 0..1."""
        common = caption & by
        if not common:
            return 0.0
        return sum(map(self._weight, common)) / sum(map(self._weight, caption))

    def has_words(self, caption: frozenset[str], picture: Described) -> bool:
        """Whether a picture has enough of a caption's words."""
        return self.covered(caption, picture.tokens) >= _ENOUGH

    def is_right(self, caption: frozenset[str], picture: Described, *, cosine_with_title: float) -> bool:
        """Whether a picture answers a caption; the cosine is that of the caption with its title, -1 for none."""
        return self.has_words(caption, picture) or cosine_with_title > self.synonym

    def _weight(self, token: str) -> float:
        return math.log((1 + self._pictures) / (1 + self._carried[token])) + 1e-6


def _rare_cosine(captions: Float32, *, seed: int) -> float:
    count = len(captions)
    if count < 2:
        return 1.0
    random = np.random.default_rng(seed)
    first = random.integers(0, count, _PAIRS)
    second = (first + random.integers(1, count, _PAIRS)) % count  # never itself
    cosines = [np.einsum("nd,nd->n", captions[a], captions[b]) for a, b in _parts(first, second)]
    return float(np.quantile(np.concatenate(cosines), _SYNONYM))


def _parts(first: Integers, second: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Cut into parts of some megabytes."""
    return zip(np.array_split(first, 20), np.array_split(second, 20), strict=True)
