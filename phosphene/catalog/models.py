"""The tables. A change here needs a migration (`alembic revision --autogenerate`); tests/catalog proves both agree."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from phosphene.catalog.base import Base, JsonOrNull, JsonValue, RowNumber, UtcDateTime


class TenantRow(Base):
    """Whose pictures."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AssetRow(Base):
    """A picture of a tenant; its id is derived from both."""

    __tablename__ = "assets"
    __table_args__ = (
        UniqueConstraint("tenant_id", "sha256"),
        Index(None, "sha256"),
        Index(None, "tenant_id", "id"),
        Index(None, "tenant_id", "state"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    sha256: Mapped[str] = mapped_column(String(64))
    title: Mapped[str | None] = mapped_column(Text)
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JsonValue
    )  # SQLAlchemy keeps the plain name to itself
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    orientation: Mapped[str] = mapped_column(String(16))
    format: Mapped[str] = mapped_column(String(16))
    bytes: Mapped[int] = mapped_column(BigInteger)
    phash: Mapped[str] = mapped_column(String(16))
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)
    state: Mapped[str] = mapped_column(String(16))
    generated: Mapped[bool] = mapped_column(Boolean, server_default=false())
    attributes: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    labels: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)  # what models say, not owners


class LookRow(Base):
    """What a picture looks like, and by which rule it was compared with the others of its tenant; null: not yet."""

    __tablename__ = "looks"
    __table_args__ = (Index(None, "rule", "asset_id"),)

    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    look: Mapped[bytes] = mapped_column(LargeBinary)
    rule: Mapped[int | None] = mapped_column(Integer)


class LookBandRow(Base):
    """A bucket of hashes that a picture lies in."""

    __tablename__ = "look_bands"
    __table_args__ = (Index(None, "tenant_id", "band"),)

    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    band: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))


class DuplicateRow(Base):
    """Two pictures that are near-duplicates, the smaller id first."""

    __tablename__ = "duplicates"

    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    other_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True, index=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    probability: Mapped[float] = mapped_column(Float)
    bits: Mapped[int] = mapped_column(Integer)
    likeness: Mapped[float] = mapped_column(Float)
    cosine: Mapped[float] = mapped_column(Float)
    recoloured: Mapped[float] = mapped_column(Float)
    mirrored: Mapped[bool] = mapped_column(Boolean)


class ClusterRow(Base):
    """Which near-duplicates a picture belongs to. The id of a cluster is that of one of its pictures."""

    __tablename__ = "clusters"
    __table_args__ = (Index(None, "tenant_id", "cluster_id"),)

    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    cluster_id: Mapped[UUID] = mapped_column(Uuid)


class LocationRow(Base):
    """Where a picture was found. The id is derived from tenant and uri: it makes them unique at any length of uri."""

    __tablename__ = "locations"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    uri: Mapped[str] = mapped_column(Text)
    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), index=True)
    fingerprint: Mapped[str | None] = mapped_column(Text)
    metadata_digest: Mapped[str] = mapped_column(String(64))


class IngestRow(Base):
    """One run over some sources, with its counts."""

    __tablename__ = "ingests"
    __table_args__ = (Index(None, "tenant_id", "started_at"), Index(None, "state", "started_at"))

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    sources: Mapped[list[str]] = mapped_column(JsonValue)
    state: Mapped[str] = mapped_column(String(16))
    added: Mapped[int] = mapped_column(Integer)
    unchanged: Mapped[int] = mapped_column(Integer)  # below 0 where what was added before will come by again
    updated: Mapped[int] = mapped_column(Integer)
    quarantined: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    touched_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)
    job: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)  # to be sent again where nobody is at it
    rung_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when a worker was last told of it
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # since it last got on
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class QuarantineRow(Base):
    """A file that can't be used. `resolved_at`: since when a later ingest has settled it."""

    __tablename__ = "quarantine"
    __table_args__ = (Index(None, "tenant_id", "resolved_at", "id"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    ingest_id: Mapped[UUID | None] = mapped_column(ForeignKey("ingests.id", ondelete="CASCADE"), index=True)
    location_id: Mapped[UUID] = mapped_column(Uuid, index=True)  # as a LocationRow of this uri would have
    uri: Mapped[str] = mapped_column(Text)
    fault: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str | None] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    resolved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SpaceRow(Base):
    """An encoder with exact weights that pictures were embedded with."""

    __tablename__ = "spaces"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(Text)
    dimension: Mapped[int] = mapped_column(Integer)
    weights_sha256: Mapped[str] = mapped_column(String(64))
    pixels: Mapped[dict[str, Any]] = mapped_column(JsonValue)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    payload_version: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # of what points carry
    payload_since: Mapped[datetime | None] = mapped_column(UtcDateTime)  # what was indexed before may carry less


class WorkRow(Base):
    """A picture that waits for its embedding in a space, and who is at it."""

    __tablename__ = "work"
    __table_args__ = (Index(None, "space_id", "queued_at"),)

    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), primary_key=True)
    ingest_id: Mapped[UUID | None] = mapped_column(ForeignKey("ingests.id", ondelete="SET NULL"), index=True)
    queued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    attempts: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str | None] = mapped_column(Text)  # of the last failure


class EmbeddingRow(Base):
    """That a picture is in the index of a space, and how long its raw embedding was (unCLIP wants that back)."""

    __tablename__ = "embeddings"
    __table_args__ = (Index(None, "space_id"),)

    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), primary_key=True)
    norm: Mapped[float] = mapped_column(Float)
    indexed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FieldRow(Base):
    """A metadata field that a tenant's filters may name."""

    __tablename__ = "fields"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    declared_at: Mapped[datetime] = mapped_column(UtcDateTime)
    description: Mapped[str | None] = mapped_column(Text)
    facet: Mapped[bool | None] = mapped_column(Boolean)  # null: as its kind is


class CalibrationRow(Base):
    """How to tell matches in a space, for one tenant's catalogue and one kind of question."""

    __tablename__ = "calibrations"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), primary_key=True)
    modality: Mapped[str] = mapped_column(String(16), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JsonValue)  # model, threshold, promises and curves
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LabelModelRow(Base):
    """What labels of a tenant's pictures are made with in a space: numbers, never pickles."""

    __tablename__ = "label_models"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JsonValue)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)


class JobRow(Base):
    """Something that is done to a tenant's whole catalogue."""

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "tenant_id", "queued_at", "id"), Index(None, "state", "queued_at"))

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(32))
    arguments: Mapped[dict[str, Any]] = mapped_column(JsonValue)
    state: Mapped[str] = mapped_column(String(16))
    result: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    queued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    rung_at: Mapped[datetime] = mapped_column(UtcDateTime)  # when a worker was last told of it
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


_KEPT = text("state IN ('queued', 'running', 'finished')")  # also in the migration


class GenerationRow(Base):
    """Pictures that a tenant asked for; `withheld` is what only the worker may read, and only until the end."""

    __tablename__ = "generations"
    __table_args__ = (
        Index(
            "uq_generations_tenant_id_key", "tenant_id", "key", unique=True, sqlite_where=_KEPT, postgresql_where=_KEPT
        ),
        Index(None, "tenant_id", "queued_at", "id"),
        Index(None, "state", "queued_at"),
        Index(None, "generator", "finished_at"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    key: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    generator: Mapped[str] = mapped_column(Text)
    request: Mapped[dict[str, Any]] = mapped_column(JsonValue)
    withheld: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    prompt: Mapped[str | None] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    images: Mapped[int] = mapped_column(Integer)
    parents: Mapped[list[Any]] = mapped_column(JsonValue)
    model: Mapped[str | None] = mapped_column(Text)
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    pictures: Mapped[list[Any]] = mapped_column(JsonValue)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    preview: Mapped[bytes | None] = mapped_column(LargeBinary)
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    cancel_asked: Mapped[bool] = mapped_column(Boolean)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    queued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    rung_at: Mapped[datetime] = mapped_column(UtcDateTime)  # when a worker was last told of it
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PointerRow(Base):
    """Which space answers questions of a kind, and the model that gives it, as `load_encoder` takes it."""

    __tablename__ = "pointers"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id"))
    model: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReindexRow(Base):
    """A change of the model: from one space to another. `active` is true for one row at most, and null for the rest."""

    __tablename__ = "reindexes"
    __table_args__ = (UniqueConstraint("active"),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    active: Mapped[bool | None] = mapped_column(Boolean)
    state: Mapped[str] = mapped_column(String(16))
    before_id: Mapped[str] = mapped_column(ForeignKey("spaces.id"))
    before_model: Mapped[str] = mapped_column(Text)
    after_id: Mapped[str] = mapped_column(ForeignKey("spaces.id"))
    after_model: Mapped[str] = mapped_column(Text)
    options: Mapped[dict[str, Any]] = mapped_column(JsonValue)
    report: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    error: Mapped[str | None] = mapped_column(Text)
    total: Mapped[int] = mapped_column(BigInteger)  # pictures there were at the start
    seen: Mapped[int] = mapped_column(BigInteger)  # of these, that were queued or are embedded
    cursor: Mapped[UUID | None] = mapped_column(Uuid)  # the last of them
    pass_ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    missing: Mapped[int | None] = mapped_column(BigInteger)  # after the first pass
    paced_at: Mapped[datetime] = mapped_column(UtcDateTime)  # since when the pace is measured, and from how many on
    paced_done: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    touched_at: Mapped[datetime] = mapped_column(UtcDateTime)
    swapped_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ProcessRow(Base):
    """A process that is up, the space that it answers from, and all that it has open; renewed every few seconds."""

    __tablename__ = "processes"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    space_id: Mapped[str] = mapped_column(String(64))  # what may be dropped since
    opened: Mapped[list[str]] = mapped_column(JsonValue)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CollectionRow(Base):
    """A curator's board. `version` counts its changes; pictures that leave it by being deleted don't count."""

    __tablename__ = "collections"
    __table_args__ = (Index(None, "tenant_id", "created_at", "id"),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    notes: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CollectionItemRow(Base):
    """A picture on a board. Places are in order, no two of a board alike, with room between them."""

    __tablename__ = "collection_items"
    __table_args__ = (Index(None, "collection_id", "place"),)

    collection_id: Mapped[UUID] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True, index=True)
    place: Mapped[int] = mapped_column(BigInteger)
    note: Mapped[str] = mapped_column(Text)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CollectionShareRow(Base):
    """A link to a board. Only its token's hash is kept: who reads the database can't open it."""

    __tablename__ = "collection_shares"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    collection_id: Mapped[UUID] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    with_notes: Mapped[bool] = mapped_column(Boolean)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


TABLES = Base.metadata  # all of the above
