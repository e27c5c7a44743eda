"""Changes of the model: which space answers, which are written, and how far the one under way has come.

All of it is in two tables, so that whoever is killed where, the next process reads what is to be done. The pointer says
which space answers. It comes to be with the first change of the model; before that, the settings say it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, delete, exists, func, or_, select, update
from sqlalchemy.orm import aliased

from phosphene.catalog import work
from phosphene.catalog.backlog import COUNTED_AT_MOST
from phosphene.catalog.database import Database, database_time, insert_into, later, now
from phosphene.catalog.models import (
    AssetRow,
    CalibrationRow,
    EmbeddingRow,
    LabelModelRow,
    PointerRow,
    ReindexRow,
    SpaceRow,
    WorkRow,
)
from phosphene.catalog.records import AssetState, LabelModelKind, NamedSpace, Reindex, ReindexState, Serving
from phosphene.catalog.spaces import ANSWERS, WRITES_BOTH, hold_spaces, space_of
from phosphene.catalog.storable import storable
from phosphene.errors import InvalidInput, NotFound
from phosphene.types import AssetId, ReindexId, Space, SpaceId, TenantId

PACE_GAP_S = 120.0  # nobody was at it for so long: the pace is measured anew
_FORGOTTEN_AT_ONCE = 5000
_FROM_THE_FIRST: Mapping[str, None] = {"cursor": None, "pass_ended_at": None}


class Reindexes:
    """The changes of the model that a catalogue knows; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serving(self) -> Serving | None:
        """Say which space answers and which are written; None where the model was never changed."""
        with self._database.reading() as connection:
            return serving(connection)

    def active(self) -> Reindex | None:
        """Give the change under way: up to its end, and until what is left of a space is cleared away."""
        with self._database.reading() as connection:
            return _active(connection)

    def latest(self) -> Reindex | None:
        """Give the change under way, or the last one."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(ReindexRow).order_by(ReindexRow.active.is_(None), ReindexRow.started_at.desc()).limit(1)
            ).one_or_none()
            return None if row is None else _reindex(connection, row)

    def start(self, before: NamedSpace, after: NamedSpace, options: Mapping[str, Any]) -> Reindex:
        """Begin: from now on both spaces, recorded before, are written. Raises InvalidInput while another is active."""
        with self._database.writing() as connection:
            hold_spaces(connection, change=True)
            at = now()
            total = connection.execute(select(func.count()).select_from(AssetRow)).scalar_one()
            values = {
                "id": uuid4(),
                "active": True,
                "state": ReindexState.BUILDING,
                "before_id": before.space.id,
                "before_model": before.model,
                "after_id": after.space.id,
                "after_model": after.model,
                "options": dict(options),
                "total": total,
                "seen": 0,
                "paced_at": at,
                "paced_done": 0,
                "started_at": at,
                "touched_at": at,
            }
            insert = insert_into(connection, ReindexRow).on_conflict_do_nothing().returning(ReindexRow.id)
            if connection.execute(insert, values).first() is None:
                raise InvalidInput("another change of the model is under way: phosphene reindex --status")
            pointer = {"name": ANSWERS, "space_id": before.space.id, "model": before.model, "changed_at": at}
            connection.execute(insert_into(connection, PointerRow).on_conflict_do_nothing(), pointer)
            return _require(connection)

    def renew_options(self, id_: ReindexId, options: Mapping[str, Any]) -> None:
        """Take other options, as long as the space before answers; what is built is gone over and judged again."""
        with self._database.writing() as connection:
            connection.execute(
                update(ReindexRow)
                .where(ReindexRow.id == id_, ReindexRow.state != ReindexState.SWAPPED)
                .values(options=dict(options), error=None)
            )
            judged = (ReindexState.CHECKING, ReindexState.REFUSED, ReindexState.READY)
            _change(connection, id_, judged, ReindexState.BUILDING, **_FROM_THE_FIRST)

    def ask_swap(self, id_: ReindexId) -> None:
        """Have the new space answer as soon as it is ready. Raises InvalidInput where the gates refused it."""
        with self._database.writing() as connection:
            reindex = _require(connection, id_)
            if reindex.state is ReindexState.REFUSED:
                raise InvalidInput("the new model did not pass the gates: ask again with others, or --abort")
            connection.execute(
                update(ReindexRow)
                .where(ReindexRow.id == id_)
                .values(options={**reindex.options, "swap": True}, touched_at=now())
            )

    # --- building

    def lease(self, *, owner: str, lease_s: float) -> Reindex | None:
        """Take the change under way, to do its next step; None where there is none or another is at it."""
        with self._database.writing() as connection:
            at = database_time(connection)
            free = or_(ReindexRow.lease_until.is_(None), ReindexRow.lease_until <= at, ReindexRow.lease_owner == owner)
            taken = connection.execute(
                update(ReindexRow)
                .where(ReindexRow.active.is_(True), free)
                .values(lease_owner=owner[:200], lease_until=later(connection, at, lease_s))
            ).rowcount
            if not taken:
                return None
            reindex = _require(connection)
            if (now() - reindex.touched_at).total_seconds() > PACE_GAP_S:
                paced = {"paced_at": now(), "paced_done": reindex.done, "touched_at": now()}
                connection.execute(update(ReindexRow).where(ReindexRow.id == reindex.id).values(**paced))
            return reindex

    def renew(self, id_: ReindexId, *, owner: str, lease_s: float) -> bool:
        """Hold on to it. False: it is another's."""
        with self._database.writing() as connection:
            until = later(connection, database_time(connection), lease_s)
            mine = update(ReindexRow).where(ReindexRow.id == id_, ReindexRow.lease_owner == owner[:200])
            return connection.execute(mine.values(lease_until=until)).rowcount == 1

    def release(self, id_: ReindexId, *, owner: str, error: str | None = None) -> None:
        """Let others take it; `error` says why the step did not get on."""
        with self._database.writing() as connection:
            connection.execute(
                update(ReindexRow)
                .where(ReindexRow.id == id_, ReindexRow.lease_owner == owner[:200])
                .values(lease_owner=None, lease_until=None, error=None if error is None else storable(error))
            )

    def queue_page(self, reindex: Reindex, *, limit: int) -> list[AssetId]:
        """Have the next so many pictures embedded in the new space; give those that are not.

        The end of a pass is noted. Nothing is queued once the change is no longer being built.
        """
        with self._database.writing() as connection:
            row = connection.execute(
                select(ReindexRow.cursor, ReindexRow.pass_ended_at, ReindexRow.missing)
                .where(ReindexRow.id == reindex.id, ReindexRow.state == ReindexState.BUILDING)
                .with_for_update()
            ).one_or_none()
            if row is None or row.pass_ended_at is not None:
                return []
            there = exists().where(
                EmbeddingRow.asset_id == AssetRow.id, EmbeddingRow.space_id == reindex.after.space.id
            )
            page = select(AssetRow.id, AssetRow.state, there.label("there")).order_by(AssetRow.id).limit(limit)
            rows = connection.execute(page if row.cursor is None else page.where(AssetRow.id > row.cursor)).all()
            wanted = {one.id for one in rows if not one.there and one.state != AssetState.FAILED}
            if wanted:
                work.queue(connection, reindex.after.space.id, wanted, None)
            at = now()
            values: dict[str, Any] = {"touched_at": at}
            if rows:
                values["cursor"] = rows[-1].id
                if row.missing is None:
                    values["seen"] = ReindexRow.seen + len(rows)
            else:
                values["pass_ended_at"] = at
            connection.execute(update(ReindexRow).where(ReindexRow.id == reindex.id).values(values))
            return sorted(AssetId(id_) for id_ in wanted)

    def unfinished(self, reindex: Reindex) -> bool:
        """Tell whether pictures that the pass has queued still wait; those that came in since don't count."""
        with self._database.reading() as connection:
            statement = select(WorkRow.asset_id).where(WorkRow.space_id == reindex.after.space.id).limit(1)
            if reindex.pass_ended_at is not None:
                statement = statement.where(WorkRow.queued_at <= reindex.pass_ended_at)
            return connection.execute(statement).first() is not None

    def left_behind(self, space: SpaceId, *, older_than_s: float, limit: int) -> list[AssetId]:
        """Name pictures that have waited so long for a space that whoever registered them does not embed them there."""
        with self._database.reading() as connection:
            before = now() - timedelta(seconds=older_than_s)
            statement = select(WorkRow.asset_id).where(WorkRow.space_id == space, WorkRow.queued_at <= before)
            found = connection.execute(statement.order_by(WorkRow.queued_at).limit(limit)).scalars()
            return [AssetId(id_) for id_ in found]

    def close_pass(self, reindex: Reindex) -> int | None:
        """Count what the new space lacks after a pass: if that is less than after the pass before, go over it again.

        Gives the count when no further pass would help, and the state is CHECKING then; None when there is one more.
        Pictures that no pass can embed are in quarantine.
        """
        missing = self.missing(reindex)
        with self._database.writing() as connection:
            if missing and (reindex.missing is None or missing < reindex.missing):
                again = {"cursor": None, "pass_ended_at": None, "missing": missing}
                connection.execute(update(ReindexRow).where(ReindexRow.id == reindex.id).values(**again))
                return None
            connection.execute(update(ReindexRow).where(ReindexRow.id == reindex.id).values(missing=missing))
            _change(connection, reindex.id, (ReindexState.BUILDING,), ReindexState.CHECKING)
            return missing

    def missing(self, reindex: Reindex) -> int:
        """Count the pictures of the space before that are neither in the new one nor on their way there."""
        with self._database.reading() as connection:
            return _missing(connection, reindex)

    # --- from one state to the next

    def judged(self, id_: ReindexId, report: Mapping[str, Any], *, passed: bool) -> bool:
        """Note how the gates went."""
        with self._database.writing() as connection:
            to = ReindexState.READY if passed else ReindexState.REFUSED
            return _change(connection, id_, (ReindexState.CHECKING,), to, report=dict(report))

    def swap(self, id_: ReindexId, *, whatever_waits: bool = False) -> bool:
        """Let the new space answer. False while pictures wait for it that the one before has.

        Where it has come to lack more than it may since the gates were asked, all is gone over and judged again. That
        is counted before the transaction, which writes wait for: who registers a picture queues it for both spaces.
        """
        with self._database.reading() as connection:
            missing = _missing(connection, _require(connection, id_))
        with self._database.writing() as connection:
            reindex = _require(connection, id_)
            if reindex.state is ReindexState.READY:
                if missing > reindex.options.get("max_missing", 0):
                    _change(connection, id_, (ReindexState.READY,), ReindexState.BUILDING, **_FROM_THE_FIRST)
                    return False
                if not whatever_waits and _is_behind(connection, reindex):
                    return False
            if not _change(connection, id_, (ReindexState.READY,), ReindexState.SWAPPED, swapped_at=now()):
                raise InvalidInput(f"the new model can't answer now: the change is {reindex.state}")
            _point(connection, reindex.after)
            return True

    def roll_back(self, id_: ReindexId) -> None:
        """Let the space before answer again; the new one is kept and kept in step. Raises InvalidInput."""
        with self._database.writing() as connection:
            reindex = _require(connection, id_)
            held = {**reindex.options, "swap": False}  # until somebody asks for the swap again
            if not _change(connection, id_, (ReindexState.SWAPPED,), ReindexState.READY, options=held):
                raise InvalidInput(f"there is nothing to roll back: the change is {reindex.state}")
            _point(connection, reindex.before)

    def finish(self, id_: ReindexId) -> None:
        """Give up the space before: nothing is written there from now on. Raises InvalidInput."""
        with self._database.writing() as connection:
            reindex = _require(connection, id_)
            if not _change(connection, id_, (ReindexState.SWAPPED,), ReindexState.FINISHED, ended_at=now()):
                raise InvalidInput(f"{reindex.before.model} still answers (the change is {reindex.state}): swap first")

    def abort(self, id_: ReindexId) -> None:
        """Give up the new space: nothing is written there from now on. Raises InvalidInput where it answers."""
        with self._database.writing() as connection:
            reindex = _require(connection, id_)
            given_up = tuple(state for state in WRITES_BOTH if state is not ReindexState.SWAPPED)
            if not _change(connection, id_, given_up, ReindexState.ABORTED, ended_at=now()):
                if reindex.state is ReindexState.SWAPPED:
                    raise InvalidInput(f"{reindex.after.model} answers now: phosphene reindex --rollback comes first")
                raise InvalidInput(f"the change is {reindex.state} already")
            ever = connection.execute(select(ReindexRow.id).where(ReindexRow.swapped_at.is_not(None)).limit(1)).first()
            if ever is None:  # as though it had never been: the settings say the model again
                connection.execute(delete(PointerRow))

    def forget_part(self, space: SpaceId) -> int:
        """Delete some of what the rows say of a dropped space; give how many pictures: 0 when nothing is left."""
        with self._database.writing() as connection:
            connection.execute(delete(WorkRow).where(WorkRow.space_id == space))
            connection.execute(delete(CalibrationRow).where(CalibrationRow.space_id == space))
            learned = LabelModelRow.kind == LabelModelKind.CALIBRATION  # others can be made again from their examples
            connection.execute(delete(LabelModelRow).where(LabelModelRow.space_id == space, learned))
            some = select(EmbeddingRow.asset_id).where(EmbeddingRow.space_id == space).limit(_FORGOTTEN_AT_ONCE)
            gone = delete(EmbeddingRow).where(EmbeddingRow.space_id == space, EmbeddingRow.asset_id.in_(some))
            return connection.execute(gone).rowcount

    def dropped(self, id_: ReindexId) -> None:
        """Note that nothing is left to be done."""
        with self._database.writing() as connection:
            connection.execute(update(ReindexRow).where(ReindexRow.id == id_).values(active=None, lease_until=None))

    def embedded(self, space: SpaceId) -> int:
        """Count the pictures that are in the index of a space."""
        with self._database.reading() as connection:
            statement = select(func.count()).select_from(EmbeddingRow).where(EmbeddingRow.space_id == space)
            return connection.execute(statement).scalar_one()

    def calibrated_tenants(self, space: SpaceId) -> list[TenantId]:
        """Name the tenants whose matches are told by a calibration in a space."""
        with self._database.reading() as connection:
            statement = select(CalibrationRow.tenant_id).where(CalibrationRow.space_id == space).distinct()
            return sorted(TenantId(tenant) for tenant in connection.execute(statement).scalars())


def serving(connection: Connection) -> Serving | None:
    """Say which space answers and which are written, that one first; None where the model was never changed."""
    statement = select(PointerRow).where(PointerRow.name == ANSWERS)
    pointer = connection.execute(statement).one_or_none()
    if pointer is None:
        return None
    answers = NamedSpace(pointer.model, _space(connection, pointer.space_id))
    others = [one for one in _both(connection) if one.space.id != pointer.space_id]
    return Serving(answers, (answers, *others), pointer.changed_at)


def _both(connection: Connection) -> Sequence[NamedSpace]:
    row = connection.execute(
        select(ReindexRow).where(ReindexRow.active.is_(True), ReindexRow.state.in_(WRITES_BOTH))
    ).one_or_none()
    if row is None:
        return ()
    return (
        NamedSpace(row.before_model, _space(connection, row.before_id)),
        NamedSpace(row.after_model, _space(connection, row.after_id)),
    )


def _active(connection: Connection) -> Reindex | None:
    row = connection.execute(select(ReindexRow).where(ReindexRow.active.is_(True))).one_or_none()
    return None if row is None else _reindex(connection, row)


def _require(connection: Connection, id_: ReindexId | None = None) -> Reindex:
    reindex = _active(connection)
    if reindex is None or (id_ is not None and reindex.id != id_):
        raise NotFound("no change of the model is under way: phosphene reindex --model NAME starts one")
    return reindex


def _change(
    connection: Connection,
    id_: ReindexId,
    before: Sequence[ReindexState],
    to: ReindexState,
    **more: datetime | Mapping[str, Any] | None,
) -> bool:
    """Go from one of these states to another; False where it is in none of them."""
    statement = update(ReindexRow).where(
        ReindexRow.id == id_, ReindexRow.active.is_(True), ReindexRow.state.in_(before)
    )
    return connection.execute(statement.values(state=to, error=None, touched_at=now(), **more)).rowcount == 1


def _point(connection: Connection, to: NamedSpace) -> None:
    values = {"space_id": to.space.id, "model": to.model, "changed_at": now()}
    connection.execute(update(PointerRow).where(PointerRow.name == ANSWERS).values(**values))


def _missing(connection: Connection, reindex: Reindex) -> int:
    """Count the pictures of the space before that are neither in the new one nor on their way there."""
    after = reindex.after.space.id
    old, new = aliased(EmbeddingRow), aliased(EmbeddingRow)
    there = exists().where(new.asset_id == old.asset_id, new.space_id == after)
    coming = exists().where(WorkRow.asset_id == old.asset_id, WorkRow.space_id == after)
    statement = select(func.count()).select_from(old).where(old.space_id == reindex.before.space.id, ~there, ~coming)
    return connection.execute(statement).scalar_one()


def _is_behind(connection: Connection, reindex: Reindex) -> bool:
    there = exists().where(EmbeddingRow.asset_id == WorkRow.asset_id, EmbeddingRow.space_id == reindex.before.space.id)
    waits = select(WorkRow.asset_id).where(WorkRow.space_id == reindex.after.space.id, there).limit(1)
    return connection.execute(waits).first() is not None


def _space(connection: Connection, id_: str) -> Space:
    return space_of(connection.execute(select(SpaceRow).where(SpaceRow.id == id_)).one())


def _reindex(connection: Connection, row: Row[Any]) -> Reindex:
    after = _space(connection, row.after_id)
    return Reindex(
        id=ReindexId(row.id),
        state=ReindexState(row.state),
        before=NamedSpace(row.before_model, _space(connection, row.before_id)),
        after=NamedSpace(row.after_model, after),
        options=row.options,
        report=row.report,
        error=row.error,
        total=row.total,
        seen=row.seen,
        waiting=work.pending(connection, after.id, COUNTED_AT_MOST) if row.active else 0,
        pass_ended_at=row.pass_ended_at,
        missing=row.missing,
        paced_at=row.paced_at,
        paced_done=row.paced_done,
        started_at=row.started_at,
        touched_at=row.touched_at,
        swapped_at=row.swapped_at,
        ended_at=row.ended_at,
        dropped=row.active is None,
    )
