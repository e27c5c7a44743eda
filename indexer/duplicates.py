"""Near-duplicates of the whole catalogue: candidates from the index and from buckets of hashes, evidence, clusters.

Each picture is compared once, when it is embedded; the catalogue notes that, so that whoever is killed goes on where it
was. A batch holds the looks of its candidates and nothing else, however large the catalogue is.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from phosphene.assemble import Engine
from phosphene.blobs import original_key
from phosphene.catalog.records import Pair
from phosphene.errors import NotFound, PictureError
from phosphene.filters import tenant_filter
from phosphene.images import look_in
from phosphene.life import show_life
from phosphene.looks import Looks, bands_of, bits_apart, hashes_of, likeness, recoloured
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, Float32, TenantId, point_id
from phosphene.vectors.base import VectorQuery, asset_of

RULE = 1  # to be raised with each change below: pictures are compared again then
AT_ONCE = 64  # pictures
NEIGHBOURS = 12  # in the index, of each picture
MATES = 48  # from the buckets of hashes, of each picture: nearest first

# Log odds that two pictures are one, by logistic regression on 150 planted variants of one half of the demo catalogue
# and on what else was a candidate there; docs/duplicates.md says how well that does on the other half: hashes that
# differ in 8 of 64 bits, a tenfold distance of the looks, cosine of the embeddings, other colours, and how much of what
# differs lies in one place.
_AT_ZERO = -3.27
_BY_BITS, _BY_DISTANCE, _BY_COSINE, _BY_COLOUR, _BY_PLACE = -2.96, -5.75, 4.54, -3.85, -10.33
_LIKELY = 0.7  # to join what is not the same costs more than to miss one

log = logging.getLogger(__name__)


def compare_waiting(
    *,
    engine: Engine,
    tenant: TenantId | None = None,
    fill_in: bool = False,
    stop: threading.Event | None = None,
    most_s: float | None = None,
) -> int:
    """Compare pictures that were not compared yet, of one tenant or all; gives how many were.

    `fill_in`: also those that were ingested before looks were kept, whose originals are read for it.
    Ends early when `stop` is set, or after about `most_s` seconds: the next call goes on.
    """
    began = monotonic()
    done = 0

    def going_on() -> bool:
        return (stop is None or not stop.is_set()) and (most_s is None or monotonic() - began < most_s)

    with engine.answering() as space:
        if fill_in:
            _fill_in_looks(engine, tenant, going_on=going_on)
        while going_on():
            waiting = engine.catalog.duplicates.waiting(tenant, space.space.id, rule=RULE, limit=AT_ONCE)
            if not waiting:
                break
            by_tenant: dict[TenantId, list[AssetId]] = defaultdict(list)
            for id_, owner in waiting:
                by_tenant[owner].append(id_)
            for owner, ids in by_tenant.items():
                engine.catalog.duplicates.note(owner, ids, _alike(engine, space, owner, ids), rule=RULE)
            done += len(waiting)
            show_life()
    return done


def _alike(engine: Engine, space: OpenSpace, tenant: TenantId, ids: Sequence[AssetId]) -> list[Pair]:
    """Find the near-duplicates of some pictures among all of their tenant."""
    points = {id_: point_id(id_, space.space.id) for id_ in ids}
    vectors = space.index.vectors(list(points.values()))
    there = [id_ for id_ in ids if points[id_] in vectors]
    own = tenant_filter(tenant, None)
    asked = [VectorQuery(np.asarray(vectors[points[id_]], dtype=np.float32), NEIGHBOURS, own) for id_ in there]
    near = space.index.query(asked) if asked else []
    looks = engine.catalog.duplicates.looks(tenant, ids)
    mates = _bucket_mates(engine, tenant, {id_: looks[id_] for id_ in there if id_ in looks})
    wanted: dict[tuple[AssetId, AssetId], None] = {}
    for id_, hits in zip(there, near, strict=True):
        for other in [*(asset_of(hit) for hit in hits), *mates.get(id_, ())]:
            if other != id_:
                wanted[min(id_, other), max(id_, other)] = None
    return judged(
        list(wanted),
        looks
        | engine.catalog.duplicates.looks(tenant, list({other for pair in wanted for other in pair} - set(looks))),
        _vectors_of(space, {other for pair in wanted for other in pair}),
    )


def _vectors_of(space: OpenSpace, ids: set[AssetId]) -> dict[AssetId, Float32]:
    points = {point_id(id_, space.space.id): id_ for id_ in ids}
    return {points[point]: vector for point, vector in space.index.vectors(list(points)).items()}


def _bucket_mates(engine: Engine, tenant: TenantId, looks: Mapping[AssetId, bytes]) -> dict[AssetId, list[AssetId]]:
    """Find pictures whose hash shares a quarter with that of each of these, as it is or mirrored."""
    if not looks:
        return {}
    read = Looks.of(list(looks.values()))
    keys = np.concatenate([bands_of(hashes_of(read.grey)), bands_of(hashes_of(read.mirrored().grey))], axis=1)
    found = engine.catalog.duplicates.in_bands(tenant, {int(key) for key in keys.reshape(-1)})
    mates: dict[AssetId, list[AssetId]] = {}
    for id_, own in zip(looks, keys, strict=True):
        shared: dict[AssetId, int] = defaultdict(int)
        for key in own:
            for other in found.get(int(key), ()):
                shared[other] += 1
        mates[id_] = sorted(shared, key=lambda other: (-shared[other], other))[:MATES]
    return mates


def judged(
    wanted: Sequence[tuple[AssetId, AssetId]], looks: Mapping[AssetId, bytes], vectors: Mapping[AssetId, Float32]
) -> list[Pair]:
    """Weigh the evidence on pairs of pictures; give those that are likely the same."""
    wanted = [pair for pair in wanted if all(id_ in looks and id_ in vectors for id_ in pair)]
    if not wanted:
        return []
    places = {id_: place for place, id_ in enumerate({id_: None for pair in wanted for id_ in pair})}
    read = Looks.of([looks[id_] for id_ in places])
    first = np.array([places[one] for one, _ in wanted])
    second = np.array([places[other] for _, other in wanted])
    straight, turned = hashes_of(read.grey), hashes_of(read.mirrored().grey)
    as_is, mirrored = bits_apart(straight[first], straight[second]), bits_apart(straight[first], turned[second])
    flipped = mirrored < as_is
    one, other, back = read[first], read[second], read.mirrored()[second]
    other = Looks(
        np.where(flipped[:, None, None], back.grey, other.grey),
        np.where(flipped[:, None, None, None], back.hues, other.hues),
    )
    bits = np.minimum(as_is, mirrored)
    (alike, in_one_place), colours = likeness(one.grey, other.grey), recoloured(one, other)
    cosines = np.array([float(vectors[a] @ vectors[b]) for a, b in wanted])
    likely = probability(bits, alike, cosines, colours, in_one_place)
    return [
        Pair(
            *pair,
            probability=round(float(likely[place]), 4),
            bits=int(bits[place]),
            likeness=round(float(alike[place]), 4),
            cosine=round(float(cosines[place]), 4),
            recoloured=round(float(colours[place]), 4),
            mirrored=bool(flipped[place]),
        )
        for place, pair in enumerate(wanted)
        if likely[place] >= _LIKELY
    ]


def probability(
    bits: NDArray[np.int64],
    alike: Float32,
    cosines: NDArray[np.float64],
    colours: Float32,
    in_one_place: Float32,
) -> NDArray[np.float64]:
    """Tell how likely pairs are one picture: (n,) each, of bits_apart, likeness (both), cosine and recoloured."""
    distance = np.log10(np.maximum(1 - alike.astype(np.float64), 0) + 1e-3)
    odds = _AT_ZERO + _BY_BITS * bits / 8 + _BY_DISTANCE * distance + _BY_COSINE * cosines
    odds += _BY_COLOUR * np.minimum(colours, 1.5) + _BY_PLACE * in_one_place
    return np.asarray(1 / (1 + np.exp(-odds)))


def _fill_in_looks(engine: Engine, tenant: TenantId | None, *, going_on: Callable[[], bool]) -> None:
    """Read the originals of pictures that were ingested before looks were kept."""
    after: AssetId | None = None
    while going_on():
        lacking = engine.catalog.duplicates.without_look(tenant, after=after, limit=2 * engine.decoders.processes)
        if not lacking:
            break
        after = lacking[-1][0]
        told: dict[TenantId, dict[AssetId, bytes]] = defaultdict(dict)
        for id_, owner, sha256 in lacking:
            try:
                decoded = engine.decoders.decode(engine.blobs.get(original_key(sha256)), spec=None, thumbnail=False)
                look = look_in(decoded.result().info)
            except (NotFound, PictureError) as error:
                log.warning("%s is not compared with other pictures: %s", id_, error)
                continue
            if look is not None:
                told[owner][id_] = look
        for owner, looks in told.items():
            engine.catalog.duplicates.put_looks(owner, looks)
