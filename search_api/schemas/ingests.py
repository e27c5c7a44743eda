"""Runs over sources, and what they could not use."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from phosphene.catalog.records import Ingest, IngestState, Quarantined
from phosphene.errors import PictureFault
from search_api.schemas.values import MAX_FIELDS, Body, Text

MAX_SOURCES = 1000


class IngestRequest(Body):
    """Pictures to take in."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"sources": ["https://example.org/pictures.csv"]}]}
    )

    sources: list[Annotated[Text, Field(min_length=1)]] = Field(
        min_length=1,
        max_length=MAX_SOURCES,
        description="http(s) addresses where PHOSPHENE_FETCH_URLS is on, of pictures, manifests (.csv, .tsv, .jsonl, "
        ".parquet), lists of addresses (.txt) and archives (.tar, .tar.gz); callers with the local token may name "
        "folders, files, globs, manifests and archives of the server's machine",
    )
    metadata: Text | None = Field(None, description="a manifest with metadata for the files of a folder or archive")
    column_map: dict[Text, Text] = Field(
        default_factory=dict, max_length=MAX_FIELDS, description="which column of a manifest holds file, title, a field"
    )
    fetch_urls: bool | None = Field(
        None,
        description="fetch from http(s) addresses, for callers with the local token; unset: PHOSPHENE_FETCH_URLS",
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
