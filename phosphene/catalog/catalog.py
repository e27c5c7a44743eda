"""The catalogue: every method is one transaction, durable when it returns.

Any method may raise Unavailable (the database does not answer, is full, is contended: try again) and DamagedData.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from phosphene.attributes import Attributes
from phosphene.catalog import assets, calibrations, ingests, registering, spaces, work
from phosphene.catalog.backlog import Backlog, backlog
from phosphene.catalog.collections import Collections
from phosphene.catalog.database import Database
from phosphene.catalog.duplicates import Duplicates
from phosphene.catalog.generations import Generations
from phosphene.catalog.jobs import CatalogueJobs
from phosphene.catalog.labels import Labels
from phosphene.catalog.migrate import check_schema, upgrade
from phosphene.catalog.processes import Processes
from phosphene.catalog.records import (
    Asset,
    AssetState,
    CalibrationRecord,
    Description,
    Ingest,
    IngestCounts,
    IngestState,
    Location,
    NewAsset,
    Quarantined,
    Registered,
    SpaceRecord,
    WorkItem,
)
from phosphene.catalog.reindexes import Reindexes
from phosphene.catalog.storable import storable, storable_metadata
from phosphene.errors import PictureFault
from phosphene.types import AssetId, Field, IngestId, Metadata, Sha256, Space, SpaceId, TenantId


class _Unset:
    """Stands for an argument that was not given, where None means something."""


UNSET: Final = _Unset()


class Catalog:
    """The SQL database with all that is known about pictures; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.labels = Labels(database)
        self.generations = Generations(database)
        self.reindexes = Reindexes(database)
        self.processes = Processes(database)
        self.duplicates = Duplicates(database)
        self.collections = Collections(database)
        self.jobs = CatalogueJobs(database)

    @classmethod
    def at(cls, url: str, *, migrate: bool) -> Catalog:
        """Open the catalogue at a database URL or, for SQLite, at a path; `migrate`: bring its schema up to date.

        Raises Unavailable with one line: wrong password, dead server, schema missing or of another version.
        """
        database = Database(url)
        try:
            if migrate:
                upgrade(database)
            else:
                check_schema(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @property
    def name(self) -> str:
        """The database URL without its password."""
        return self._database.name

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def ping(self) -> None:
        """Ask for a sign of life. Raises Unavailable."""
        with self._database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")

    # --- spaces and fields

    def fields(self, tenant: TenantId) -> list[Field]:
        """List the declared metadata fields of a tenant, by name; SYSTEM_FIELDS are not among them."""
        with self._database.reading() as connection:
            return spaces.fields(connection, tenant)

    def all_fields(self) -> list[Field]:
        """List the fields of all tenants, by name; where kinds differ, the one declared first."""
        with self._database.reading() as connection:
            return spaces.all_fields(connection)

    def declare_fields(self, tenant: TenantId, fields: Sequence[Field]) -> list[Field]:
        """Add fields and give all of them.

        Raises InvalidInput, and adds none, for a reserved name or one that is declared as another kind.
        """
        with self._database.writing() as connection:
            return spaces.declare_fields(connection, tenant, fields)

    def describe_fields(self, tenant: TenantId, fields: Sequence[Field]) -> list[Field]:
        """Keep the descriptions of declared fields, and whether they are facets; gives all of the tenant's."""
        with self._database.writing() as connection:
            return spaces.describe_fields(connection, tenant, fields)

    def record_space(self, space: Space) -> None:
        """Note a space; pictures can be registered for it from then on."""
        with self._database.writing() as connection:
            spaces.record_space(connection, space)

    def outdated_points(self, space_id: SpaceId) -> int:
        """Count pictures whose points a version wrote that says less of them than this one; cheap where none is."""
        with self._database.reading() as connection:
            return spaces.outdated(connection, space_id)

    def settle_points(self, space_id: SpaceId) -> None:
        """Note that all points of a space carry what this version writes."""
        with self._database.writing() as connection:
            spaces.settle(connection, space_id)

    def spaces(self) -> list[SpaceRecord]:
        """List all spaces, the oldest first, with how many pictures each holds."""
        with self._database.reading() as connection:
            return spaces.spaces(connection)

    # --- calibrations

    def store_calibration(self, tenant: TenantId, record: CalibrationRecord) -> None:
        """Keep a calibration in place of the one of the same space and modality. The space must be recorded."""
        with self._database.writing() as connection:
            calibrations.store(connection, tenant, record)

    def calibrations(self, tenant: TenantId) -> list[CalibrationRecord]:
        """List a tenant's calibrations, of all spaces, the latest first."""
        with self._database.reading() as connection:
            return calibrations.of_tenant(connection, tenant)

    # --- ingests

    def start_ingest(
        self, tenant: TenantId, sources: Sequence[str], *, job: Mapping[str, Any] | None = None
    ) -> IngestId:
        """Begin an ingest; it is RUNNING. `job` is what workers are sent for it, its id apart."""
        with self._database.writing() as connection:
            return ingests.start(connection, tenant, sources, job)

    def finish_ingest(
        self, ingest: IngestId, state: IngestState, error: str | None = None, *, owner: str | None = None
    ) -> None:
        """Close an ingest, or open it again with RUNNING; with an owner, unless another has it. Raises NotFound."""
        with self._database.writing() as connection:
            ingests.finish(connection, ingest, state, error, owner=owner)

    def interrupt_ingests(self, *, idle_s: float, orphans_only: bool = False) -> list[IngestId]:
        """Mark as INTERRUPTED those ingests that say they run but have not moved for `idle_s` seconds.

        `orphans_only`: those that no worker will take up again.
        """
        with self._database.writing() as connection:
            return ingests.interrupt(connection, idle_s, orphans_only=orphans_only)

    def lease_ingest(self, ingest: IngestId, *, owner: str, lease_s: float) -> Ingest | None:
        """Take an ingest, to do what is left of it. None: it has ended, or somebody else is at it."""
        with self._database.writing() as connection:
            return ingests.lease(connection, ingest, owner=owner, lease_s=lease_s)

    def renew_ingest(self, ingest: IngestId, *, owner: str, lease_s: float) -> bool:
        """Say that its owner is at it still. False: it is theirs no longer."""
        with self._database.writing() as connection:
            return ingests.renew(connection, ingest, owner=owner, lease_s=lease_s)

    def release_ingest(self, ingest: IngestId, *, owner: str, retry_in_s: float = 0.0) -> None:
        """Give it back, to be taken up again after `retry_in_s`."""
        with self._database.writing() as connection:
            ingests.release(connection, ingest, owner=owner, retry_in_s=retry_in_s)

    def lost_ingests(self, limit: int, *, idle_s: float) -> dict[IngestId, dict[str, Any]]:
        """Find ingests that nobody is at, with what workers are sent for them; they count as told of now."""
        with self._database.writing() as connection:
            return ingests.lost(connection, limit, idle_s=idle_s)

    def ingest(self, tenant: TenantId, ingest: IngestId) -> Ingest:
        """Fetch an ingest with its counts. Raises NotFound."""
        with self._database.reading() as connection:
            return ingests.one(connection, tenant, ingest)

    def ingests(self, tenant: TenantId, limit: int) -> list[Ingest]:
        """List ingests, the latest first."""
        with self._database.reading() as connection:
            return ingests.latest(connection, tenant, limit)

    def quarantine(self, ingest: IngestId | None, tenant: TenantId, entries: Sequence[Quarantined]) -> None:
        """List files that can't be used, and count them in the ingest."""
        with self._database.writing() as connection:
            ingests.quarantine(connection, ingest, tenant, entries)

    def quarantined(
        self, tenant: TenantId, ingest: IngestId | None, *, after: int | None, limit: int
    ) -> list[Quarantined]:
        """List what one ingest found unusable or, without one, what is unusable now: each file once.

        `after` is the id of the last entry of the page before.
        """
        with self._database.reading() as connection:
            return ingests.quarantined(connection, tenant, ingest, after, limit)

    def resolve_quarantine(self, tenant: TenantId, uris: Sequence[str]) -> None:
        """Take places out of the list of what is unusable now."""
        with self._database.writing() as connection:
            ingests.resolve_quarantine(connection, tenant, [ingests.location_id(tenant, uri) for uri in uris])

    def note_unchanged(self, ingest: IngestId, count: int) -> None:
        """Count files that were known and left alone."""
        with self._database.writing() as connection:
            ingests.add_counts(connection, ingest, IngestCounts(unchanged=count))

    # --- pictures in

    def locations(self, tenant: TenantId, uris: Sequence[str]) -> dict[str, Location]:
        """Find those uris that are known: a second run skips them."""
        with self._database.reading() as connection:
            return assets.locations(connection, tenant, uris)

    def register(
        self, ingest: IngestId | None, tenant: TenantId, space_id: SpaceId, items: Sequence[NewAsset]
    ) -> list[Registered]:
        """Write pictures, places, work entries and counts; answer in the order of the items.

        The same bytes again are the same asset: only places, title and metadata change. A place that is known for the
        asset replaces what it said before. A new place with metadata replaces them too; one without leaves them alone.
        What a user edited stays until the source says something else than it did. The work is of this space, and of
        the other one while the model is being changed; where this one was given up, of the one that answers. Raises
        InvalidInput where the space was not recorded.
        """
        with self._database.writing() as connection:
            return registering.register(connection, ingest, tenant, space_id, items)

    def describe(
        self, ingest: IngestId | None, tenant: TenantId, space_id: SpaceId, items: Sequence[Description]
    ) -> dict[str, Registered]:
        """Change title and metadata of known places without reading their bytes again; unknown uris are left out."""
        with self._database.writing() as connection:
            return registering.describe(connection, ingest, tenant, space_id, items)

    # --- work

    def lease_work(
        self,
        space_id: SpaceId,
        *,
        owner: str,
        limit: int,
        lease_s: float,
        asset_ids: Sequence[AssetId] | None = None,
    ) -> list[WorkItem]:
        """Take work that nobody holds, the oldest first, for `lease_s` seconds; each lease counts as an attempt."""
        with self._database.writing() as connection:
            return work.lease(connection, space_id, owner=owner, limit=limit, lease_s=lease_s, asset_ids=asset_ids)

    def mark_indexed(self, space_id: SpaceId, embedded: Sequence[tuple[AssetId, float]]) -> list[AssetId]:
        """Note that pictures are in the index, with the norms of their raw embeddings; their work is done.

        Gives those that were deleted meanwhile, or all where the space was given up: their points must be removed.
        """
        with self._database.writing() as connection:
            return work.mark_indexed(connection, space_id, embedded)

    def fail_work(
        self,
        space_id: SpaceId,
        asset_id: AssetId,
        fault: PictureFault,
        reason: str,
        *,
        final: bool,
        retry_in_s: float = 0.0,
    ) -> None:
        """Note a failure: tried again after `retry_in_s`, or, when final, given up and its places quarantined."""
        with self._database.writing() as connection:
            work.fail(connection, space_id, asset_id, fault, reason, final=final, retry_in_s=retry_in_s)

    def renew_work(self, space_id: SpaceId, asset_ids: Sequence[AssetId], *, owner: str, lease_s: float) -> None:
        """Hold on to leased work for `lease_s` seconds from now."""
        with self._database.writing() as connection:
            work.renew(connection, space_id, asset_ids, owner=owner, lease_s=lease_s)

    def release_work(self, space_id: SpaceId, asset_ids: Sequence[AssetId]) -> None:
        """Give leased work back; the attempt does not count."""
        with self._database.writing() as connection:
            work.release(connection, space_id, asset_ids)

    def pending_work(self, space_id: SpaceId, *, at_most: int | None = None) -> int:
        """Count pictures that wait for their embedding, leased ones included; no further than `at_most`."""
        with self._database.reading() as connection:
            return work.pending(connection, space_id, at_most)

    def backlog(self) -> Backlog:
        """Count what is to be done, and tell how old the oldest of it is: cheap, however large the catalogue is."""
        with self._database.reading() as connection:
            return backlog(connection)

    def queue_for(self, space_id: SpaceId, asset_ids: Sequence[AssetId]) -> int:
        """Have pictures embedded again, as though they never had been; gives how many of them exist."""
        with self._database.writing() as connection:
            return work.queue_for(connection, space_id, asset_ids)

    def embedded(self, space_id: SpaceId, ids: Sequence[AssetId]) -> dict[AssetId, float]:
        """Give the norms of those pictures that are in the index of a space."""
        with self._database.reading() as connection:
            return {AssetId(id_): norm for id_, norm in work.embedded(connection, space_id, ids).items()}

    def forgotten(self, space_id: SpaceId, ids: Sequence[AssetId]) -> list[AssetId]:
        """Name those pictures that are neither in the index of a space, nor wait for it, nor were given up."""
        with self._database.reading() as connection:
            return work.forgotten(connection, space_id, ids)

    # --- pictures out

    def asset(self, tenant: TenantId, id: AssetId) -> Asset:  # noqa: A002  the field's word for it
        """Fetch one picture. Raises NotFound."""
        with self._database.reading() as connection:
            return assets.asset(connection, tenant, id)

    def assets(self, tenant: TenantId, ids: Sequence[AssetId]) -> dict[AssetId, Asset]:
        """Fetch those pictures of a tenant that exist, with one indexed select."""
        with self._database.reading() as connection:
            return assets.assets(connection, tenant, ids)

    def update_asset(
        self,
        tenant: TenantId,
        id: AssetId,  # noqa: A002  as above
        *,
        title: str | _Unset | None = UNSET,
        metadata: Metadata | _Unset = UNSET,
    ) -> Asset:
        """Set title, metadata (as a whole), or both. Raises NotFound."""
        changes: dict[str, Any] = {}
        if not isinstance(title, _Unset):
            changes["title"] = None if title is None else storable(title)
        if not isinstance(metadata, _Unset):
            changes["metadata"] = storable_metadata(metadata)
        with self._database.writing() as connection:
            return assets.change(connection, tenant, id, changes)

    def set_attributes(self, tenant: TenantId, told: Mapping[AssetId, Attributes]) -> None:
        """Write what was told from pictures' pixels; pictures that do not exist are ignored."""
        with self._database.writing() as connection:
            assets.set_attributes(connection, tenant, told)

    def delete_asset(self, tenant: TenantId, id: AssetId) -> Asset:  # noqa: A002  as above
        """Delete a picture with its places, work and embeddings; gives what it was. Raises NotFound."""
        with self._database.writing() as connection:
            return assets.remove(connection, tenant, id)

    def page_assets(self, *, tenant: TenantId | None, after: AssetId | None, limit: int) -> list[Asset]:
        """List pictures in the order of their ids, those greater than `after`."""
        with self._database.reading() as connection:
            return assets.page(connection, tenant, after, limit)

    def count_assets(self, tenant: TenantId | None, state: AssetState | None = None) -> int:
        """Count pictures of a tenant, or of all."""
        with self._database.reading() as connection:
            return assets.count(connection, tenant, state)

    def holders_of(self, sha256: Sha256) -> int:
        """Count the tenants that have a picture of these bytes: its blobs go with the last of them."""
        with self._database.reading() as connection:
            return assets.holders_of(connection, sha256)

    def locations_of(self, tenant: TenantId, asset_id: AssetId) -> list[str]:
        """List the places of a picture, in order."""
        with self._database.reading() as connection:
            return assets.locations_of(connection, tenant, asset_id)

    def places(self, ids: Sequence[AssetId]) -> dict[AssetId, tuple[str, ...]]:
        """List the places of each of these pictures, in order; those without any are left out."""
        with self._database.reading() as connection:
            return assets.places(connection, ids)

    def assets_named(self, tenant: TenantId, names: Collection[str]) -> dict[str, set[AssetId]]:
        """Find pictures by file name, or by more of the end of their place; names of nothing are left out."""
        with self._database.reading() as connection:
            return assets.named(connection, tenant, names)
