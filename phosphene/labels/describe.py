"""A description in the manner of CLIP Interrogator: of each kind of phrase those that are nearest to the picture.

The kinds and phrases are those of the vocabulary. The line in words begins with medium and subject, and takes up a
phrase of another kind only where the picture is nearer to the longer line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from phosphene.labels.classify import Labelled, classify
from phosphene.labels.labeller import Labeller
from phosphene.labels.vocabulary import SUBJECT, Vocabulary
from phosphene.types import Float32

MEDIUM = "medium"


@dataclass(frozen=True, slots=True)
class Described:
    """Phrases by kind, the nearest first, each with its share among those of its kind; and a line made from them."""

    text: str
    score: float  # cosine of the line with the picture
    phrases: Mapping[str, tuple[Labelled, ...]]


def describe(
    picture: Float32, *, labeller: Labeller, vocabulary: Vocabulary, kinds: Sequence[str], most: int
) -> Described:
    """Describe a picture (d,): `most` phrases of each kind."""
    phrases = {
        kind: tuple(
            classify(picture, vocabulary.words[kind], labeller=labeller, templates=vocabulary.sentences_of(kind))[:most]
        )
        for kind in kinds
    }
    text, score = _line(picture, {kind: ranked[0].label for kind, ranked in phrases.items()}, labeller)
    return Described(text, score, phrases)


def _line(picture: Float32, best: Mapping[str, str], labeller: Labeller) -> tuple[str, float]:
    opening = [best[kind] for kind in (MEDIUM, SUBJECT) if kind in best]
    others = [phrase for kind, phrase in best.items() if kind not in {MEDIUM, SUBJECT}]
    text = " of ".join(opening) if opening else others.pop(0)
    score = _cosine(picture, text, labeller)
    while others:
        longer = [f"{text}, {phrase}" for phrase in others]
        scores = np.asarray(labeller.rows(longer) @ picture)
        at = int(scores.argmax())
        if scores[at] <= score:
            break
        text, score = longer[at], float(scores[at])
        del others[at]
    return text, score


def _cosine(picture: Float32, text: str, labeller: Labeller) -> float:
    return float((labeller.rows([text]) @ picture)[0])
