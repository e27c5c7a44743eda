"""Compare what is stored where: catalogue, blobs and index; mend what differs, since the catalogue is the truth.

Everything is read in pages, so memory stays bounded however large the catalogue is.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from uuid import UUID

from indexer.embedding import assets_of, payloads_of, sweep_space
from phosphene.assemble import Engine
from phosphene.attributes import Attributes
from phosphene.blobs import GENERATION_INPUTS, GENERATIONS, generation_key, original_key, thumbnail_key
from phosphene.catalog.records import Asset, AssetState, IngestState, ReindexState
from phosphene.errors import DamagedData, PictureError
from phosphene.generation.request import clear_away
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, GenerationId, PointId, Sha256, TenantId, asset_id, point_id, sha256_of
from phosphene.vectors.base import Payload, StoredPoint

PAGE = 500
EXAMPLES = 5  # shown of each kind of difference
MAX_DELETED = 10_000  # unused blobs in one run; the next one goes on
UPLOAD_GRACE_S = 2.0


class Difference(StrEnum):
    """What can be wrong, and what --repair does about it."""

    DAMAGED_INDEX = "damaged_index"  # the index can't be opened: made anew, then all is embedded again
    MISSING_POINT = "missing_point"  # indexed says the row, the index has no such point: embedded again
    ORPHAN_POINT = "orphan_point"  # a point without a row, or of a picture not embedded: deleted
    STALE_PAYLOAD = "stale_payload"  # the payload is not what the row says: written anew
    MISSING_ORIGINAL = "missing_original"  # a row without its bytes: can't be mended, ingest the file again
    DAMAGED_ORIGINAL = "damaged_original"  # other bytes than the row says: can't be mended either
    MISSING_THUMBNAIL = "missing_thumbnail"  # made anew
    MISSING_ATTRIBUTES = "missing_attributes"  # ingested before there were any, or these: told from the original
    LEFTOVER_WORK = "leftover_work"  # pictures that wait for their embedding: embedded
    FORGOTTEN = "forgotten"  # pictures that are not embedded and that nobody is to embed: embedded
    UNUSED_BLOB = "unused_blob"  # bytes that no row needs, as a killed ingest leaves them: deleted
    COUNT_MISMATCH = "count_mismatch"  # the index counts another number of points than it lists: read the message


@dataclass(slots=True)
class VerifyReport:
    """What was compared and what differed. `counts` and `mended` are by Difference; examples are ids and keys."""

    assets: int = 0
    points: int = 0
    blobs: int = 0
    repaired: bool = False  # whether mending was asked for
    counts: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing differs, or all that differed is mended."""
        return all(self.mended.get(kind, 0) >= number for kind, number in self.counts.items())

    def add(self, kind: Difference, examples: Sequence[str], *, mended: bool = False) -> None:
        """Note differences of one kind."""
        if not examples:
            return
        self.counts[kind] = self.counts.get(kind, 0) + len(examples)
        shown = self.examples.setdefault(kind, [])
        shown.extend(examples[: EXAMPLES - len(shown)])
        if mended:
            self.mend(kind, len(examples))

    def mend(self, kind: Difference, number: int) -> None:
        """Note that differences noted before are mended."""
        if number:
            self.mended[kind] = self.mended.get(kind, 0) + number


def verify(*, engine: Engine, repair: bool, deep: bool = False) -> VerifyReport:
    """Compare catalogue, blobs and index page by page; with `repair`, mend what can be mended.

    `deep` also reads every original and hashes it. Run it while nothing is being ingested: what is on its way looks
    like a difference, though mending it does no harm.
    """
    with engine.answering() as space:
        report = _verify(engine, space, repair=repair, deep=deep)
    active = engine.catalog.reindexes.active()
    if active is not None and active.state is not ReindexState.BUILDING:
        for other in engine.written():
            if other is not space:
                with other.held():
                    _verify_other(engine, other, report, repair=repair)
    if report.ok:
        for one in engine.written():
            engine.catalog.settle_points(one.space.id)
    return report


def outdated(engine: Engine) -> str | None:
    """Say in one line that pictures came in before points carried what they do now; None: there are none."""
    pictures = engine.catalog.outdated_points(engine.current.space.id)
    if not pictures:
        return None
    return (
        f"{pictures:,} pictures were indexed by an earlier version, and may lack words and attributes to be found by: "
        "phosphene verify --repair"
    )


def _verify(engine: Engine, space: OpenSpace, *, repair: bool, deep: bool) -> VerifyReport:
    report = VerifyReport(repaired=repair)
    if not _open_index(engine, space, report, repair=repair):
        return report
    _check_work(engine, space, report, repair=repair)
    tenants: set[TenantId] = set()
    for page in _pages_of_assets(engine):
        report.assets += len(page)
        tenants |= {asset.tenant for asset in page}
        _check_blobs(engine, page, report, repair=repair, deep=deep)
        _check_attributes(engine, page, report, repair=repair)
        _check_points(engine, space, page, report, repair=repair)
    _check_index(engine, space, report, repair=repair)
    _check_unused_blobs(engine, tenants, report, repair=repair)
    _check_generations(engine, report, repair=repair)
    return report


def _verify_other(engine: Engine, space: OpenSpace, report: VerifyReport, *, repair: bool) -> None:
    """Compare catalogue and index for the space that is kept beside the one that answers."""
    if _open_index(engine, space, report, repair=repair):
        _check_work(engine, space, report, repair=repair)
        for page in _pages_of_assets(engine):
            _check_points(engine, space, page, report, repair=repair)
        _check_index(engine, space, report, repair=repair)


def _open_index(engine: Engine, space: OpenSpace, report: VerifyReport, *, repair: bool) -> bool:
    """Open the index; with `repair`, begin an empty one where it is damaged. Tells whether there is one now."""
    try:
        _ = space.index
    except DamagedData as error:
        report.add(Difference.DAMAGED_INDEX, [str(error)], mended=repair)
        if not repair:
            return False
        engine.discard_index(space)
    return True


def _pages_of_assets(engine: Engine) -> Iterator[list[Asset]]:
    after: AssetId | None = None
    while page := engine.catalog.page_assets(tenant=None, after=after, limit=PAGE):
        yield page
        after = page[-1].id


def _check_work(engine: Engine, space: OpenSpace, report: VerifyReport, *, repair: bool) -> None:
    waiting = engine.catalog.pending_work(space.space.id)
    if waiting:
        report.add(Difference.LEFTOVER_WORK, [f"{waiting} pictures wait for their embedding"])
        report.counts[Difference.LEFTOVER_WORK] += waiting - 1
        if repair:
            sweep_space(space, engine=engine)
            left = engine.catalog.pending_work(space.space.id)
            report.mend(Difference.LEFTOVER_WORK, max(0, waiting - left))


def _check_blobs(engine: Engine, page: Sequence[Asset], report: VerifyReport, *, repair: bool, deep: bool) -> None:
    for asset in page:
        key = original_key(asset.sha256)
        report.blobs += 1
        if not engine.blobs.exists(key):
            report.add(Difference.MISSING_ORIGINAL, [f"{asset.id} {key}"])
            continue
        if deep and sha256_of(engine.blobs.get(key)) != asset.sha256:
            report.add(Difference.DAMAGED_ORIGINAL, [f"{asset.id} {key}"])
        if not engine.blobs.exists(thumbnail_key(asset.sha256)):
            report.add(Difference.MISSING_THUMBNAIL, [str(asset.id)], mended=repair and _make_thumbnail(engine, asset))


def _check_attributes(engine: Engine, page: Sequence[Asset], report: VerifyReport, *, repair: bool) -> None:
    """Look for pictures of which nothing was told from the pixels; those without an original are listed elsewhere."""
    lacking = [a for a in page if a.attributes is None and engine.blobs.exists(original_key(a.sha256))]
    report.add(Difference.MISSING_ATTRIBUTES, [str(asset.id) for asset in lacking])
    at_once = 2 * engine.decoders.processes if repair else 0
    for start in range(0, len(lacking) if repair else 0, max(at_once, 1)):
        some = lacking[start : start + at_once]
        decoding = [engine.decoders.decode(engine.blobs.get(original_key(asset.sha256)), spec=None) for asset in some]
        told: dict[TenantId, dict[AssetId, Attributes]] = defaultdict(dict)
        for asset, future in zip(some, decoding, strict=True):
            with contextlib.suppress(PictureError):
                attributes = future.result().attributes
                if attributes is not None:
                    told[asset.tenant][asset.id] = attributes
        for tenant, of_tenant in told.items():
            engine.catalog.set_attributes(tenant, of_tenant)
            report.mend(Difference.MISSING_ATTRIBUTES, len(of_tenant))


def _make_thumbnail(engine: Engine, asset: Asset) -> bool:
    data = engine.blobs.get(original_key(asset.sha256))
    try:
        thumbnail = engine.decoders.decode(data, spec=None).result().thumbnail
    except PictureError:
        return False
    if thumbnail is not None:
        engine.blobs.put(thumbnail_key(asset.sha256), thumbnail)
    return thumbnail is not None


def _check_points(
    engine: Engine, space: OpenSpace, page: Sequence[Asset], report: VerifyReport, *, repair: bool
) -> None:
    """Look for pictures whose row says `indexed` and that have no point, and for those that nobody is to embed."""
    name = space.space.id
    embedded = engine.catalog.embedded(name, [asset.id for asset in page])
    points = {point_id(id_, name): id_ for id_ in embedded}
    found = space.index.vectors(list(points))
    missing = [id_ for point, id_ in points.items() if point not in found]
    # An indexed picture without an embedding here was embedded in another space: after a change of the model.
    missing += [asset.id for asset in page if asset.state is AssetState.INDEXED and asset.id not in embedded]
    forgotten = engine.catalog.forgotten(name, [asset.id for asset in page if asset.state is AssetState.REGISTERED])
    report.add(Difference.MISSING_POINT, [str(id_) for id_ in missing])
    report.add(Difference.FORGOTTEN, [str(id_) for id_ in forgotten])
    if repair and (missing or forgotten):
        engine.catalog.queue_for(name, [*missing, *forgotten])
        sweep_space(space, engine=engine)
        report.mend(Difference.MISSING_POINT, len(engine.catalog.embedded(name, missing)))
        report.mend(Difference.FORGOTTEN, len(engine.catalog.embedded(name, forgotten)))


def _check_index(engine: Engine, space: OpenSpace, report: VerifyReport, *, repair: bool) -> None:
    """Look for points without a row, and for payloads that are not what the row says."""
    after: PointId | None = None
    listed = 0
    while page := space.index.scroll(after=after, limit=PAGE):
        listed += len(page)
        after = page[-1].id
        _check_payloads(engine, space, page, report, repair=repair)
    report.points += listed
    if not repair and (counted := space.index.count()) != listed:
        report.add(Difference.COUNT_MISMATCH, [f"the index counts {counted} points and lists {listed}"])


def _check_payloads(
    engine: Engine, space: OpenSpace, page: Sequence[StoredPoint], report: VerifyReport, *, repair: bool
) -> None:
    name = space.space.id
    tenants: dict[AssetId, TenantId] = {}
    owners: dict[PointId, AssetId] = {}
    for point in page:
        try:
            owner = AssetId(UUID(str(point.payload.get("asset_id"))))
        except ValueError:
            continue
        if point_id(owner, name) == point.id:
            owners[point.id] = owner
            tenants[owner] = TenantId(str(point.payload.get("tenant")))
    assets = assets_of(engine, tenants)
    payloads = payloads_of(engine, tenants)
    embedded = engine.catalog.embedded(name, list(assets))
    orphans: list[PointId] = []
    stale: dict[PointId, Asset] = {}
    for point in page:
        asset = assets.get(owners[point.id]) if point.id in owners else None
        if asset is None or asset.id not in embedded:
            orphans.append(point.id)
        elif _said(point.payload) != _said(payloads[asset.id]):
            stale[point.id] = asset
    if repair:
        space.index.delete(orphans)
        space.index.set_payloads(list(stale), [payloads[asset.id] for asset in stale.values()])
    report.add(Difference.ORPHAN_POINT, [str(id_) for id_ in orphans], mended=repair)
    report.add(Difference.STALE_PAYLOAD, [str(asset.id) for asset in stale.values()], mended=repair)


def _said(payload: Payload) -> dict[str, object]:
    return {"generated": 0} | {name: value for name, value in payload.items() if value is not None}


def _check_unused_blobs(engine: Engine, tenants: set[TenantId], report: VerifyReport, *, repair: bool) -> None:
    """Look for blobs that no row needs."""
    suspects: list[str] = []
    for kind in ("originals", "thumbnails", "previews"):
        keys = engine.blobs.keys(kind)
        while page := list(islice(keys, PAGE)):
            unused = _unused(engine, tenants, page)
            report.add(Difference.UNUSED_BLOB, unused)
            suspects.extend(unused[: MAX_DELETED - len(suspects)])
    running = any(
        run.state is IngestState.RUNNING for tenant in tenants for run in engine.catalog.ingests(tenant, PAGE)
    )
    if suspects and repair and not running:
        # An upload writes its blobs a moment before its row: what still has no row now is no upload under way.
        time.sleep(UPLOAD_GRACE_S)
        tenants = tenants | {asset.tenant for page in _pages_of_assets(engine) for asset in page}
        unused = _unused(engine, tenants, suspects)
        for key in unused:
            engine.blobs.delete(key)
        report.mend(Difference.UNUSED_BLOB, len(suspects))


def _unused(engine: Engine, tenants: set[TenantId], keys: Sequence[str]) -> list[str]:
    hashes = {key: Sha256(key.rpartition("/")[2].partition(".")[0]) for key in keys}
    used: set[str] = set()
    for tenant in tenants:
        ids = [asset_id(tenant, sha256) for sha256 in set(hashes.values())]
        used |= {asset.sha256 for asset in engine.catalog.assets(tenant, ids).values()}
    return [key for key, sha256 in hashes.items() if sha256 not in used]


def _check_generations(engine: Engine, report: VerifyReport, *, repair: bool) -> None:
    """Look for what generations left that ended without it: pictures of failed ones, uploads of all."""
    for kind in (GENERATIONS, GENERATION_INPUTS):
        keys = engine.blobs.keys(kind)
        while page := list(islice(keys, PAGE)):
            owners = {key: GenerationId(UUID(key.split("/")[1])) for key in page}
            ids = sorted(set(owners.values()))
            unfinished = engine.catalog.generations.unfinished(ids)
            pictures = engine.catalog.generations.pictures(ids)
            kept = {generation_key(id_, one.sha256, one.format) for id_, shown in pictures.items() for one in shown}
            unused = [key for key, owner in owners.items() if key not in kept and owner not in unfinished]
            report.blobs += len(page)
            report.add(Difference.UNUSED_BLOB, unused, mended=repair)
            if repair and unused:
                clear_away(ids, engine)
