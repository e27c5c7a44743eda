"""Questions and answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal, Self
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from phosphene.filters import Filter
from phosphene.nomatch.decision import Match
from phosphene.types import AssetId, GenerateMode
from search_api.imagining import Offer
from search_api.question import DEFAULT_LIMIT, MAX_LIMIT, MAX_TEXT, SearchQuery
from search_api.schemas.assets import AssetOut, asset_fields
from search_api.schemas.generations import OfferOut
from search_api.schemas.values import Body, FilterIn, PictureBytes
from search_api.search import SearchAnswer

MAX_DIMENSION = 8192
MAX_EMBEDDED = 64  # texts, and pictures, in one request for embeddings
_QUESTIONS = ("text", "image", "image_url", "asset_id", "vector")


class SearchRequest(Body):
    """A question: exactly one of text, image, image_url, asset_id and vector."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "a cat asleep on a chair", "limit": 12}],
            "oneOf": [{"required": [name]} for name in _QUESTIONS],
        }
    )

    text: str | None = Field(
        None,
        min_length=1,
        max_length=2 * MAX_TEXT,
        description=f"what the picture shows, in a few words; up to {MAX_TEXT} characters",
        examples=["a cat asleep on a chair"],
    )
    image: PictureBytes | None = Field(None, description="a picture file as base64, with or without a data: prefix")
    image_url: str | None = Field(
        None, max_length=2048, description="a public http(s) address; only where PHOSPHENE_FETCH_URLS is on"
    )
    asset_id: UUID | None = Field(None, description="find pictures similar to this one, which is left out")
    vector: list[FiniteFloat] | None = Field(
        None, min_length=1, max_length=MAX_DIMENSION, description="an embedding in this server's space, of any length"
    )
    filter: FilterIn | None = None
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="hits on a page")
    cursor: str | None = Field(None, description="next_cursor of the page before; the rest of the question as it was")
    prior_search: bool = Field(
        default=False,
        description="where a text finds no match, search again among the pictures with the image embedding that the "
        "generator's prior predicts for it; hits found so say `found_by: prior`",
    )

    generate: GenerateMode | None = Field(
        None,
        description="have a picture drawn beside the hits: never, when_unmatched or always; null: as the server is "
        "configured. Only with the first page, and told in `generation`",
    )

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        asked = [
            name for name in ("text", "image", "image_url", "asset_id", "vector") if getattr(self, name) is not None
        ]
        if len(asked) != 1:
            given = f"{' and '.join(asked)} at once" if asked else "none of them"
            msg = f"ask with exactly one of {', '.join(_QUESTIONS)}, not {given}"
            raise ValueError(msg)
        return self

    def to_query(self, parsed: Filter | None, *, fetched: bytes | None = None) -> SearchQuery:
        """Make the question; `fetched` is what image_url led to."""
        return SearchQuery(
            text=self.text,
            image=self.image if fetched is None else fetched,
            asset_id=AssetId(self.asset_id) if self.asset_id else None,
            vector=np.array(self.vector, dtype=np.float64) if self.vector is not None else None,
            filter=parsed,
            limit=self.limit,
            cursor=self.cursor,
            prior_search=self.prior_search,
        )


class HitOut(AssetOut):
    """A picture that was found."""

    score: float = Field(
        description="cosine between question and picture, -1..1; found_by prior: with what the prior made of it"
    )
    found_by: Literal["search", "prior"] = Field(
        "search", description="prior: found with the embedding that the generator's prior predicted for the text"
    )


class MatchOut(BaseModel):
    """Whether the best hit answers the question; where it does not, the hits are the nearest there are, and no match.

    Calibrated (`phosphene calibrate`, POST /v1/calibrations): by its probability. Else by a rule of thumb: how far the
    best hit stands above the rest of the catalogue.
    """

    matched: bool
    probability: float | None = Field(description="that the best hit is right, 0..1; null while not calibrated")
    threshold: float = Field(description="from here on a match: of probability when calibrated, else of z_score")
    calibrated: bool
    stale: bool = Field(description="calibrated for a catalogue, or a model, that has changed since")
    z_score: float | None = Field(description="standard deviations of the best hit above the catalogue")
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
    hits: list[HitOut]
    match: MatchOut = Field(description="of the question: the same on every page")
    next_cursor: str | None = Field(description="pass it as cursor for the hits after these; null at the end")
    timing_ms: TimingOut
    generation: OfferOut | None = Field(
        None, description="a picture that is being drawn for the question; null where none was to be"
    )

    @classmethod
    def of(cls, answer: SearchAnswer, offer: Offer | None = None) -> Self:
        """Show an answer, and what is drawn for it."""
        return cls(
            space=answer.space,
            hits=[HitOut(**asset_fields(hit.asset), score=hit.score, found_by=hit.found_by) for hit in answer.hits],
            match=MatchOut.of(answer.match),
            next_cursor=answer.next_cursor,
            timing_ms=TimingOut(**asdict(answer.timing_ms)),
            generation=OfferOut(id=offer.id, status=offer.status, detail=offer.detail) if offer is not None else None,
        )


class EmbeddingsRequest(Body):
    """Texts and pictures to embed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"texts": ["a cat", "a red car"]}]})

    texts: list[Annotated[str, Field(min_length=1, max_length=2 * MAX_TEXT)]] = Field(
        default_factory=list, max_length=MAX_EMBEDDED
    )
    images: list[PictureBytes] = Field(
        default_factory=list, max_length=MAX_EMBEDDED, description="picture files as base64"
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.texts and not self.images:
            msg = "send texts, images, or both"
            raise ValueError(msg)
        return self


class EmbeddingsResponse(BaseModel):
    """Vectors of length 1, in the order of what was sent."""

    space: str = Field(description="compare vectors of one space only")
    model: str
    dimension: int
    texts: list[list[float]]
    images: list[list[float]]
