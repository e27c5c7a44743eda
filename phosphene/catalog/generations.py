"""What was asked to be drawn, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.catalog import generation_rows
from phosphene.catalog.database import Database
from phosphene.catalog.generation_records import (
    Generation,
    GenerationPicture,
    GenerationState,
    NewGeneration,
    StepsDone,
)
from phosphene.types import AssetId, GenerationId, Sha256, TenantId


class Generations:
    """The generations of a catalogue; safe to use from many threads. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, tenant: TenantId, new: NewGeneration, *, per_day: int | None, queue: int) -> tuple[Generation, bool]:
        """Keep a request to be drawn; the same one that is kept already is given back, with False.

        Raises Overloaded, with the time when there is room again, where as many pictures were asked for in the last
        24 hours as may (`per_day`; None: no limit), or as many generations wait as may (`queue`); InvalidQuery for more
        pictures than ever may; Forbidden where none may.
        """
        with self._database.writing() as connection:
            return generation_rows.add(connection, tenant, new, per_day=per_day, queue=queue)

    def one(self, tenant: TenantId, id: GenerationId) -> Generation:  # noqa: A002  the field's word for it
        """Fetch a generation. Raises NotFound."""
        with self._database.reading() as connection:
            return generation_rows.one(connection, tenant, id)

    def latest(self, tenant: TenantId, *, before: GenerationId | None, limit: int) -> list[Generation]:
        """List generations, the newest first, those older than `before`. Raises NotFound for an unknown one."""
        with self._database.reading() as connection:
            return generation_rows.latest(connection, tenant, before, limit)

    def lease(
        self,
        id: GenerationId,  # noqa: A002  as above
        *,
        owner: str,
        lease_s: float,
        sole: str | None = None,
    ) -> Generation | None:
        """Take a generation to draw it, its request with what is withheld; each lease counts as an attempt.

        None: it has ended, or is held by another. `sole` begins the names of all owners that can be alive, where one
        process has the catalogue for itself: leases of others are void.
        """
        with self._database.writing() as connection:
            return generation_rows.lease(connection, id, owner=owner, lease_s=lease_s, sole=sole)

    def renew(
        self,
        id: GenerationId,  # noqa: A002  as above
        *,
        owner: str,
        lease_s: float,
        progress: StepsDone | None,
        preview: bytes | None,
    ) -> bool:
        """Go on holding it, and tell how far it is. False: it is to be cancelled, or is no longer the owner's."""
        with self._database.writing() as connection:
            return generation_rows.renew(
                connection, id, owner=owner, lease_s=lease_s, progress=progress, preview=preview
            )

    def finish(
        self,
        id: GenerationId,  # noqa: A002  as above
        *,
        owner: str,
        model: str,
        weights_sha256: Sha256,
        pictures: Sequence[GenerationPicture],
    ) -> bool:
        """Note what was drawn. False, and nothing is written: it is to be cancelled, or no longer the owner's."""
        with self._database.writing() as connection:
            return generation_rows.finish(
                connection, id, owner=owner, model=model, weights_sha256=weights_sha256, pictures=pictures
            )

    def fail(
        self,
        id: GenerationId,  # noqa: A002  as above
        *,
        owner: str | None,
        error: str | None,
        state: GenerationState = GenerationState.FAILED,
    ) -> bool:
        """End it without pictures, FAILED or CANCELLED. Without an owner: only while it waits. False: not ours."""
        with self._database.writing() as connection:
            return generation_rows.fail(connection, id, owner=owner, error=error, state=state)

    def release(self, id: GenerationId, *, owner: str, counted: bool = True) -> None:  # noqa: A002  as above
        """Give it back to be taken again; `counted`: as an attempt that failed."""
        with self._database.writing() as connection:
            generation_rows.release(connection, id, owner=owner, counted=counted)

    def cancel(self, tenant: TenantId, id: GenerationId) -> Generation:  # noqa: A002  as above
        """Cancel what waits, ask who draws it to stop; what has ended stays as it is. Raises NotFound."""
        with self._database.writing() as connection:
            return generation_rows.cancel(connection, tenant, id)

    def lost(self, limit: int, *, idle_s: float = 60.0, sole: str | None = None) -> list[GenerationId]:
        """Find what nobody is at: a dead worker's, and what waits and nobody was told of for `idle_s` seconds."""
        with self._database.writing() as connection:
            return generation_rows.lost(connection, limit, idle_s=idle_s, sole=sole)

    def unfinished(self, ids: Sequence[GenerationId]) -> set[GenerationId]:
        """Tell which of these wait or are under way."""
        with self._database.reading() as connection:
            return generation_rows.unfinished(connection, ids)

    def pictures(self, ids: Sequence[GenerationId]) -> dict[GenerationId, tuple[GenerationPicture, ...]]:
        """Give the pictures of those of these generations, of any tenant, that there are."""
        with self._database.reading() as connection:
            return generation_rows.shown(connection, ids)

    def forget(self, id: GenerationId) -> None:  # noqa: A002  as above
        """Let a finished generation no longer be the answer to its request: it will be drawn anew."""
        with self._database.writing() as connection:
            generation_rows.forget(connection, id)

    def accept(self, tenant: TenantId, id: GenerationId, place: int, asset_id: AssetId) -> None:  # noqa: A002  as above
        """Note which asset a generated picture was accepted as. Raises NotFound."""
        with self._database.writing() as connection:
            generation_rows.accept(connection, tenant, id, place, asset_id)
