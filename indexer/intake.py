"""Source items to registered pictures: skip what is known, read and decode the rest, keep blobs and rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from indexer.declared import DeclaredFields
from indexer.embedding import renew_payloads
from indexer.lookahead import ReadPicture, decode_ahead
from indexer.progress import Tally
from indexer.sources import SourceItem, Sources
from indexer.sources.items import unreadable
from phosphene import metrics
from phosphene.assemble import Engine
from phosphene.blobs import original_key, thumbnail_key
from phosphene.catalog.records import Description, IngestCounts, Location, NewAsset, Outcome, Quarantined, Registered
from phosphene.catalog.storable import metadata_digest
from phosphene.decoding import DecodedPicture
from phosphene.errors import PictureError
from phosphene.images import look_in
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, IngestId, Pixels, TenantId, asset_id, sha256_of
from phosphene.words.said import file_stem

LOOKED_UP_AT_ONCE = 256  # items
MAX_CHUNK_BYTES = 64 * 2**20  # of archive members that are held while they are looked up
MAX_BATCH_BYTES = 128 * 2**20  # of originals that are held until their blobs are written


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Registered pictures that wait for their embeddings.

    `pixels` is (n, h, w, 3) uint8 in the order of `ids`; None: they are to be read from the blobs. `counts` are those
    of the files behind the batch.
    """

    ids: list[AssetId]
    pixels: Pixels | None
    counts: IngestCounts


@dataclass(slots=True)
class Intake:
    """One run over some sources. `batches` is a stream; nothing happens until it is iterated."""

    engine: Engine
    space: OpenSpace  # that the pictures are embedded in here; what another one lacks is queued
    tenant: TenantId
    ingest: IngestId
    sources: Sources
    declared: DeclaredFields
    tally: Tally
    stop: threading.Event
    with_pixels: bool  # False: others embed, from the blobs
    _silent: dict[str, AssetId] = field(default_factory=dict)  # known places of which nothing was said this time
    _waiting: list[AssetId] = field(default_factory=list)  # known pictures without an embedding in this space
    _under_way: set[AssetId] = field(default_factory=set)  # yielded and not done yet: copies of them need no encoder

    def batches(self) -> Iterator[Batch]:
        """Yield batches of about `batch_size` pictures, each registered in one transaction."""
        read: list[ReadPicture] = []
        good = held = 0
        pictures = decode_ahead(
            self._new_items(),
            decoders=self.engine.decoders,
            spec=self.space.space.pixels if self.with_pixels else None,
            max_ahead=2 * self.space.batch_size,
            stop=self.stop,
        )
        for picture in pictures:
            read.append(picture)
            good += isinstance(picture.decoded, DecodedPicture)
            held += len(picture.data)
            size = self.space.batch_size  # more from the time on that the model is loaded and measured
            if good >= size or len(read) >= 4 * size or held >= MAX_BATCH_BYTES:
                yield from self._settled(read)
                read, good, held = [], 0, 0
        if not self.stop.is_set():
            yield from self._settled(read)

    def done(self, batch: Batch) -> None:
        """Take note that a batch is embedded, or on its way to those who do."""
        self._under_way.difference_update(batch.ids)

    def _new_items(self) -> Iterator[SourceItem]:
        """Yield the items whose bytes must be read; count or update the others."""
        for chunk in _chunks(self.sources):
            self.declared.learn(item.metadata for item in chunk)
            items = [self._held(item) for item in chunk]
            known = self.engine.catalog.locations(self.tenant, [item.uri for item in items])
            same: list[tuple[SourceItem, Location]] = []
            changed: list[SourceItem] = []
            for item in items:
                location = known.get(item.uri)
                if location is None:
                    changed.append(item)
                elif item.fingerprint is None or item.fingerprint != location.fingerprint:
                    if not said(item):
                        self._silent[item.uri] = location.asset_id
                    changed.append(item if item.ask is None else replace(item, fingerprint=location.fingerprint))
                else:
                    same.append((item, location))
            self._leave(same)
            yield from changed

    def _held(self, item: SourceItem) -> SourceItem:
        try:
            return replace(item, metadata=self.declared.hold(item.metadata))
        except PictureError as error:
            return unreadable(item.uri, str(error), error.fault)

    def _leave(self, same: Sequence[tuple[SourceItem, Location]]) -> None:
        """Count pictures whose bytes are the known ones, and take over what is said about them anew."""
        anew = [said(item) and _digest(item) != location.metadata_digest for item, location in same]
        self._pass_over([location for (_, location), new in zip(same, anew, strict=True) if not new])
        self._describe([item for (item, _), new in zip(same, anew, strict=True) if new])

    def _leave_answered(self, items: Sequence[SourceItem]) -> None:
        """Leave pictures of which their source says that they are the known ones; if it failed before, no longer."""
        if not items:
            return
        for item in items:
            self._silent.pop(item.uri, None)
        uris = [item.uri for item in items]
        self.engine.catalog.resolve_quarantine(self.tenant, uris)
        known = self.engine.catalog.locations(self.tenant, uris)
        self._leave([(item, known[item.uri]) for item in items if item.uri in known])  # else deleted meanwhile

    def _pass_over(self, unchanged: Sequence[Location]) -> None:
        if not unchanged:
            return
        self.engine.catalog.note_unchanged(self.ingest, len(unchanged))
        self.tally.add(unchanged=len(unchanged))
        self._look_for_waiting([location.asset_id for location in unchanged])

    def _look_for_waiting(self, ids: Sequence[AssetId]) -> None:
        """Queue known pictures that have no embedding in this space: of a killed run, or of another model."""
        space = self.space.space
        under_way = frozenset(self._under_way)  # before the catalogue is asked: they may come to their end meanwhile
        embedded = self.engine.catalog.embedded(space.id, ids)
        waiting = [id_ for id_ in dict.fromkeys(ids) if id_ not in embedded and id_ not in under_way]
        if waiting:
            self.engine.catalog.queue_for(space.id, waiting)
            self._waiting.extend(waiting)

    def _describe(self, items: Sequence[SourceItem]) -> None:
        """Take over new titles and metadata of pictures whose bytes are unchanged."""
        if not items:
            return
        descriptions = [Description(item.uri, title_of(item), item.metadata) for item in items]
        space = self.space.space
        answers = self.engine.catalog.describe(self.ingest, self.tenant, space.id, descriptions)
        self._renew_payloads(list(answers.values()))
        counts = _counts(list(answers.values()))
        self.tally.add(unchanged=counts.unchanged, updated=counts.updated)
        self._look_for_waiting([answer.asset_id for answer in answers.values()])

    def _renew_payloads(self, registered: Sequence[Registered]) -> None:
        ids = {one.asset_id for one in registered if one.outcome is Outcome.UPDATED}
        ids |= {id_ for one in registered for id_ in one.renamed}
        if ids:
            renew_payloads(self.engine, dict.fromkeys(ids, self.tenant), self.engine.written())

    def _settled(self, read: Sequence[ReadPicture]) -> Iterator[Batch]:
        """Register what was read; yield what is to be embedded."""
        if read:
            self._quarantine([picture for picture in read if isinstance(picture.decoded, PictureError)])
            self._leave_answered([picture.item for picture in read if picture.decoded is None])
            batch = self._register([picture for picture in read if isinstance(picture.decoded, DecodedPicture)])
            if batch is not None:
                yield batch
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            yield Batch(ids=waiting, pixels=None, counts=IngestCounts())

    def _quarantine(self, bad: Sequence[ReadPicture]) -> None:
        at = datetime.now(UTC)
        entries = [
            Quarantined(
                uri=picture.item.uri,
                fault=picture.decoded.fault,
                reason=str(picture.decoded),
                sha256=sha256_of(picture.data) if picture.data else None,
                at=at,
            )
            for picture in bad
            if isinstance(picture.decoded, PictureError)
        ]
        if entries:
            self.engine.catalog.quarantine(self.ingest, self.tenant, entries)
            self.tally.add(quarantined=len(entries))

    def _register(self, good: Sequence[ReadPicture]) -> Batch | None:
        decoded = [picture.decoded for picture in good if isinstance(picture.decoded, DecodedPicture)]
        if not decoded:
            return None
        blobs: dict[str, bytes] = {}
        for picture, one in zip(good, decoded, strict=True):
            blobs[original_key(one.info.sha256)] = picture.data
            if one.thumbnail is not None:
                blobs[thumbnail_key(one.info.sha256)] = one.thumbnail
        space = self.space.space
        under_way = frozenset(self._under_way)  # before the catalogue is asked, as above
        with metrics.embed_stage("register"):
            self.engine.blobs.put_many(blobs)
            rows = self._new_assets(good, decoded)
            registered = self.engine.catalog.register(self.ingest, self.tenant, space.id, rows)
        self._renew_payloads(registered)
        to_embed = {
            one.asset_id: picture.pixels
            for one, picture in zip(registered, decoded, strict=True)
            if one.needs_embedding and one.asset_id not in under_way
        }
        self._under_way.update(to_embed)
        counts = _counts(registered)
        if not to_embed:
            self.tally.add(added=counts.added, unchanged=counts.unchanged, updated=counts.updated)
            return None
        pixels = [one for one in to_embed.values() if one is not None]
        return Batch(ids=list(to_embed), pixels=np.stack(pixels) if pixels else None, counts=counts)

    def _new_assets(self, good: Sequence[ReadPicture], decoded: Sequence[DecodedPicture]) -> list[NewAsset]:
        """Make the rows. Where nothing was said about a known picture, what was known about it stays."""
        silent = {uri: known for picture in good if (known := self._silent.pop(uri := picture.item.uri, None))}
        known_assets = self.engine.catalog.assets(self.tenant, list(silent.values())) if silent else {}
        rows = []
        for picture, one in zip(good, decoded, strict=True):
            item = picture.item
            title: str | None = title_of(item)
            metadata = item.metadata
            asset = known_assets.get(asset_id(self.tenant, one.info.sha256))
            if asset is not None and silent.get(item.uri) == asset.id:
                title, metadata = asset.title, asset.metadata
            rows.append(
                NewAsset(
                    one.info,
                    item.uri,
                    item.fingerprint,
                    title,
                    metadata,
                    attributes=one.attributes,
                    look=look_in(one.info),
                )
            )
        return rows


def _chunks(items: Sources) -> Iterator[list[SourceItem]]:
    chunk: list[SourceItem] = []
    held = 0
    for item in items:
        chunk.append(item)
        held += item.size or 0
        if len(chunk) >= LOOKED_UP_AT_ONCE or held >= MAX_CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def said(item: SourceItem) -> bool:
    """Tell whether the source said anything about the picture, its name apart."""
    return item.title is not None or bool(item.metadata)


def title_of(item: SourceItem) -> str:
    """Give the title that was said or else the file's name without its suffix."""
    return item.title or file_stem(item.uri)


def _digest(item: SourceItem) -> str:
    return metadata_digest(title_of(item), item.metadata)


def _counts(registered: Sequence[Registered]) -> IngestCounts:
    outcomes = [one.outcome for one in registered]
    return IngestCounts(
        added=outcomes.count(Outcome.ADDED),
        unchanged=outcomes.count(Outcome.UNCHANGED),
        updated=outcomes.count(Outcome.UPDATED),
    )
