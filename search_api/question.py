"""What is asked, from whatever edge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import InvalidQuery
from phosphene.filters import And, Filter
from phosphene.query_language import MAX_EXCLUDED, MAX_PARTS, MAX_WEIGHT, ParsedQuery, Term
from phosphene.types import AssetId
from phosphene.unclip.imagine import Edit
from phosphene.words.fusion import Blend, Mode
from search_api.arrange import PLAIN, Arrangement
from search_api.facets import MAX_FACETS, FacetAsked

DEFAULT_LIMIT = 24
MAX_LIMIT = 100
MAX_TEXT = 2_000  # characters; models read some 30 to 100 words and leave out the rest
MAX_PAIRS = 8

Numbers = NDArray[np.float32] | NDArray[np.float64]


class Strategy(StrEnum):
    """How several examples make one question."""

    MEAN = "mean"
    BEST_SCORE = "best_score"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One thing to ask with: exactly one of text, image, asset_id and vector; a weight below 0 leads away from it.

    `image` is the bytes of a picture file, `vector` is (d,) numbers of any length but 0, in the space of the
    engine; `space` is what its owner says it is of.
    """

    text: str | None = None
    image: bytes | None = None
    asset_id: AssetId | None = None
    vector: Numbers | None = None
    space: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no part. Raises InvalidQuery."""
        if sum(one is not None for one in (self.text, self.image, self.asset_id, self.vector)) != 1:
            raise InvalidQuery("a part is exactly one of text, image, asset_id and vector")
        if not (math.isfinite(self.weight) and 0 < abs(self.weight) <= MAX_WEIGHT):
            raise InvalidQuery(f"a weight is -{MAX_WEIGHT:g} to {MAX_WEIGHT:g} and not 0, not {self.weight:g}")
        if self.text is not None:
            object.__setattr__(self, "text", normalised_text(self.text))

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(kind for kind in ("text", "image", "asset_id", "vector") if getattr(self, kind) is not None)


@dataclass(frozen=True, slots=True, eq=False)
class ContextPair:
    """Pictures are wanted that are more like the one than like the other; weights mean nothing here."""

    positive: Part
    negative: Part


@dataclass(frozen=True, slots=True, eq=False)
class SearchQuery:
    """One question: one of text, image, asset_id and vector, or any parts; and what shall not be seen.

    `exclude`: pictures that show these are taken out. `context`: only pictures on the right side of each pair.
    `edit`: the question is turned from what one caption says to what the other says before it is asked.
    `prior_search`: a text that finds no match is asked again with the embedding that the prior predicts for it.
    `blend`: whether and how words are looked up beside the picture. `explain`: say of each hit what found it.
    `space`: no other one is to answer.
    """

    text: str | None = None
    image: bytes | None = None
    asset_id: AssetId | None = None
    vector: Numbers | None = None
    parts: tuple[Part, ...] = ()
    exclude: tuple[Part, ...] = ()
    context: tuple[ContextPair, ...] = ()
    edit: Edit | None = None
    strategy: Strategy = Strategy.MEAN
    filter: Filter | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    prior_search: bool = False
    arrangement: Arrangement = PLAIN
    facets: tuple[FacetAsked, ...] = ()
    blend: Blend = field(default_factory=Blend)
    explain: bool = False
    space: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no question. Raises InvalidQuery."""
        alone = sum(part is not None for part in (self.text, self.image, self.asset_id, self.vector))
        if alone > 1 or (alone and self.parts):
            raise InvalidQuery("ask with exactly one of text, image, asset_id and vector, or with parts")
        if not (alone or self.parts or self.exclude or self.context):
            nothing = "ask with a text, a picture, an asset, a vector, or several as parts"
            raise InvalidQuery(f"there is only a filter: {nothing}" if self.filter else nothing)
        self._require_bounds()
        if self.prior_search and self.blend.mode not in (Mode.AUTO, Mode.PICTURE):
            raise InvalidQuery("prior_search compares with pictures only: leave the mode out")
        if self.prior_search and self.words is None:
            raise InvalidQuery("prior_search is for questions in words: the prior expects what a text looks like")
        if self.prior_search and not self.arrangement.plain:
            raise InvalidQuery("prior_search lists by score: leave diversity, collapse, group_by and rerank out")
        if len(self.facets) > MAX_FACETS:
            raise InvalidQuery(f"{MAX_FACETS} facets at most, not {len(self.facets)}")
        if self.strategy is Strategy.BEST_SCORE and not any(part.weight > 0 for part in self.all_parts):
            raise InvalidQuery("best_score needs an example to be near to: give a part with a weight above 0")
        if self.strategy is Strategy.BEST_SCORE and self.edit is not None:
            raise InvalidQuery("an edit changes one embedding: it goes with the strategy mean")
        if self.edit is not None and not self.all_parts:
            raise InvalidQuery("an edit needs something to change: give a picture, an asset or a text with it")

    def _require_bounds(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidQuery(f"limit is 1 to {MAX_LIMIT}, not {self.limit}")
        for name, given, most in (
            ("parts", len(self.parts), MAX_PARTS),
            ("exclusions", len(self.exclude), MAX_EXCLUDED),
            ("context pairs", len(self.context), MAX_PAIRS),
        ):
            if given > most:
                raise InvalidQuery(f"a question has at most {most} {name}, not {given}")

    @property
    def all_parts(self) -> tuple[Part, ...]:
        """What it is made of, however it was written."""
        if self.text is None and self.image is None and self.asset_id is None and self.vector is None:
            return self.parts
        return (Part(text=self.text, image=self.image, asset_id=self.asset_id, vector=self.vector),)

    @property
    def single(self) -> Part | None:
        """The part that the question is, where it is one and nothing turns it; filters and exclusions aside."""
        parts = self.all_parts
        return parts[0] if len(parts) == 1 and parts[0].weight > 0 and not self.context and self.edit is None else None

    @property
    def words(self) -> str | None:
        """The text that the question is, where it is one."""
        return None if self.single is None else self.single.text


def asked_in_words(parsed: ParsedQuery) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Give the parts and the exclusions of a query that was typed. Raises InvalidQuery."""
    return _parts(parsed.parts), _parts(parsed.excluded)


def both(first: Filter | None, second: Filter | None) -> Filter | None:
    """Ask for what passes each of two filters."""
    given = tuple(one for one in (first, second) if one is not None)
    return And(given) if len(given) > 1 else given[0] if given else None


def normalised_text(text: str) -> str:
    """Collapse white space. Raises InvalidQuery for text that is empty or much too long."""
    words = " ".join(text.split())
    if not words:
        raise InvalidQuery("the text is empty: describe the picture in a few words")
    if len(words) > MAX_TEXT:
        msg = f"the text has {len(words)} characters, {MAX_TEXT} are allowed: models read a sentence or two"
        raise InvalidQuery(msg)
    return words


def _parts(terms: Sequence[Term]) -> tuple[Part, ...]:
    return tuple(Part(text=term.text, asset_id=term.asset_id, weight=term.weight) for term in terms)
