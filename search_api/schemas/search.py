"""Questions and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, Self
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from phosphene.filters import Filter, source_of
from phosphene.nomatch.decision import Match
from phosphene.query_language import MAX_EXCLUDED, MAX_PARTS, MAX_QUERY, MAX_WEIGHT, ParsedQuery
from phosphene.types import AssetId, GenerateMode
from phosphene.words.fusion import Blend, Fusion, Mode, Weights
from search_api.hybrid import Explanation
from search_api.imagining import Offer
from search_api.question import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_PAIRS,
    MAX_TEXT,
    ContextPair,
    Part,
    SearchQuery,
    Strategy,
    asked_in_words,
    both,
)
from search_api.schemas.assets import AssetOut, asset_fields
from search_api.schemas.generations import EditIn, OfferOut
from search_api.schemas.lists import FacetOut, ListOptions
from search_api.schemas.values import Body, FilterIn, PictureBytes, SpaceName, VectorSpace, require_beside_vector
from search_api.search import Hit, SearchAnswer
from search_api.understood import Understood, UnderstoodPart, understood

MAX_DIMENSION = 8192
MAX_URLS = 4  # pictures of one question that are fetched
_SOURCES = ("text", "image", "image_url", "asset_id", "vector")
_COMPOSED = ("query", "parts", "exclude", "context")


class SourceIn(Body):
    """One thing to ask with: exactly one of text, image, image_url, asset_id and vector."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _SOURCES]})

    text: str | None = Field(None, max_length=2 * MAX_TEXT, description="words, taken as they are")
    image: PictureBytes | None = Field(None, description="a picture file as base64, with or without a data: prefix")
    image_url: str | None = Field(
        None, max_length=2048, description="a public http(s) address; only where PHOSPHENE_FETCH_URLS is on"
    )
    asset_id: UUID | None = Field(None, description="a picture of the catalogue; it is not among the hits")
    vector: list[FiniteFloat] | None = Field(
        None, min_length=1, max_length=MAX_DIMENSION, description="an embedding in this server's space, of any length"
    )
    space: VectorSpace = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _require_one(self)
        require_beside_vector(self.space, self.vector)
        return self

    def to_part(self, fetched: Mapping[str, bytes], *, weight: float = 1.0) -> Part:
        """Make the part; `fetched` is what addresses led to."""
        return Part(
            text=self.text,
            image=fetched[self.image_url] if self.image_url is not None else self.image,
            asset_id=AssetId(self.asset_id) if self.asset_id is not None else None,
            vector=np.array(self.vector, dtype=np.float64) if self.vector is not None else None,
            space=self.space,
            weight=weight,
        )


class PartIn(SourceIn):
    """One thing to ask with, and what it counts beside the others."""

    weight: FiniteFloat = Field(
        1.0,
        ge=-MAX_WEIGHT,
        le=MAX_WEIGHT,
        description="relative to the other parts, not 0; below 0 leads away from it. Parts are balanced first, so that "
        "a picture and a text of one weight count the same",
    )


class ContextPairIn(Body):
    """Only pictures that are more like the one than like the other."""

    positive: SourceIn
    negative: SourceIn


class WeightsIn(Body):
    """What each list counts for; only their ratio matters."""

    picture: FiniteFloat = Field(1.0, ge=0, le=1e6)
    words: FiniteFloat = Field(1.0, ge=0, le=1e6)


class SearchRequest(ListOptions):
    """A question: exactly one of text, image, image_url, asset_id and vector; or query and parts, which add up.

    `exclude`, `context`, `edit` and `filter` go with every question; `exclude` and `context` are one by themselves too.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "a cat asleep on a chair", "limit": 12},
                {"query": "2:dog + beach -snow orientation:landscape NOT people"},
                {
                    "parts": [{"text": "dog", "weight": 2}, {"image_url": "https://example.org/beach.jpg"}],
                    "exclude": [{"text": "people"}],
                },
            ],
            "anyOf": [{"required": [name]} for name in (*_SOURCES, *_COMPOSED)],
        }
    )

    text: str | None = Field(
        None,
        max_length=2 * MAX_TEXT,
        description=f"what the picture shows, in a few words, taken as they are; up to {MAX_TEXT} characters",
        examples=["a cat asleep on a chair"],
    )
    query: str | None = Field(
        None,
        max_length=MAX_QUERY,
        description="the language of the search box: parts (`2:dog + beach`), what it leads away from (`-snow`), "
        "conditions (`orientation:landscape`, `year:2000..2010`, `keywords:cat|dog`) and what is taken out "
        "(`NOT people`, `without people`). `understood` tells what was made of it. docs/search.md has the whole",
        examples=["2:dog + beach -snow orientation:landscape NOT people"],
    )
    parts: list[PartIn] = Field(
        default_factory=list,
        max_length=MAX_PARTS,
        description="texts, pictures, assets and vectors that are one question together",
    )
    exclude: list[SourceIn] = Field(
        default_factory=list,
        max_length=MAX_EXCLUDED,
        description="pictures that show one of these are taken out, however well they answer: those far above the "
        "catalogue with it, and those whose title or keywords name it. Words come singly: people, dog",
    )
    context: list[ContextPairIn] = Field(
        default_factory=list,
        max_length=MAX_PAIRS,
        description="only pictures on the right side of every pair; without any parts, those most like the positives",
    )
    strategy: Strategy = Field(
        Strategy.MEAN,
        description="mean: parts are added up. best_score: each hit is ranked by the part that it is nearest to, and "
        "left out where it is as near to a part of negative weight",
    )
    edit: EditIn | None = Field(
        None, description="turn the question, a picture above all, from what one caption says to what the other says"
    )
    image: PictureBytes | None = Field(None, description="a picture file as base64, with or without a data: prefix")
    image_url: str | None = Field(
        None, max_length=2048, description="a public http(s) address; only where PHOSPHENE_FETCH_URLS is on"
    )
    asset_id: UUID | None = Field(None, description="find pictures similar to this one, which is left out")
    vector: list[FiniteFloat] | None = Field(
        None, min_length=1, max_length=MAX_DIMENSION, description="an embedding in this server's space, of any length"
    )
    space: SpaceName = None
    filter: FilterIn | None = None
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="hits on a page")
    cursor: str | None = Field(None, description="next_cursor of the page before; the rest of the question as it was")
    prior_search: bool = Field(
        default=False,
        description="where a text finds no match, search again among the pictures with the image embedding that the "
        "generator's prior predicts for it; hits found so say `found_by: prior`",
    )

    mode: Mode = Field(
        Mode.PICTURE,
        description="what a text is compared with: the `picture`, its `words` (title, fields, file name), or both "
        "(`hybrid`); `auto`: both where the question is one text and the index looks words up, else the picture",
    )
    fusion: Fusion = Field(Fusion.RRF, description="hybrid: the two lists are made one by ranks, or by weighted scores")
    weights: WeightsIn | None = Field(None, description="hybrid: what each list counts for; null: the same")
    explain: bool = Field(default=False, description="say of each hit which part gave what")
    generate: GenerateMode | None = Field(
        None,
        description="have a picture drawn beside the hits: never, when_unmatched or always; null: as the server is "
        "configured. Only with the first page, and told in `generation`",
    )

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if any(getattr(self, name) is not None for name in _SOURCES):
            _require_one(self)
            if self.query is not None or self.parts:
                raise ValueError(f"{_given(self)[0]} is a question alone: put it among the parts to ask with more")
        elif self.query is None and not (self.parts or self.exclude or self.context):
            raise ValueError(f"ask with exactly one of {', '.join(_SOURCES)}, or with query or parts")
        if len(self.urls) > MAX_URLS:
            raise ValueError(f"a question has at most {MAX_URLS} addresses of pictures, not {len(self.urls)}")
        return self

    @property
    def urls(self) -> list[str]:
        """The addresses of pictures in it, each once."""
        pairs = [one for pair in self.context for one in (pair.positive, pair.negative)]
        sources = [self.image_url, *(one.image_url for one in [*self.parts, *self.exclude, *pairs])]
        return list(dict.fromkeys(url for url in sources if url is not None))

    def to_query(
        self, parsed: Filter | None, *, typed: ParsedQuery | None, fetched: Mapping[str, bytes]
    ) -> SearchQuery:
        """Make the question; `typed` is the query read, `fetched` what addresses led to. Raises InvalidQuery."""
        parts, excluded = asked_in_words(typed) if typed is not None else ((), ())
        return SearchQuery(
            text=self.text,
            image=fetched[self.image_url] if self.image_url is not None else self.image,
            asset_id=AssetId(self.asset_id) if self.asset_id is not None else None,
            vector=np.array(self.vector, dtype=np.float64) if self.vector is not None else None,
            parts=(*parts, *(one.to_part(fetched, weight=one.weight) for one in self.parts)),
            exclude=(*excluded, *(one.to_part(fetched) for one in self.exclude)),
            context=tuple(
                ContextPair(pair.positive.to_part(fetched), pair.negative.to_part(fetched)) for pair in self.context
            ),
            edit=self.edit.to_edit() if self.edit is not None else None,
            strategy=self.strategy,
            filter=both(parsed, typed.filter if typed is not None else None),
            limit=self.limit,
            cursor=self.cursor,
            prior_search=self.prior_search,
            arrangement=self.to_arrangement(),
            facets=self.to_facets(),
            blend=self.blend,
            explain=self.explain,
            space=self.space,
        )

    @property
    def blend(self) -> Blend:
        """Say how words are looked up. Raises InvalidQuery."""
        given = self.weights or WeightsIn(picture=1.0, words=1.0)
        return Blend(self.mode, self.fusion, Weights(given.picture, given.words))


class PlaceOut(BaseModel):
    """Where one of the lists has a hit."""

    rank: int | None = Field(description="from 1, equals share one; null: not told that far down")
    score: float = Field(description="picture: cosine, -1..1; words: BM25, above 0")


class ExplanationOut(BaseModel):
    """Which part gave what to a hit."""

    score: float | None = Field(description="hybrid: what orders the list, 0..1; null: it goes by one part")
    picture: PlaceOut | None = Field(description="its place by the picture; null where that was not asked")
    words: PlaceOut | None = Field(description="its place by words; null where it has none of them")
    matched: list[str] = Field(description="words of the question that it carries, as they are looked up")

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        """Show an explanation."""
        return cls(**{**asdict(explanation), "matched": list(explanation.matched)})


def _given(source: SourceIn | SearchRequest) -> list[str]:
    return [name for name in _SOURCES if getattr(source, name) is not None]


def _require_one(source: SourceIn | SearchRequest) -> None:
    given = _given(source)
    if len(given) != 1:
        told = f"{' and '.join(given)} at once" if given else "none of them"
        raise ValueError(f"ask with exactly one of {', '.join(_SOURCES)}, not {told}")


class UnderstoodPartOut(BaseModel):
    """A part of the question; a picture or a vector that was sent is not sent back."""

    kind: Literal["text", "image", "asset_id", "vector"]
    text: str | None
    asset_id: UUID | None
    weight: float

    @classmethod
    def of(cls, part: UnderstoodPart) -> Self:
        """Show a part."""
        return cls(**asdict(part))


class UnderstoodPairOut(BaseModel):
    """A pair of the context."""

    positive: UnderstoodPartOut
    negative: UnderstoodPartOut


class UnderstoodOut(BaseModel):
    """How the question was understood."""

    plain: bool = Field(description="it is one text, picture, asset or vector and no more, just as it was sent")
    parts: list[UnderstoodPartOut]
    excluded: list[UnderstoodPartOut] = Field(description="pictures that show these were taken out")
    context: list[UnderstoodPairOut]
    filter: dict[str, Any] | None = Field(description="of the query and of the request, together")
    note: str = Field(
        description="the same in words", examples=["like “dog” (2) and “beach”, without what shows “people”"]
    )

    @classmethod
    def of(cls, told: Understood) -> Self:
        """Show what was understood."""
        return cls(
            plain=told.plain,
            parts=[UnderstoodPartOut.of(part) for part in told.parts],
            excluded=[UnderstoodPartOut.of(part) for part in told.excluded],
            context=[
                UnderstoodPairOut(positive=UnderstoodPartOut.of(one), negative=UnderstoodPartOut.of(other))
                for one, other in told.context
            ],
            filter=None if told.filter is None else source_of(told.filter),
            note=told.note,
        )


class HitOut(AssetOut):
    """A picture that was found."""

    score: float = Field(
        description="cosine between question and picture, -1..1; found_by prior: with what the prior made of it; "
        "best_score: with the nearest part, less its mean over the catalogue, and scaled to compare parts"
    )
    found_by: Literal["search", "prior"] = Field(
        "search", description="prior: found with the embedding that the generator's prior predicted for the text"
    )
    explanation: ExplanationOut | None = Field(None, description="only where `explain` was asked")
    folded: int = Field(0, description="near duplicates, less good hits, that this one stands for")
    folded_by_cosine: int = Field(
        0,
        description="of these, and of the others of a group of near duplicates, those that only the cosine of the "
        "embeddings tells, since they were not compared yet (`phosphene duplicates`)",
    )
    group: GroupOut | None = Field(
        None, description="what it is grouped by, and the other hits of that; null: not at all"
    )

    @classmethod
    def of_hit(cls, hit: Hit) -> Self:
        """Show a hit, with those grouped under it."""
        group = None
        if hit.group is not None:
            others = [HitOut.of_hit(one) for one in hit.group.others]
            group = GroupOut(value=hit.group.value, pictures=hit.group.pictures, others=others)
        explanation = ExplanationOut.of(hit.explanation) if hit.explanation is not None else None
        fields = asset_fields(hit.asset)
        return cls(
            **fields,
            score=hit.score,
            found_by=hit.found_by,
            folded=hit.folded,
            folded_by_cosine=hit.by_cosine,
            group=group,
            explanation=explanation,
        )


class GroupOut(BaseModel):
    """Hits that share a value, or show nearly the same."""

    value: str | int | None = Field(description="that they share; null where this one has none, and of near duplicates")
    pictures: int | None = Field(description="that have the value, of all that the question lets through")
    others: list[HitOut] = Field(description="the other hits of the group, best first")


class MatchOut(BaseModel):
    """Whether the best hit answers the question; where it does not, the hits are the nearest there are, and no match.

    Calibrated (`phosphene calibrate`, POST /v1/calibrations): by its probability. Else by a rule of thumb: how far the
    best hit stands above the rest of the catalogue. A question of several parts, or with an edit or a context, is
    always judged by that rule, as what its parts make together; best_score: as the part nearest to the best hit.
    """

    matched: bool
    probability: float | None = Field(description="that the best hit is right, 0..1; null while not calibrated")
    threshold: float = Field(description="from here on a match: of probability when calibrated, else of z_score")
    calibrated: bool
    stale: bool = Field(description="calibrated for a catalogue, or a model, that has changed since")
    z_score: float | None = Field(description="standard deviations of the best hit above the catalogue")
    by_words: bool = Field(
        description="a code was asked for, and a hit carries all words of the question: matched for that, whatever the "
        "picture says; probability and z_score stay those of the picture"
    )
    note: str = Field(
        description="the same in words", examples=["nearest, not a match: probability 4%, a match from 16%"]
    )

    @classmethod
    def of(cls, match: Match) -> Self:
        """Show a decision."""
        return cls(**asdict(match))


class TimingOut(BaseModel):
    """Milliseconds spent."""

    embed: float = Field(description="question to embedding; with decoding where it was a picture")
    vectors: float
    catalogue: float
    match: float = Field(description="deciding whether the best hit is a match")
    total: float


class SearchResponse(BaseModel):
    """Hits, best first."""

    space: str = Field(description="of the model that answered: scores of two spaces can't be compared")
    understood: UnderstoodOut = Field(description="how the question was understood")
    hits: list[HitOut]
    match: MatchOut = Field(description="of the question: the same on every page")
    mode: Mode = Field(description="what the question was compared with; never auto")
    next_cursor: str | None = Field(description="pass it as cursor for the hits after these; null at the end")
    timing_ms: TimingOut
    facets: dict[str, FacetOut] = Field(default_factory=dict, description="by field, in the order that was asked for")
    note: str | None = Field(None, description="what could not be done as asked, as when a rerank hook fails")
    generation: OfferOut | None = Field(
        None, description="a picture that is being drawn for the question; null where none was to be"
    )

    @classmethod
    def of(cls, query: SearchQuery, answer: SearchAnswer, offer: Offer | None = None) -> Self:
        """Show an answer, and what is drawn for it."""
        return cls(
            space=answer.space,
            understood=UnderstoodOut.of(understood(query)),
            hits=[HitOut.of_hit(hit) for hit in answer.hits],
            mode=answer.mode,
            match=MatchOut.of(answer.match),
            next_cursor=answer.next_cursor,
            timing_ms=TimingOut(**asdict(answer.timing_ms)),
            facets={facet.field: FacetOut.of(facet) for facet in answer.facets},
            note=answer.note,
            generation=OfferOut(id=offer.id, status=offer.status, detail=offer.detail) if offer is not None else None,
        )
