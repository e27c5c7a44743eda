"""Generations: kept once for each request, leased by whoever draws them, ended once.

A row goes queued -> running -> finished, failed or cancelled. Only the owner of the lease may end a running one, so
that what a worker brings that was thought dead is not taken a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Update, and_, func, or_, select, update

from phosphene.catalog.database import database_time, in_chunks, insert_into, later, now
from phosphene.catalog.generation_records import (
    Generation,
    GenerationPicture,
    GenerationState,
    NewGeneration,
    Parent,
    StepsDone,
)
from phosphene.catalog.ingests import ensure_tenant
from phosphene.catalog.models import GenerationRow, TenantRow
from phosphene.catalog.storable import storable
from phosphene.errors import Forbidden, InvalidQuery, NotFound, Overloaded
from phosphene.types import AssetId, GenerationId, Sha256, TenantId

BUDGET_WINDOW_S = 24 * 3600.0
PREPARE_S = 120.0  # for putting uploaded pictures in place
QUEUE_RETRY_S = 15.0  # about as long as one picture takes

_COLUMNS = [column for name, column in GenerationRow.__table__.c.items() if name != "withheld"]
_WAITING = (GenerationState.QUEUED, GenerationState.RUNNING)
_COUNTED = (*_WAITING, GenerationState.FINISHED)  # in the budget, and as the answer to the same request
_OWNER_CHARACTERS = 200


def add(
    connection: Connection, tenant: TenantId, new: NewGeneration, *, per_day: int | None, queue: int
) -> tuple[Generation, bool]:
    """Keep a request, unless the same one is kept already; tell whether it is new.

    Raises Overloaded where the tenant's budget of the last 24 hours or its queue is used up, InvalidQuery for more
    pictures than the budget ever has, Forbidden where it has none.
    """
    ensure_tenant(connection, tenant)
    # One request of a tenant at a time, or two could share what is left. SQLite has one writer anyway.
    connection.execute(select(TenantRow.id).where(TenantRow.id == tenant).with_for_update())
    kept = _kept(connection, tenant, new)
    if kept is not None:
        return kept, False
    _require_budget(connection, tenant, new.images, per_day)
    _require_room(connection, tenant, queue)
    _insert(connection, tenant, new)
    return one(connection, tenant, new.id), True


def _kept(connection: Connection, tenant: TenantId, new: NewGeneration) -> Generation | None:
    """Find the same request, unless it was drawn with other weights than its generator has now."""
    same = (GenerationRow.tenant_id == tenant, GenerationRow.key == new.key, GenerationRow.state.in_(_COUNTED))
    row = connection.execute(select(*_COLUMNS).where(*same)).one_or_none()
    if row is None:
        return None
    if row.state == GenerationState.FINISHED:
        latest = (
            select(GenerationRow.weights_sha256)
            .where(GenerationRow.generator == new.generator, GenerationRow.state == GenerationState.FINISHED)
            .order_by(GenerationRow.finished_at.desc(), GenerationRow.id)
            .limit(1)
        )
        if connection.execute(latest).scalar_one() != row.weights_sha256:
            forget(connection, GenerationId(row.id))
            return None
    return _generation(row)


def forget(connection: Connection, id_: GenerationId) -> None:
    """Let a finished generation no longer be the answer to its request."""
    finished = (GenerationRow.id == id_, GenerationRow.state == GenerationState.FINISHED)
    connection.execute(update(GenerationRow).where(*finished).values(key=None))


def _require_budget(connection: Connection, tenant: TenantId, images: int, per_day: int | None) -> None:
    if per_day is None:
        return
    if per_day == 0:
        raise Forbidden("no pictures are imagined here: PHOSPHENE_GENERATIONS_PER_DAY is 0")
    if images > per_day:
        raise InvalidQuery(f"{images} images are more than the {per_day} that may be asked for in 24 hours")
    at = now()
    window = timedelta(seconds=BUDGET_WINDOW_S)
    counted = (
        GenerationRow.tenant_id == tenant,
        GenerationRow.queued_at > at - window,
        GenerationRow.state.in_(_COUNTED),
    )
    asked = select(GenerationRow.queued_at, GenerationRow.images).where(*counted).order_by(GenerationRow.queued_at)
    rows = connection.execute(asked).all()
    used = sum(row.images for row in rows)
    left = per_day - used
    if images <= left:
        return
    for row in rows:  # those that leave the window first
        left += row.images
        if images <= left:
            wait = (row.queued_at + window - at).total_seconds()
            raise Overloaded(
                f"{used} of {per_day} pictures of the last 24 hours are asked for already, {images} more are too many: "
                f"try again in {_told(wait)}",
                retry_after_s=max(1.0, wait),
            )


def _told(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 90 else f"{round(minutes / 60)} h"


def _require_room(connection: Connection, tenant: TenantId, queue: int) -> None:
    waiting = (GenerationRow.tenant_id == tenant, GenerationRow.state.in_(_WAITING))
    count = connection.execute(select(func.count()).select_from(GenerationRow).where(*waiting)).scalar_one()
    if count >= queue:
        raise Overloaded(
            f"{count} generations are waiting or under way already: try again when one is done",
            retry_after_s=QUEUE_RETRY_S,
        )


def _insert(connection: Connection, tenant: TenantId, new: NewGeneration) -> None:
    at = now()
    held = later(connection, database_time(connection), PREPARE_S) if new.preparer is not None else None
    connection.execute(
        insert_into(connection, GenerationRow).values(
            id=new.id,
            tenant_id=tenant,
            key=new.key,
            state=GenerationState.QUEUED,
            generator=new.generator,
            request=dict(new.request),
            withheld=None if new.withheld is None else dict(new.withheld),
            prompt=None if new.prompt is None else storable(new.prompt),
            seed=new.seed,
            images=new.images,
            parents=[{"asset_id": str(parent.asset_id), "weight": parent.weight} for parent in new.parents],
            pictures=[],
            attempts=0,
            cancel_asked=False,
            lease_owner=new.preparer,
            lease_until=held,
            queued_at=at,
            rung_at=at,
        )
    )


def one(connection: Connection, tenant: TenantId, id_: GenerationId) -> Generation:
    """Fetch a generation. Raises NotFound."""
    mine = (GenerationRow.id == id_, GenerationRow.tenant_id == tenant)
    row = connection.execute(select(*_COLUMNS).where(*mine)).one_or_none()
    if row is None:
        raise NotFound(f"no generation {id_}")
    return _generation(row)


def latest(connection: Connection, tenant: TenantId, before: GenerationId | None, limit: int) -> list[Generation]:
    """List generations, the newest first, those older than `before`. Raises NotFound for an unknown `before`."""
    statement = select(*_COLUMNS).where(GenerationRow.tenant_id == tenant)
    if before is not None:
        at = one(connection, tenant, before).queued_at
        same_time = and_(GenerationRow.queued_at == at, GenerationRow.id < before)
        statement = statement.where(or_(GenerationRow.queued_at < at, same_time))
    statement = statement.order_by(GenerationRow.queued_at.desc(), GenerationRow.id.desc()).limit(limit)
    return [_generation(row) for row in connection.execute(statement)]


def lease(
    connection: Connection, id_: GenerationId, *, owner: str, lease_s: float, sole: str | None
) -> Generation | None:
    """Take a generation to draw it; its request is whole. None: it has ended, or somebody else is at it.

    `sole` begins the names of all owners that can be alive: the leases of others are void.
    """
    free = (GenerationRow.id == id_, GenerationRow.state.in_(_WAITING), _free(connection, sole))
    if _cancel_if_asked(connection, *free):
        return None
    row = connection.execute(
        update(GenerationRow)
        .where(*free)
        .values(
            state=GenerationState.RUNNING,
            lease_owner=owner[:_OWNER_CHARACTERS],
            lease_until=later(connection, database_time(connection), lease_s),
            attempts=GenerationRow.attempts + 1,
            started_at=func.coalesce(GenerationRow.started_at, now()),
            progress=None,
            preview=None,
        )
        .returning(*GenerationRow.__table__.c)
    ).one_or_none()
    return None if row is None else _generation(row, request=row.withheld)


def _free(connection: Connection, sole: str | None) -> ColumnElement[bool]:
    free = [GenerationRow.lease_until.is_(None), GenerationRow.lease_until <= database_time(connection)]
    if sole is not None:
        free.append(~GenerationRow.lease_owner.startswith(sole, autoescape=True))
    return or_(*free)


def _cancel_if_asked(connection: Connection, *which: ColumnElement[bool]) -> bool:
    asked = update(GenerationRow).where(*which, GenerationRow.cancel_asked.is_(True))
    return _done(connection, _ended(asked, GenerationState.CANCELLED))


def _ended(statement: Update, state: GenerationState, **values: Any) -> Update:  # noqa: ANN401  columns
    return statement.values(
        state=state,
        finished_at=now(),
        withheld=None,
        progress=None,
        preview=None,
        lease_owner=None,
        lease_until=None,
        **values,
    )


def _done(connection: Connection, statement: Update) -> bool:
    return connection.execute(statement).rowcount > 0


def _owned(id_: GenerationId, owner: str) -> tuple[ColumnElement[bool], ...]:
    return (
        GenerationRow.id == id_,
        GenerationRow.lease_owner == owner[:_OWNER_CHARACTERS],
        GenerationRow.state.in_(_WAITING),
    )


def renew(
    connection: Connection,
    id_: GenerationId,
    *,
    owner: str,
    lease_s: float,
    progress: StepsDone | None,
    preview: bytes | None,
) -> bool:
    """Say that it is being drawn still, and how far it is. False: it is to be cancelled, or ours no longer."""
    statement = update(GenerationRow).where(*_owned(id_, owner), GenerationRow.cancel_asked.is_(False))
    told = None if progress is None else {"stage": progress.stage, "step": progress.step, "of": progress.of}
    until = later(connection, database_time(connection), lease_s)
    return _done(connection, statement.values(lease_until=until, progress=told, preview=preview))


def finish(
    connection: Connection,
    id_: GenerationId,
    *,
    owner: str,
    model: str,
    weights_sha256: Sha256,
    pictures: Sequence[GenerationPicture],
) -> bool:
    """Note what was drawn. False, and nothing is noted: it is to be cancelled, or ours no longer."""
    statement = update(GenerationRow).where(*_owned(id_, owner), GenerationRow.cancel_asked.is_(False))
    stored = [_stored(picture) for picture in pictures]
    values = {"model": storable(model), "weights_sha256": weights_sha256, "pictures": stored, "error": None}
    return _done(connection, _ended(statement, GenerationState.FINISHED, **values))


def fail(
    connection: Connection, id_: GenerationId, *, owner: str | None, error: str | None, state: GenerationState
) -> bool:
    """Note that it ended without pictures. Without an owner: if nobody has begun. False: it was not ours to end."""
    which = (
        (GenerationRow.id == id_, GenerationRow.state == GenerationState.QUEUED)
        if owner is None
        else _owned(id_, owner)
    )
    told = None if error is None else storable(error)
    return _done(connection, _ended(update(GenerationRow).where(*which), state, error=told))


def release(connection: Connection, id_: GenerationId, *, owner: str, counted: bool) -> None:
    """Give it back to be taken again, or cancel it where that was asked; `counted`: the attempt counts."""
    if _cancel_if_asked(connection, *_owned(id_, owner)):
        return
    values: dict[str, Any] = {} if counted else {"attempts": GenerationRow.attempts - 1}
    connection.execute(
        update(GenerationRow)
        .where(*_owned(id_, owner))
        .values(
            state=GenerationState.QUEUED,
            lease_owner=None,
            lease_until=None,
            progress=None,
            preview=None,
            rung_at=now(),
            **values,
        )
    )


def cancel(connection: Connection, tenant: TenantId, id_: GenerationId) -> Generation:
    """Cancel what waits at once; ask who draws it to stop. What has ended stays as it is. Raises NotFound."""
    mine = (GenerationRow.id == id_, GenerationRow.tenant_id == tenant)
    waiting = update(GenerationRow).where(*mine, GenerationRow.state == GenerationState.QUEUED)
    if not _done(connection, _ended(waiting, GenerationState.CANCELLED)):
        running = update(GenerationRow).where(*mine, GenerationRow.state == GenerationState.RUNNING)
        connection.execute(running.values(cancel_asked=True, key=None))  # whoever asks the same anew gets it
    return one(connection, tenant, id_)


def lost(connection: Connection, limit: int, *, idle_s: float, sole: str | None) -> list[GenerationId]:
    """Find what nobody is at, the oldest first, and note that somebody is told of it now.

    That is what was running and whose lease has ended, and what waits and of which nobody was told for `idle_s`.
    """
    long_ago = GenerationRow.rung_at <= now() - timedelta(seconds=idle_s)
    died = and_(GenerationRow.state == GenerationState.RUNNING, GenerationRow.rung_at <= GenerationRow.lease_until)
    statement = (
        select(GenerationRow.id)
        .where(GenerationRow.state.in_(_WAITING), _free(connection, sole), or_(long_ago, died))
        .order_by(GenerationRow.queued_at, GenerationRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.execute(statement).scalars())
    if ids:
        connection.execute(update(GenerationRow).where(GenerationRow.id.in_(ids)).values(rung_at=now()))
    return [GenerationId(id_) for id_ in ids]


def unfinished(connection: Connection, ids: Sequence[GenerationId]) -> set[GenerationId]:
    """Tell which of these still need what was uploaded for them."""
    found: set[GenerationId] = set()
    for chunk in in_chunks(sorted(set(ids))):
        waiting = select(GenerationRow.id).where(GenerationRow.id.in_(chunk), GenerationRow.state.in_(_WAITING))
        found |= {GenerationId(id_) for id_ in connection.execute(waiting).scalars()}
    return found


def shown(connection: Connection, ids: Sequence[GenerationId]) -> dict[GenerationId, tuple[GenerationPicture, ...]]:
    """Give the pictures of those of these generations that there are."""
    found: dict[GenerationId, tuple[GenerationPicture, ...]] = {}
    for chunk in in_chunks(sorted(set(ids))):
        statement = select(GenerationRow.id, GenerationRow.pictures).where(GenerationRow.id.in_(chunk))
        for id_, pictures in connection.execute(statement):
            found[GenerationId(id_)] = tuple(_picture(place, stored) for place, stored in enumerate(pictures))
    return found


def accept(connection: Connection, tenant: TenantId, id_: GenerationId, place: int, asset: AssetId) -> None:
    """Note which asset a picture was accepted as. Raises NotFound."""
    mine = (GenerationRow.id == id_, GenerationRow.tenant_id == tenant)
    row = connection.execute(select(GenerationRow.pictures).where(*mine).with_for_update()).one_or_none()
    if row is None or not 0 <= place < len(row.pictures):
        raise NotFound(f"no picture {place} of a generation {id_}")
    pictures = [dict(picture) for picture in row.pictures]
    pictures[place]["asset_id"] = str(asset)
    connection.execute(update(GenerationRow).where(*mine).values(pictures=pictures))


def _stored(picture: GenerationPicture) -> dict[str, Any]:
    return {
        "seed": picture.seed,
        "sha256": picture.sha256,
        "width": picture.width,
        "height": picture.height,
        "format": picture.format,
        "asset_id": None if picture.asset_id is None else str(picture.asset_id),
    }


def _picture(place: int, stored: dict[str, Any]) -> GenerationPicture:
    asset = stored["asset_id"]
    return GenerationPicture(place, **stored | {"asset_id": None if asset is None else AssetId(UUID(asset))})


def _generation(row: Row[Any], *, request: dict[str, Any] | None = None) -> Generation:
    return Generation(
        id=GenerationId(row.id),
        tenant=TenantId(row.tenant_id),
        key=row.key,
        state=GenerationState(row.state),
        request=request or row.request,
        prompt=row.prompt,
        seed=row.seed,
        images=row.images,
        model=row.model,
        weights_sha256=None if row.weights_sha256 is None else Sha256(row.weights_sha256),
        parents=tuple(Parent(AssetId(UUID(one["asset_id"])), one["weight"]) for one in row.parents),
        pictures=tuple(_picture(place, stored) for place, stored in enumerate(row.pictures)),
        progress=None if row.progress is None else StepsDone(**row.progress),
        preview=row.preview,
        error=row.error,
        attempts=row.attempts,
        cancel_asked=row.cancel_asked,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
