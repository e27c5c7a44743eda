"""Near-duplicates: what pictures look like, pairs that are alike, and clusters of those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, delete, func, or_, select, update

from phosphene.catalog.database import Database, in_chunks, insert_into
from phosphene.catalog.models import (
    AssetRow,
    ClusterRow,
    DuplicateRow,
    EmbeddingRow,
    LocationRow,
    LookBandRow,
    LookRow,
    TenantRow,
)
from phosphene.catalog.records import Asset, AssetState, Cluster, Pair
from phosphene.looks import Looks, bands_of, hashes_of
from phosphene.types import AssetId, Sha256, SpaceId, TenantId

_MATES = 20_000  # of one batch, from all buckets: pictures without any detail share theirs


class Duplicates:
    """What a catalogue knows of near-duplicates; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def cluster_of(self, tenant: TenantId, ids: Sequence[AssetId]) -> dict[AssetId, UUID]:
        """Give the cluster of each of these pictures that has near-duplicates; the others are left out."""
        found: dict[AssetId, UUID] = {}
        with self._database.reading() as connection:
            for chunk in in_chunks(ids):
                rows = connection.execute(
                    select(ClusterRow.asset_id, ClusterRow.cluster_id).where(
                        ClusterRow.tenant_id == tenant, ClusterRow.asset_id.in_(chunk)
                    )
                )
                found |= {AssetId(row[0]): row[1] for row in rows}
        return found

    def compared(self, tenant: TenantId, ids: Sequence[AssetId], *, rule: int) -> set[AssetId]:
        """Give those of these pictures that were compared by this rule."""
        found: set[AssetId] = set()
        with self._database.reading() as connection:
            for chunk in in_chunks(ids):
                statement = select(LookRow.asset_id).where(
                    LookRow.tenant_id == tenant, LookRow.asset_id.in_(chunk), LookRow.rule == rule
                )
                found |= {AssetId(id_) for id_ in connection.execute(statement).scalars()}
        return found

    def clusters(self, tenant: TenantId, *, after: UUID | None, limit: int) -> list[Cluster]:
        """List clusters of two pictures and more in the order of their ids, those greater than `after`."""
        statement = select(ClusterRow.cluster_id).where(ClusterRow.tenant_id == tenant)
        if after is not None:
            statement = statement.where(ClusterRow.cluster_id > after)
        statement = statement.group_by(ClusterRow.cluster_id).having(func.count() > 1)
        with self._database.reading() as connection:
            page = connection.execute(statement.order_by(ClusterRow.cluster_id).limit(limit)).scalars().all()
            members = _members(connection, tenant, page)
        return [Cluster(id_, tuple(members[id_])) for id_ in page]

    def members(self, tenant: TenantId, clusters: Sequence[UUID]) -> dict[UUID, list[AssetId]]:
        """Give the pictures of each of these clusters, in the order of their ids."""
        with self._database.reading() as connection:
            return _members(connection, tenant, clusters)

    def several_places(self, tenant: TenantId, *, after: AssetId | None, limit: int) -> list[AssetId]:
        """List pictures whose very bytes lie at more than one place, in the order of their ids."""
        statement = select(LocationRow.asset_id).where(LocationRow.tenant_id == tenant)
        if after is not None:
            statement = statement.where(LocationRow.asset_id > after)
        statement = statement.group_by(LocationRow.asset_id).having(func.count() > 1)
        with self._database.reading() as connection:
            rows = connection.execute(statement.order_by(LocationRow.asset_id).limit(limit)).scalars()
            return [AssetId(row) for row in rows]

    def pairs(self, tenant: TenantId, ids: Sequence[AssetId]) -> list[Pair]:
        """Give the pairs among these pictures."""
        found: list[Pair] = []
        wanted = set(ids)
        with self._database.reading() as connection:
            for chunk in in_chunks(ids):
                statement = select(*DuplicateRow.__table__.c).where(
                    DuplicateRow.tenant_id == tenant, DuplicateRow.asset_id.in_(chunk)
                )
                found += [_pair(row) for row in connection.execute(statement).mappings()]
        return [pair for pair in found if pair.other_id in wanted]

    def looks(self, tenant: TenantId, ids: Sequence[AssetId]) -> dict[AssetId, bytes]:
        """Give the looks of those of these pictures that have one."""
        found: dict[AssetId, bytes] = {}
        with self._database.reading() as connection:
            for chunk in in_chunks(ids):
                statement = select(LookRow.asset_id, LookRow.look).where(
                    LookRow.tenant_id == tenant, LookRow.asset_id.in_(chunk)
                )
                found |= {AssetId(row[0]): row[1] for row in connection.execute(statement)}
        return found

    def in_bands(self, tenant: TenantId, bands: Iterable[int]) -> dict[int, list[AssetId]]:
        """Give the pictures in each of these buckets, at most some 20,000 in all."""
        found: dict[int, list[AssetId]] = defaultdict(list)
        with self._database.reading() as connection:
            statement = select(LookBandRow.band, LookBandRow.asset_id).where(
                LookBandRow.tenant_id == tenant, LookBandRow.band.in_(sorted(set(bands)))
            )
            for band, id_ in connection.execute(statement.limit(_MATES)):
                found[band].append(AssetId(id_))
        return found

    def put_looks(self, tenant: TenantId, looks: Mapping[AssetId, bytes]) -> None:
        """Keep what pictures look like."""
        with self._database.writing() as connection:
            put_looks(connection, tenant, looks)

    def without_look(
        self, tenant: TenantId | None, *, after: AssetId | None, limit: int
    ) -> list[tuple[AssetId, TenantId, Sha256]]:
        """List searchable pictures that were ingested before looks were kept, in the order of their ids."""
        statement = (
            select(AssetRow.id, AssetRow.tenant_id, AssetRow.sha256)
            .outerjoin(LookRow, LookRow.asset_id == AssetRow.id)
            .where(LookRow.asset_id.is_(None), AssetRow.state == AssetState.INDEXED)
        )
        if tenant is not None:
            statement = statement.where(AssetRow.tenant_id == tenant)
        if after is not None:
            statement = statement.where(AssetRow.id > after)
        with self._database.reading() as connection:
            rows = connection.execute(statement.order_by(AssetRow.id).limit(limit))
            return [(AssetId(row[0]), TenantId(row[1]), Sha256(row[2])) for row in rows]

    def waiting(
        self, tenant: TenantId | None, space_id: SpaceId, *, rule: int, limit: int
    ) -> list[tuple[AssetId, TenantId]]:
        """List pictures in the index of a space that were not compared by this rule yet."""
        with self._database.reading() as connection:
            rows = connection.execute(_waiting(tenant, space_id, rule).limit(limit))
            return [(AssetId(row[0]), TenantId(row[1])) for row in rows]

    def count_waiting(self, tenant: TenantId, space_id: SpaceId, *, rule: int) -> int:
        """Count them."""
        with self._database.reading() as connection:
            counted = _waiting(tenant, space_id, rule).order_by(None).subquery()
            return connection.execute(select(func.count()).select_from(counted)).scalar_one()

    def note(self, tenant: TenantId, compared: Sequence[AssetId], pairs: Sequence[Pair], *, rule: int) -> None:
        """Write what comparing some pictures found: their pairs in place of those before, and the clusters."""
        with self._database.writing() as connection:
            if connection.dialect.name == "postgresql":  # one at a time joins clusters; SQLite has one writer
                held = select(TenantRow.id).where(TenantRow.id == tenant).with_for_update(key_share=True)
                connection.execute(held)
            there = set(connection.execute(select(AssetRow.id).where(AssetRow.id.in_({*_named(pairs)}))).scalars())
            kept = [pair for pair in pairs if {pair.asset_id, pair.other_id} <= there]
            _write_pairs(connection, tenant, kept)
            _join(connection, tenant, kept)
            for chunk in in_chunks(sorted(compared)):
                connection.execute(update(LookRow).where(LookRow.asset_id.in_(chunk)).values(rule=rule))

    def forget(self, tenant: TenantId) -> None:
        """Let all pictures be compared again: pairs and clusters are dropped, looks stay."""
        with self._database.writing() as connection:
            for table in (DuplicateRow, ClusterRow):
                connection.execute(delete(table).where(table.tenant_id == tenant))
            connection.execute(update(LookRow).where(LookRow.tenant_id == tenant).values(rule=None))


def put_looks(connection: Connection, tenant: TenantId, looks: Mapping[AssetId, bytes]) -> None:
    """Keep what pictures look like, and in which buckets they lie; those that are known are left alone."""
    if not looks:
        return
    ids = sorted(looks)
    bands = bands_of(hashes_of(Looks.of([looks[id_] for id_ in ids]).grey))
    rows = [{"asset_id": id_, "tenant_id": tenant, "look": looks[id_], "rule": None} for id_ in ids]
    connection.execute(insert_into(connection, LookRow).on_conflict_do_nothing(), rows)
    places = [
        {"asset_id": id_, "band": int(band), "tenant_id": tenant}
        for id_, several in zip(ids, bands, strict=True)
        for band in several
    ]
    connection.execute(insert_into(connection, LookBandRow).on_conflict_do_nothing(), places)


def keep_reason(kept: Asset, others: Sequence[Asset]) -> str:
    """Say why this one of near-duplicates is the one to keep; `best` chose it."""
    pixels, most = kept.width * kept.height, max(other.width * other.height for other in others)
    size = f"{kept.width} x {kept.height}"
    if pixels > most * _SAME_SIZE:
        return f"the largest, {size}"
    if kept.generated is False and all(other.generated for other in others):
        return "the only one that no model drew"
    if len(kept.metadata) > max(len(other.metadata) for other in others):
        return f"as large as any ({size}) and best described"
    if _quality(kept) > max(_quality(other) for other in others):
        return f"as large as any ({size}) and the least compressed"
    if kept.added_at < min(other.added_at for other in others):
        return f"as large as any ({size}) and the earliest"
    return f"as good as any ({size})"


def _quality(asset: Asset) -> tuple[bool, int]:
    """Rank how little was lost by compressing; bytes tell it of lossy formats only."""
    lossless = asset.format in ("png", "tiff", "bmp")
    return lossless, 0 if lossless else asset.bytes


_SAME_SIZE = 1.02


def best(assets: Sequence[Asset]) -> Asset:
    """Choose which of near-duplicates to keep: found before imagined, large, described, little compressed, early."""
    largest = max(asset.width * asset.height for asset in assets)

    def rank(asset: Asset) -> tuple[bool, bool, int, tuple[bool, int], float, str]:
        large = asset.width * asset.height * _SAME_SIZE >= largest
        return (
            not asset.generated,
            large,
            len(asset.metadata),
            _quality(asset),
            -asset.added_at.timestamp(),
            str(asset.id),
        )

    return max(assets, key=rank)


def _members(connection: Connection, tenant: TenantId, clusters: Sequence[UUID]) -> dict[UUID, list[AssetId]]:
    members: dict[UUID, list[AssetId]] = defaultdict(list)
    for chunk in in_chunks(clusters):
        statement = select(ClusterRow.cluster_id, ClusterRow.asset_id).where(
            ClusterRow.tenant_id == tenant, ClusterRow.cluster_id.in_(chunk)
        )
        for cluster, id_ in connection.execute(statement.order_by(ClusterRow.asset_id)):
            members[cluster].append(AssetId(id_))
    return members


def _waiting(tenant: TenantId | None, space_id: SpaceId, rule: int) -> Select[UUID, str]:
    statement = (
        select(LookRow.asset_id, LookRow.tenant_id)
        .join(EmbeddingRow, (EmbeddingRow.asset_id == LookRow.asset_id) & (EmbeddingRow.space_id == space_id))
        .where(or_(LookRow.rule.is_(None), LookRow.rule != rule))
        .order_by(LookRow.asset_id)
    )
    return statement if tenant is None else statement.where(LookRow.tenant_id == tenant)


def _named(pairs: Iterable[Pair]) -> set[AssetId]:
    return {id_ for pair in pairs for id_ in (pair.asset_id, pair.other_id)}


def _pair(row: Mapping[Any, Any]) -> Pair:
    said = {name: value for name, value in row.items() if name not in ("tenant_id", "asset_id", "other_id")}
    return Pair(AssetId(row["asset_id"]), AssetId(row["other_id"]), **said)


def _write_pairs(connection: Connection, tenant: TenantId, pairs: Sequence[Pair]) -> None:
    if pairs:
        statement = insert_into(connection, DuplicateRow)
        told = ("probability", "bits", "likeness", "cosine", "recoloured", "mirrored")
        statement = statement.on_conflict_do_update(
            index_elements=[DuplicateRow.asset_id, DuplicateRow.other_id],
            set_={name: statement.excluded[name] for name in told},
        )
        connection.execute(statement, [{"tenant_id": tenant, **asdict(pair)} for pair in pairs])


def _join(connection: Connection, tenant: TenantId, pairs: Sequence[Pair]) -> None:
    """Bring the pictures of each pair into one cluster, whose id is the least of those that become one."""
    known: dict[UUID, UUID] = {}
    for chunk in in_chunks(sorted(_named(pairs))):
        statement = select(ClusterRow.asset_id, ClusterRow.cluster_id).where(ClusterRow.asset_id.in_(chunk))
        known |= {row[0]: row[1] for row in connection.execute(statement)}
    became: dict[UUID, UUID] = {}

    def root(cluster: UUID) -> UUID:
        while cluster in became:
            cluster = became[cluster]
        return cluster

    for pair in pairs:
        one, other = sorted(
            (root(known.get(pair.asset_id, pair.asset_id)), root(known.get(pair.other_id, pair.other_id)))
        )
        if one != other:
            became[other] = one
    for cluster in became:
        connection.execute(
            update(ClusterRow)
            .where(ClusterRow.tenant_id == tenant, ClusterRow.cluster_id == cluster)
            .values(cluster_id=root(cluster))
        )
    new = [
        {"asset_id": id_, "tenant_id": tenant, "cluster_id": root(id_)}
        for id_ in sorted(_named(pairs))
        if id_ not in known
    ]
    if new:
        connection.execute(insert_into(connection, ClusterRow).on_conflict_do_nothing(), new)
