"""What the catalogue takes and gives: frozen records that know nothing of SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Protocol
from uuid import UUID

from phosphene.attributes import Attributes
from phosphene.errors import PictureFault
from phosphene.types import (
    AssetId,
    IngestId,
    Metadata,
    Modality,
    ReindexId,
    Sha256,
    Space,
    SpaceId,
    TenantId,
)

Orientation = Literal["landscape", "portrait", "square"]


class AssetState(StrEnum):
    """How far a picture has come."""

    REGISTERED = "registered"  # known, waiting for its embedding
    INDEXED = "indexed"  # to be found by search
    FAILED = "failed"  # given up; quarantine says why


class Outcome(StrEnum):
    """What registering a file changed."""

    ADDED = "added"
    UNCHANGED = "unchanged"
    UPDATED = "updated"  # title or metadata


class IngestState(StrEnum):
    """Where an ingest stands."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its process died; the same command goes on


class PictureFacts(Protocol):
    """What decoding found out about a picture; phosphene.images.PictureInfo is one."""

    @property
    def sha256(self) -> Sha256: ...  # noqa: D102  the names say it, as do those below
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def orientation(self) -> Orientation: ...  # noqa: D102
    @property
    def format(self) -> str: ...  # noqa: D102
    @property
    def bytes(self) -> int: ...  # noqa: D102
    @property
    def phash(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class NewAsset:
    """A decoded picture at a place, to be registered."""

    info: PictureFacts
    uri: str
    fingerprint: str | None = None  # size and mtime, or an etag: equal means surely unchanged
    title: str | None = None
    metadata: Metadata = field(default_factory=dict)
    generated: bool = False
    attributes: Attributes | None = None
    look: bytes | None = None  # phosphene.looks


@dataclass(frozen=True, slots=True)
class Description:
    """New title and metadata for a known location whose bytes need not be read again."""

    uri: str
    title: str | None = None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssetLabels:
    """What models say of a picture, kept apart from what its owner says."""

    keywords: Mapping[str, float | None] = field(default_factory=dict)  # the likeliest first; None: not calibrated
    keywords_space: SpaceId | None = None  # that they were found in
    probes: Mapping[str, float] = field(default_factory=dict)  # labels learned from examples, that it shows
    moderation: Mapping[str, Any] = field(default_factory=dict)  # state, concept, score, space; by and at once decided

    @classmethod
    def from_json(cls, said: Mapping[str, Any] | None) -> AssetLabels:
        """Read what a row holds: keywords are pairs there, since PostgreSQL does not keep the order of an object."""
        return cls(**{**said, "keywords": dict(said.get("keywords", ()))}) if said else _NO_LABELS


_NO_LABELS = AssetLabels()


class LabelModelKind(StrEnum):
    """What a label model is for."""

    CALIBRATION = "calibration"  # of the probability that a picture carries a word
    PROBE = "probe"  # a label learned from examples
    MODERATION = "moderation"  # what a tenant wants a second look at


@dataclass(frozen=True, slots=True)
class LabelModel:
    """What labels are made with in a space; the content is JSON that its maker reads."""

    kind: LabelModelKind
    name: str
    space_id: SpaceId
    content: Mapping[str, Any]
    made_at: datetime  # UTC


@dataclass(frozen=True, slots=True)
class Asset:
    """A picture with its metadata."""

    id: AssetId
    tenant: TenantId
    sha256: Sha256
    title: str | None
    metadata: Metadata
    width: int  # pixels, upright
    height: int
    orientation: Orientation
    format: str  # jpeg png webp gif tiff bmp avif
    bytes: int
    phash: str  # 16 hex digits
    added_at: datetime  # UTC
    state: AssetState
    generated: bool = False  # imagined, not found
    attributes: Attributes | None = None  # None: registered before there were any; `phosphene verify --repair`
    labels: AssetLabels = _NO_LABELS


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of one registered file."""

    asset_id: AssetId
    outcome: Outcome
    needs_embedding: bool  # there is a work entry for it
    replaced: AssetId | None = None  # the picture that this location showed before, where no location shows it now
    renamed: tuple[AssetId, ...] = ()  # pictures known before that this gave a place, or took one from


@dataclass(frozen=True, slots=True)
class Location:
    """Where a picture was found."""

    uri: str
    asset_id: AssetId
    fingerprint: str | None
    metadata_digest: str
    state: AssetState  # of the asset


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that can't be used, and why."""

    uri: str
    fault: PictureFault
    reason: str
    sha256: Sha256 | None
    at: datetime  # UTC
    id: int = 0  # given by the catalogue: the cursor of the list


@dataclass(frozen=True, slots=True)
class IngestCounts:
    """How many files came to what end."""

    added: int = 0
    unchanged: int = 0
    updated: int = 0
    quarantined: int = 0

    @property
    def total(self) -> int:
        """All files seen so far."""
        return self.added + self.unchanged + self.updated + self.quarantined


@dataclass(frozen=True, slots=True)
class Ingest:
    """One run over some sources."""

    id: IngestId
    tenant: TenantId
    sources: tuple[str, ...]
    state: IngestState
    counts: IngestCounts
    started_at: datetime  # UTC
    finished_at: datetime | None
    error: str | None
    attempts: int = 0  # of workers since it last got on; this one included


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A picture leased for embedding."""

    asset_id: AssetId
    tenant: TenantId
    space_id: SpaceId
    attempts: int  # this one included


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """A space that the catalogue has seen, and how many of its pictures are indexed there."""

    space: Space
    recorded_at: datetime  # UTC
    embedded: int


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """A calibration as it is stored; phosphene.nomatch reads its content."""

    space_id: SpaceId
    modality: Modality
    content: Mapping[str, Any]
    made_at: datetime  # UTC


class CatalogueJobKind(StrEnum):
    """What can be done to a whole catalogue."""

    KEYWORDS = "keywords"
    PROBE = "probe"  # a learned label is applied
    MODERATION = "moderation"
    DUPLICATES = "duplicates"


class CatalogueJobState(StrEnum):
    """How far a job has come."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CatalogueJob:
    """Something that is done to a tenant's whole catalogue."""

    id: UUID
    tenant: TenantId
    kind: CatalogueJobKind
    arguments: Mapping[str, Any]  # JSON that indexer.catalogue_jobs reads
    state: CatalogueJobState
    result: Mapping[str, Any] | None  # counts
    error: str | None
    attempts: int  # this one included
    queued_at: datetime  # UTC
    started_at: datetime | None
    finished_at: datetime | None


class ReindexState(StrEnum):
    """How far a change of the model has come. Up to `swapped`, both spaces are written."""

    BUILDING = "building"  # the new space is being filled
    CHECKING = "checking"  # all is there: calibrated, and held against the gates
    REFUSED = "refused"  # a gate was not passed
    READY = "ready"  # may answer; also after a rollback
    SWAPPED = "swapped"  # answers; the space before is kept in step, for a rollback
    FINISHED = "finished"  # the space before is dropped
    ABORTED = "aborted"  # the new space is dropped

    @property
    def writes_both(self) -> bool:
        """Whether what changes in the catalogue goes into both spaces."""
        return self not in (ReindexState.FINISHED, ReindexState.ABORTED)


@dataclass(frozen=True, slots=True)
class NamedSpace:
    """A space, and the model that gives it, named as `load_encoder` takes it."""

    model: str
    space: Space


@dataclass(frozen=True, slots=True)
class Serving:
    """Which space answers questions, and those that are written: that one first."""

    answers: NamedSpace
    written: tuple[NamedSpace, ...]
    since: datetime  # UTC


@dataclass(frozen=True, slots=True)
class Reindex:
    """A change of the model, from one space to another."""

    id: ReindexId
    state: ReindexState
    before: NamedSpace
    after: NamedSpace
    options: Mapping[str, Any]  # indexer.reindex reads them
    report: Mapping[str, Any] | None  # how the gates went
    error: str | None  # why the last step did not get on
    total: int  # pictures there were at the start
    seen: int  # of these, that are queued for the new space or were there already
    waiting: int  # pictures that wait for their embedding in the new space, a million at most
    pass_ended_at: datetime | None  # all pictures were seen
    missing: int | None  # after a whole pass: pictures of the space before that the new one lacks
    paced_at: datetime  # since when the pace is measured
    paced_done: int
    started_at: datetime
    touched_at: datetime
    swapped_at: datetime | None
    ended_at: datetime | None
    dropped: bool  # after its end: nothing is left to be cleared away

    @property
    def done(self) -> int:
        """How many pictures have been dealt with; those that could not be embedded are among them."""
        whole_pass = self.pass_ended_at is not None or self.missing is not None
        return max(0, (self.total if whole_pass else min(self.seen, self.total)) - self.waiting)

    def pace(self) -> float:
        """Give the pictures a second, since it was begun or taken up again; 0 until there is something to measure."""
        seconds = (datetime.now(UTC) - self.paced_at).total_seconds()
        return max(0.0, (self.done - self.paced_done) / seconds) if seconds > 0 else 0.0

    def remaining_s(self) -> float | None:
        """Give the seconds that the rest of the building will take at this pace."""
        pace = self.pace()
        if self.state is not ReindexState.BUILDING or not pace:
            return None
        return max(0, self.total - self.done) / pace


class ProcessRole(StrEnum):
    """What a process is there for."""

    SERVER = "server"  # answers over HTTP
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Process:
    """A process that is up, by a name that no other one has."""

    name: str
    role: ProcessRole
    answers: SpaceId
    opened: frozenset[SpaceId]  # that one among them


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures that are near-duplicates, and the evidence; the first has the smaller id."""

    asset_id: AssetId
    other_id: AssetId
    probability: float  # that both are the same picture, 0..1
    bits: int  # of 64, by which the hashes differ
    likeness: float  # correlation of the looks, -1..1
    cosine: float  # of the embeddings
    recoloured: float  # how far the colours differ, 0 not at all
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """Pictures that are near-duplicates of each other, or the same bytes at several places."""

    id: UUID
    asset_ids: tuple[AssetId, ...]  # by id
