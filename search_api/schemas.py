"""What goes over HTTP: every field documented, unknown fields refused."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, WithJsonSchema, model_validator

from indexer.verify import VerifyReport
from phosphene import __version__
from phosphene.assemble import Engine
from phosphene.catalog.records import Asset, AssetState, Ingest, IngestState, Quarantined
from phosphene.errors import PictureFault
from phosphene.filters import Filter
from phosphene.types import AssetId, FieldKind, TenantId
from search_api.search import DEFAULT_LIMIT, MAX_LIMIT, MAX_TEXT, SearchAnswer, SearchQuery

MAX_DIMENSION = 8192
MAX_EMBEDDED = 64  # texts, and pictures, in one request for embeddings
MAX_SOURCES = 1000
MAX_TITLE = 500
MAX_FIELDS = 200
MAX_VALUE = 10_000
_QUESTIONS = ("text", "image", "image_url", "asset_id", "vector")


def _from_base64(value: object) -> object:
    if not isinstance(value, str):
        return value
    _, comma, data = value.partition(",") if value.startswith("data:") else ("", "", value)
    del comma
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"not base64: {error}"
        raise ValueError(msg) from error


def _no_nul(value: str) -> str:
    if "\x00" in value:
        msg = "text can't hold the character NUL"
        raise ValueError(msg)
    return value


PictureBytes = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "minLength": 4}),
]
Text = Annotated[str, Field(max_length=MAX_VALUE), BeforeValidator(lambda v: _no_nul(v) if isinstance(v, str) else v)]
Title = Annotated[str, Field(max_length=MAX_TITLE), BeforeValidator(lambda v: _no_nul(v) if isinstance(v, str) else v)]
MetadataValue = bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | FiniteFloat | Text | list[Text] | None
MetadataIn = Annotated[dict[str, MetadataValue], Field(max_length=MAX_FIELDS)]
FilterIn = Annotated[
    dict[str, Any],
    Field(
        description='{"field": NAME, "equals" | "any_of" | "gte" | "gt" | "lte" | "lt" | "exists": …}, or "and", "or", '
        '"not" around such. GET /v1/fields lists the names',
        examples=[{"and": [{"field": "category", "equals": "animals"}, {"field": "year", "gte": 2005}]}],
    ),
]


class Body(BaseModel):
    """A request: unknown fields are refused, so that a typo is never silently ignored."""

    model_config = ConfigDict(extra="forbid")


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
        )


class AssetOut(BaseModel):
    """A picture and what is known about it."""

    asset_id: UUID
    title: str | None
    metadata: dict[str, Any] = Field(description="the fields that its source gave", examples=[{"year": 2008}])
    width: int = Field(description="pixels, as one looks at it")
    height: int
    orientation: Literal["landscape", "portrait", "square"]
    format: str = Field(examples=["jpeg"])
    bytes: int
    added_at: datetime
    state: AssetState = Field(description="registered: waiting for its embedding; indexed: searchable; failed")
    image_url: str = Field(description="a preview of at most 1024 pixels a side")
    thumbnail_url: str = Field(description="at most 256 pixels a side")
    original_url: str = Field(description="the file as it came in, as a download")

    @classmethod
    def of(cls, asset: Asset) -> Self:
        """Show an asset."""
        return cls(**_asset_fields(asset))


class AssetList(BaseModel):
    """Pictures of the catalogue."""

    assets: list[AssetOut]
    next_after: UUID | None = Field(description="pass it as `after` for more; null at the end")


class HitOut(AssetOut):
    """A picture that was found."""

    score: float = Field(description="cosine between question and picture, -1..1")


class TimingOut(BaseModel):
    """Milliseconds spent."""

    embed: float = Field(description="question to embedding; with decoding where it was a picture")
    vectors: float
    catalogue: float
    total: float


class SearchResponse(BaseModel):
    """Hits, best first."""

    hits: list[HitOut]
    next_cursor: str | None = Field(description="pass it as cursor for the hits after these; null at the end")
    timing_ms: TimingOut

    @classmethod
    def of(cls, answer: SearchAnswer) -> Self:
        """Show an answer."""
        timing = answer.timing_ms
        return cls(
            hits=[HitOut(**_asset_fields(hit.asset), score=hit.score) for hit in answer.hits],
            next_cursor=answer.next_cursor,
            timing_ms=TimingOut(
                embed=timing.embed, vectors=timing.vectors, catalogue=timing.catalogue, total=timing.total
            ),
        )


class AssetChange(Body):
    """New title or metadata; what is left out stays. Metadata is replaced as a whole."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"title": "Sleeping cat", "metadata": {"category": "animals"}}]}
    )

    title: Title | None = None
    metadata: MetadataIn | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            msg = "name a title or metadata to change"
            raise ValueError(msg)
        return self


class IngestRequest(Body):
    """Pictures to take in."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"sources": ["https://example.org/pictures.csv"]}]}
    )

    sources: list[Annotated[Text, Field(min_length=1)]] = Field(
        min_length=1,
        max_length=MAX_SOURCES,
        description="http(s) addresses where PHOSPHENE_FETCH_URLS is on; callers with the local token may name "
        "folders, files, globs, manifests and archives of the server's machine",
    )
    metadata: Text | None = Field(None, description="a manifest with metadata for the files of a folder")
    column_map: dict[Text, Text] = Field(
        default_factory=dict, max_length=MAX_FIELDS, description="which column of a manifest holds file, title, a field"
    )
    fetch_urls: bool | None = Field(
        None, description="fetch pictures that a manifest names by address; unset: as the server is configured"
    )


class CountsOut(BaseModel):
    """What became of the files seen so far."""

    added: int
    unchanged: int
    updated: int
    quarantined: int


class IngestResponse(BaseModel):
    """A run over some sources."""

    id: UUID
    sources: list[str]
    state: IngestState
    counts: CountsOut
    started_at: datetime
    finished_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, ingest: Ingest) -> Self:
        """Show an ingest."""
        counts = ingest.counts
        return cls(
            id=ingest.id,
            sources=list(ingest.sources),
            state=ingest.state,
            counts=CountsOut(
                added=counts.added,
                unchanged=counts.unchanged,
                updated=counts.updated,
                quarantined=counts.quarantined,
            ),
            started_at=ingest.started_at,
            finished_at=ingest.finished_at,
            error=ingest.error,
        )


class IngestList(BaseModel):
    """Ingests, newest first."""

    ingests: list[IngestResponse]


class QuarantineEntry(BaseModel):
    """A file that can't be used."""

    uri: str
    fault: PictureFault
    reason: str
    sha256: str | None
    at: datetime

    @classmethod
    def of(cls, entry: Quarantined) -> Self:
        """Show a quarantined file."""
        return cls(uri=entry.uri, fault=entry.fault, reason=entry.reason, sha256=entry.sha256, at=entry.at)


class QuarantinePage(BaseModel):
    """Files that can't be used, in the order they were met."""

    entries: list[QuarantineEntry]
    next_after: int | None = Field(description="pass it as `after` for more; null at the end")


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


class FieldOut(BaseModel):
    """A field that filters may name."""

    name: str
    kind: FieldKind
    system: bool = Field(description="computed from the picture itself")


class FieldList(BaseModel):
    """Fields, system ones first."""

    fields: list[FieldOut]


class StatusResponse(BaseModel):
    """How things stand."""

    version: str
    model: str
    space: str
    dimension: int
    assets: int
    searchable: int
    waiting: int = Field(description="pictures, of all tenants, that wait for their embedding")
    data: str | None = Field(description="the data folder, for callers with the local token")

    @classmethod
    def of(cls, engine: Engine, *, tenant: TenantId, local: bool) -> Self:
        """Count, and show."""
        space = engine.encoder.space
        return cls(
            version=__version__,
            model=space.model,
            space=space.id,
            dimension=space.dimension,
            assets=engine.catalog.count_assets(tenant),
            searchable=engine.catalog.count_assets(tenant, AssetState.INDEXED),
            waiting=engine.catalog.pending_work(space.id),
            data=str(engine.settings.data.absolute()) if local and engine.settings.embedded else None,
        )


class VerifyRequest(Body):
    """What to check."""

    repair: bool = Field(default=False, description="mend what can be mended")


class VerifyResponse(BaseModel):
    """What was compared, and what differed, by kind of difference."""

    ok: bool = Field(description="nothing differs, or all that differed is mended")
    repaired: bool = Field(description="whether mending was asked for")
    assets: int
    points: int
    blobs: int
    differences: dict[str, int] = Field(examples=[{"missing_point": 2}])
    mended: dict[str, int]
    examples: dict[str, list[str]] = Field(description="a few ids or keys of each kind")

    @classmethod
    def of(cls, report: VerifyReport) -> Self:
        """Show a report."""
        return cls(
            ok=report.ok,
            repaired=report.repaired,
            assets=report.assets,
            points=report.points,
            blobs=report.blobs,
            differences=report.counts,
            mended=report.mended,
            examples=report.examples,
        )

    def lines(self) -> list[str]:
        """Say it in words, a line for each kind of difference."""
        said = [f"compared {self.assets:,} pictures, {self.points:,} points and {self.blobs:,} files"]
        for kind, count in self.differences.items():
            mended = f", {self.mended.get(kind, 0):,} mended" if self.repaired else ""
            shown = ", ".join(self.examples.get(kind, []))
            said.append(f"{kind.replace('_', ' ')}: {count:,}{mended} ({shown})")
        if not self.differences:
            said.append("all agree")
        elif not self.repaired:
            said.append("mend with: phosphene verify --repair")
        return said


class StoreHealth(BaseModel):
    """Readiness: every store was asked just now."""

    ready: bool
    stores: dict[str, str] = Field(examples=[{"catalogue": "ok", "vectors": "ok", "blobs": "ok"}])


class Problem(BaseModel):
    """An error (RFC 9457), sent as application/problem+json."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:phosphene:problem:invalid-filter"])
    title: str
    status: int
    detail: str = Field(description="what was wrong, and what to do")
    instance: str = Field(description="the path that was asked")
    fault: PictureFault | None = Field(None, description="why a picture can't be used")
    errors: list[dict[str, str]] | None = Field(None, description="what is wrong where, for invalid requests")


def picture_url(asset: UUID, size: str) -> str:
    """Give the address of a picture."""
    return f"/v1/assets/{asset}/image?size={size}"


def _asset_fields(asset: Asset) -> dict[str, Any]:
    return {
        "asset_id": asset.id,
        "title": asset.title,
        "metadata": asset.metadata,
        "width": asset.width,
        "height": asset.height,
        "orientation": asset.orientation,
        "format": asset.format,
        "bytes": asset.bytes,
        "added_at": asset.added_at,
        "state": asset.state,
        "image_url": picture_url(asset.id, "preview"),
        "thumbnail_url": picture_url(asset.id, "thumbnail"),
        "original_url": picture_url(asset.id, "original"),
    }
