"""Pixels to points: encode a batch, lose only what can't be encoded, write the rest durably.

Leases say who works on what. A lease counts as an attempt, so that a picture which kills its process again and again is
given up in the end; one that was tried before is tried alone, so that its neighbours don't pay for it.
"""

from __future__ import annotations

import contextvars
import logging
import math
import threading
from collections import defaultdict, deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from indexer.holding import holding
from indexer.lookahead import decode_ahead
from indexer.new_labels import label_new
from indexer.payload import payload_of
from indexer.sources.items import SourceItem
from phosphene import metrics
from phosphene.assemble import Engine
from phosphene.blobs import original_key
from phosphene.catalog.records import Asset, WorkItem
from phosphene.decoding import DecodedPicture
from phosphene.encoders import Encoder
from phosphene.errors import InvalidInput, ModelError, NotFound, PhospheneError, PictureError, PictureFault
from phosphene.life import show_life
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, Float32, Pixels, TenantId, UnitEmbeddings, point_id
from phosphene.vectors.base import Payload

MAX_ATTEMPTS = 4
IDS_IN_A_TASK = 64
PARTS = 4  # of a chunk: so much of it is read, encoded and written at a time
_FEWEST_IN_A_PART = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What became of a batch of n pictures: `kept` are the places in it of the rows in `unit` and `norms` (k,)."""

    kept: list[int]
    unit: UnitEmbeddings
    norms: Float32
    failures: dict[int, str]  # place in the batch -> reason


def encode_tolerantly(encoder: Encoder, pixels: Pixels) -> Embedded:
    """Encode (n, h, w, 3) uint8. Where the batch fails it is halved until the culprits stand alone.

    Raises ModelError where the encoder fails on a blank picture too: then it is not the pictures.
    """
    failures: dict[int, str] = {}
    rows: list[Float32] = []
    norms: list[Float32] = []
    kept: list[int] = []

    def encode(start: int, end: int) -> None:
        try:
            with metrics.embed_stage("forward"):
                raw = encoder.encode_pixels(pixels[start:end])
            unit = raw.unit()
        except (InvalidInput, RuntimeError, ValueError, MemoryError) as error:
            if end - start > 1:
                middle = (start + end) // 2
                encode(start, middle)
                encode(middle, end)
            else:
                failures[start] = f"the encoder fails on it: {_first_line(error)}"
            return
        rows.append(unit.rows)
        norms.append(raw.norms)
        kept.extend(range(start, end))

    if len(pixels):
        encode(0, len(pixels))
    if failures and not kept:
        _check_on_blank(encoder, pixels, failures)
    dimension = encoder.space.dimension
    return Embedded(
        kept=kept,
        unit=UnitEmbeddings(encoder.space, np.concatenate(rows) if rows else np.empty((0, dimension), np.float32)),
        norms=np.concatenate(norms) if norms else np.empty(0, np.float32),
        failures=failures,
    )


def _check_on_blank(encoder: Encoder, pixels: Pixels, failures: Mapping[int, str]) -> None:
    try:
        encoder.encode_pixels(np.full_like(pixels[:1], 127))
    except (InvalidInput, RuntimeError, ValueError, MemoryError) as error:
        reason = next(iter(failures.values()))
        raise ModelError(f"the model {encoder.space.model} can't encode any picture: {reason}") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def store(
    engine: Engine,
    space: OpenSpace,
    owners: Mapping[AssetId, TenantId],
    ids: Sequence[AssetId],
    embedded: Embedded,
    *,
    whole: bool = True,
) -> None:
    """Write the points of a batch, then note them as indexed, and quarantine what could not be encoded.

    `whole` False: it is a part of one, of which nobody asks how full it is.
    """
    with metrics.embed_stage("upsert"):
        _store(engine, space, owners, ids, embedded)
    if whole:
        metrics.BATCH_FILL.observe(len(ids) / space.batch_size)
    metrics.EMBEDDED.inc(len(embedded.kept))
    show_life()


def _store(
    engine: Engine, space: OpenSpace, owners: Mapping[AssetId, TenantId], ids: Sequence[AssetId], embedded: Embedded
) -> None:
    name = space.space.id
    label_new(engine, space, owners, [ids[place] for place in embedded.kept], embedded.unit.rows)
    payloads = payloads_of(engine, owners)
    there = [place for place, kept in enumerate(embedded.kept) if ids[kept] in payloads]
    named = [ids[embedded.kept[place]] for place in there]
    if named:
        space.index.upsert(
            [point_id(id_, name) for id_ in named],
            UnitEmbeddings(space.space, embedded.unit.rows[there]),
            [payloads[id_] for id_ in named],
        )
        norms = [float(embedded.norms[place]) for place in there]
        unwanted = engine.catalog.mark_indexed(name, list(zip(named, norms, strict=True)))
        if unwanted:
            space.index.delete([point_id(id_, name) for id_ in unwanted])
            # Deleted meanwhile, or embedded with a model that was given up meanwhile: these wait for the one in use.
            embed_assets(unwanted, engine=engine, spaces=[one for one in engine.written() if one is not space])
        renew_payloads(engine, owners, [space], written={id_: payloads[id_] for id_ in named})
    for place, reason in embedded.failures.items():
        engine.catalog.fail_work(name, ids[place], PictureFault.EMBEDDING_FAILED, reason, final=True)


def renew_payloads(
    engine: Engine,
    owners: Mapping[AssetId, TenantId],
    spaces: Sequence[OpenSpace],
    *,
    written: Mapping[AssetId, Payload] | None = None,
) -> None:
    """Write payloads until they say what the rows say; `written` are those that the points have already.

    Others may describe a picture anew at the same time. Whoever wrote looks at the rows once more: so the last one to
    write has seen the last change.
    """
    said = dict(written or {})
    while True:
        rows = payloads_of(engine, owners)
        changed = {id_: payload for id_, payload in rows.items() if said.get(id_) != payload}
        if not changed:
            return
        for space in spaces:
            with engine.spaces.while_open(space) as there:
                if there:
                    space.index.set_payloads([point_id(id_, space.space.id) for id_ in changed], list(changed.values()))
        said |= changed


def payloads_of(engine: Engine, owners: Mapping[AssetId, TenantId]) -> dict[AssetId, Payload]:
    """Give what the points of pictures of several tenants carry, of those that still exist."""
    assets = assets_of(engine, owners)
    places = engine.catalog.places(list(assets))
    return {id_: payload_of(asset, places.get(id_, ())) for id_, asset in assets.items()}


def assets_of(engine: Engine, owners: Mapping[AssetId, TenantId]) -> dict[AssetId, Asset]:
    """Fetch the pictures of several tenants, those that still exist."""
    by_tenant: dict[TenantId, list[AssetId]] = defaultdict(list)
    for id_, tenant in owners.items():
        by_tenant[tenant].append(id_)
    assets: dict[AssetId, Asset] = {}
    for tenant, ids in by_tenant.items():
        assets |= engine.catalog.assets(tenant, ids)
    return assets


def task_size(space: OpenSpace) -> int:
    """Tell how many pictures a task carries: some 64, or a batch where batches are larger."""
    return max(IDS_IN_A_TASK, space.batch_size)


def embed_assets(asset_ids: Sequence[AssetId], *, engine: Engine, spaces: Sequence[OpenSpace] | None = None) -> int:
    """Embed pictures that wait for it: lease, blob, decode, encode, point, row. Gives how many were indexed.

    In these spaces, or else in all that are written: two while the model is being changed. Pictures that nobody waits
    for, or that someone else works on, are left alone. Where a store fails, the pictures are given back and the error
    is raised: the same call may be made again.
    """
    done = 0
    for space in engine.written() if spaces is None else spaces:
        with engine.spaces.while_open(space) as there:
            for chunk in _chunks(asset_ids, space.batch_size) if there else ():
                done += _work_on(_lease(engine, space, limit=len(chunk), asset_ids=chunk), engine, space)
    return done


def sweep(*, engine: Engine, stop: threading.Event | None = None) -> int:
    """Embed all pictures that wait and that nobody works on: what dead processes and lost tasks left behind."""
    first, *others = engine.written()
    done = sweep_space(first, engine=engine, stop=stop)
    for space in others:
        with engine.spaces.while_open(space) as there:
            done += sweep_space(space, engine=engine, stop=stop, in_turn=False) if there else 0
    return done


def sweep_space(
    space: OpenSpace,
    *,
    engine: Engine,
    stop: threading.Event | None = None,
    most: int | None = None,
    in_turn: bool = True,
) -> int:
    """Embed the pictures that wait for one space, or about so many of them; gives how many were indexed.

    Where one process has the catalogue for itself, its leases mean nothing, so one thread at a time does this.
    `in_turn` False: not where another one is at it.
    """
    alone = engine.settings.embedded
    if alone and not space.sweeping.acquire(blocking=in_turn):
        return 0
    done = seen = 0
    try:
        with space.held():
            while (stop is None or not stop.is_set()) and (most is None or seen < most):
                items = _lease(engine, space, limit=space.batch_size)
                if not items:
                    break
                seen += len(items)
                done += _work_on(items, engine, space)
    finally:
        if alone:
            space.sweeping.release()
    return done


def _chunks(ids: Sequence[AssetId], size: int) -> list[Sequence[AssetId]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _lease(
    engine: Engine, space: OpenSpace, *, limit: int, asset_ids: Sequence[AssetId] | None = None
) -> list[WorkItem]:
    # An embedded data folder has one process: its leases need not outlive it, and the next process finds them free.
    lease_s = 0.0 if engine.settings.embedded else engine.settings.lease_s
    return engine.catalog.lease_work(
        space.space.id, owner=_owner(engine), limit=limit, lease_s=lease_s, asset_ids=asset_ids
    )


def _owner(engine: Engine) -> str:
    return f"{engine.owner}/{threading.get_ident()}"


def _work_on(items: Sequence[WorkItem], engine: Engine, space: OpenSpace) -> int:
    """Embed leased pictures: those of a first attempt together, the others each alone."""
    again = [item.asset_id for item in items if item.attempts > 1]
    if again:
        engine.catalog.release_work(space.space.id, again)
    done = _embed([item for item in items if item.attempts == 1], engine, space)
    for id_ in again:
        for item in _lease(engine, space, limit=1, asset_ids=[id_]):
            if item.attempts > MAX_ATTEMPTS:
                reason = f"given up: its process died or failed in each of {MAX_ATTEMPTS} attempts"
                engine.catalog.fail_work(item.space_id, id_, PictureFault.EMBEDDING_FAILED, reason, final=True)
            else:
                done += _embed([item], engine, space)
    return done


def _embed(items: Sequence[WorkItem], engine: Engine, space: OpenSpace) -> int:
    if not items:
        return 0
    try:
        with _holding(items, engine):
            return _embed_from_blobs(items, engine, space)
    except (PhospheneError, KeyboardInterrupt, SystemExit):
        engine.catalog.release_work(space.space.id, [item.asset_id for item in items])
        raise


def _holding(items: Sequence[WorkItem], engine: Engine) -> AbstractContextManager[None]:
    """Hold on to leased pictures, so that they are free again soon after this process has died."""
    if engine.settings.embedded:
        return nullcontext()
    owner, lease_s = _owner(engine), engine.settings.lease_s
    ids = [item.asset_id for item in items]

    def renew() -> None:
        engine.catalog.renew_work(items[0].space_id, ids, owner=owner, lease_s=lease_s)

    return holding(renew, lease_s=lease_s)


def _embed_from_blobs(items: Sequence[WorkItem], engine: Engine, space: OpenSpace) -> int:
    """Embed a chunk part by part: while one is encoded, the next is read and decoded and the one before is written."""
    owners = {item.asset_id: item.tenant for item in items}
    assets = list(assets_of(engine, owners).values())
    if len(assets) > 1:  # a single upload is waited for
        space.ready_for_pictures()
    size = max(_FEWEST_IN_A_PART, math.ceil(len(assets) / PARTS))
    encoded = done = 0
    writing: deque[Future[None]] = deque()
    with (
        closing(_decoded(assets, engine, space, max_ahead=2 * size)) as decoded,
        ThreadPoolExecutor(1, thread_name_prefix="writer") as writer,
    ):
        while part := list(islice(decoded, size)):
            usable: dict[AssetId, Pixels] = {}
            for id_, picture in part:
                if isinstance(picture, PictureError):
                    engine.catalog.fail_work(space.space.id, id_, picture.fault, str(picture), final=True)
                elif picture.pixels is not None:
                    usable[id_] = picture.pixels
            if not usable:
                continue
            embedded = encode_tolerantly(space.encoder, np.stack(list(usable.values())))
            here = contextvars.copy_context()  # log lines, spans and signs of life there belong to the job here
            of_part = {id_: owners[id_] for id_ in usable}
            write = partial(store, engine, space, of_part, list(usable), embedded, whole=False)
            writing.append(writer.submit(here.run, write))
            while len(writing) > 1 or (writing and writing[0].done()):
                writing.popleft().result()
            encoded += len(usable)
            done += len(embedded.kept)
        for one in writing:
            one.result()
    if encoded:
        metrics.BATCH_FILL.observe(encoded / space.batch_size)
    return done


def _decoded(
    assets: Sequence[Asset], engine: Engine, space: OpenSpace, *, max_ahead: int
) -> Generator[tuple[AssetId, DecodedPicture | PictureError]]:
    def read(asset: Asset) -> bytes:
        try:
            return engine.blobs.get(original_key(asset.sha256))
        except NotFound as error:
            raise PictureError(
                PictureFault.UNREADABLE, "its original is gone from the blob store: ingest the file again"
            ) from error

    items = [SourceItem(uri="", fingerprint=None, read=partial(read, asset), size=asset.bytes) for asset in assets]
    pictures = decode_ahead(
        items,
        decoders=engine.decoders,
        spec=space.space.pixels,
        thumbnail=False,
        max_ahead=max_ahead,
        stop=threading.Event(),
    )
    with closing(pictures):
        for asset, picture in zip(assets, pictures, strict=True):
            if picture.decoded is not None:  # as always: blobs are not asked whether they changed
                yield asset.id, picture.decoded
