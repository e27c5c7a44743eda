"""The decision for each search: evidence, then the calibrated model or, without one, a rule of thumb."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from phosphene.blobs import BlobStore
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import AssetState, CalibrationRecord
from phosphene.encoders import Encoder
from phosphene.errors import DamagedData
from phosphene.filters import Filter, tenant_filter
from phosphene.nomatch.background import SIZE, Background, sample_background
from phosphene.nomatch.calibration import GROWTH, Calibration
from phosphene.nomatch.evidence import CLOSE, HEAD, LEAST_BACKGROUND, Z_SCORE, Float64, evidence
from phosphene.nomatch.words import WordEmbeddings, nearest_words, plain, words_of
from phosphene.types import AssetId, Float32, Modality, SpaceId, TenantId
from phosphene.vectors.base import ScoredPoint, VectorIndex, asset_of

log = logging.getLogger(__name__)

_COMPLETE = 0.9  # share of the background that must have vectors; else it is drawn again soon
_FRESH_S = 30.0  # how long what is known of a catalogue is good for
_MOST_SHARES = 1000
_FRESH_SMALL_S = 2.0  # the same while it is smaller than the background: it may just be coming in


@dataclass(frozen=True, slots=True)
class Match:
    """Whether the best hit answers the question.

    Calibrated: the probability that it does, and from which probability on it is called a match. Not calibrated: no
    probability; how many standard deviations it stands above the background, and from how many on.
    """

    matched: bool
    probability: float | None
    threshold: float  # of the probability when calibrated, of the z-score otherwise
    calibrated: bool
    stale: bool  # calibrated for a catalogue or a model that has changed since
    z_score: float | None
    note: str  # the same in words
    by_words: bool = False  # a code was asked for and found in the words of a hit: a match whatever the picture says


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A search with its first hits: vector (d,) of length 1, points best first, HEAD of them if there are so many."""

    tenant: TenantId
    vector: Float32
    modality: Modality | None  # None: a bare vector, which can be either
    points: Sequence[ScoredPoint]
    filter: Filter | None = None
    left_out: frozenset[AssetId] = frozenset()  # assets that were asked with: no part of the background then
    composed: bool = False  # of several parts: the vector is what they make together


@dataclass(frozen=True, slots=True)
class Standing:
    """A calibration that is in force."""

    calibration: Calibration
    stale: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a tenant's catalogue, and since when."""

    background: Background
    sampled_at: int  # pictures there were when the background was drawn
    assets: int
    calibrations: Mapping[Modality, Calibration]
    elsewhere: bool  # there are calibrations, but none that fits this space
    good_until: float
    shares: dict[Filter, float]  # that filters let through, as far as they were asked


class Judge:
    """Decides about matches. Thread-safe."""

    def __init__(self, *, catalog: Catalog, index: VectorIndex, encoder: Encoder, blobs: BlobStore) -> None:
        self.words = WordEmbeddings(encoder)
        self.words.load(blobs)
        self._catalog, self._index = catalog, index
        self._lock = threading.Lock()
        self._known: dict[TenantId, _Known] = {}
        self._forgotten: dict[TenantId, int] = {}  # how often

    def judge(self, question: Question) -> Match:
        """Decide. Raises Unavailable."""
        known = self._look(question.tenant)
        calibration = known.calibrations.get(question.modality) if question.modality is not None else None
        stale = calibration.stale(known.assets) if calibration is not None else known.elsewhere
        found = self._evidence(question, known, with_words=calibration is not None)
        if calibration is not None and found is not None:
            return _calibrated(calibration, found, stale=stale)
        return _rule_of_thumb(question, found, known, stale=stale, calibrated=calibration is not None)

    def standing(self, tenant: TenantId) -> list[Standing]:
        """Say which calibrations decide about a tenant's questions, and whether they are still fresh."""
        known = self._look(tenant)
        in_order = [known.calibrations[modality] for modality in Modality if modality in known.calibrations]
        return [Standing(one, one.stale(known.assets)) for one in in_order]

    def background(self, tenant: TenantId) -> Background:
        """Give the pictures that a tenant's questions are compared with. Raises Unavailable."""
        return self._look(tenant).background

    def forget(self, tenant: TenantId) -> None:
        """Look again before the next decision: there is a new calibration."""
        with self._lock:
            self._known.pop(tenant, None)
            self._forgotten[tenant] = self._forgotten.get(tenant, 0) + 1

    def _evidence(self, question: Question, known: _Known, *, with_words: bool) -> Float64 | None:
        share = self._share(question, known) if with_words else 1.0
        return gather(
            question.vector,
            question.points,
            background=known.background.without(question.left_out),
            index=self._index,
            words=self.words if with_words else None,
            share=share,
        )

    def _share(self, question: Question, known: _Known) -> float:
        """Give the share of the catalogue that the question's filter lets through, counted once while it is fresh."""
        asked = question.filter
        if asked is None or not known.assets:
            return 1.0
        share = known.shares.get(asked)
        if share is None:
            passing = self._index.count(tenant_filter(question.tenant, asked))
            share = min(1.0, max(passing, 1) / known.assets)
            if len(known.shares) < _MOST_SHARES:
                known.shares[asked] = share
        return share

    def _look(self, tenant: TenantId) -> _Known:
        with self._lock:
            known, forgotten = self._known.get(tenant), self._forgotten.get(tenant, 0)
        if known is not None and monotonic() < known.good_until:
            return known
        fresh = self._read(tenant, known)
        with self._lock:
            if self._forgotten.get(tenant, 0) == forgotten:  # else it may have been read before what is new
                self._known[tenant] = fresh
        return fresh

    def _read(self, tenant: TenantId, before: _Known | None) -> _Known:
        assets = self._catalog.count_assets(tenant, AssetState.INDEXED)
        records = self._catalog.calibrations(tenant)
        calibrations = usable(records, self._index.space.id)
        if before is not None and _still_fair(before, assets):
            background, sampled_at = before.background, before.sampled_at
        else:
            background, sampled_at = sample_background(tenant, catalog=self._catalog, index=self._index), assets
        return _Known(
            background=background,
            sampled_at=sampled_at,
            assets=assets,
            calibrations=calibrations,
            elsewhere=bool(records) and not calibrations,
            good_until=monotonic() + (_FRESH_S if assets > SIZE else _FRESH_SMALL_S),
            shares={},
        )


def _still_fair(known: _Known, assets: int) -> bool:
    """Whether a background stands for a catalogue of so many pictures: a new model may have embedded none at first."""
    complete = len(known.background.ids) >= _COMPLETE * min(SIZE, assets)
    return complete and abs(assets - known.sampled_at) <= GROWTH / 2 * known.sampled_at


def gather(
    vector: Float32,
    points: Sequence[ScoredPoint],
    *,
    background: Background,
    index: VectorIndex,
    words: WordEmbeddings | None,
    share: float,
    hidden: str | None = None,
) -> Float64 | None:
    """Collect the evidence on the first hits of a question (d,): a row for the model; None where there is too little.

    `hidden` is a text that is not heard as a witness, where hits carry it: the caption that was asked.
    """
    if not points:
        return None
    cosines = background.cosines(vector, but=asset_of(points[0]))
    if len(cosines) < LEAST_BACKGROUND:
        return None
    close = points[:CLOSE]
    stored = index.vectors([point.id for point in close]) if words is not None else {}
    said = [_heard(point, hidden) for point in close] if words is not None else []
    return evidence(
        np.array([point.score for point in points[:HEAD]]),
        background=cosines,
        vectors=np.array([stored[point.id] for point in close if point.id in stored], dtype=np.float32),
        words=np.array(nearest_words(vector, said, words) if words is not None else []),
        share=share,
    )


def usable(records: Sequence[CalibrationRecord], space: SpaceId) -> dict[Modality, Calibration]:
    """Read the calibrations of a space, without those that were stored by another version and mean nothing here."""
    found: dict[Modality, Calibration] = {}
    for record in records:
        if record.space_id != space:
            continue
        try:
            calibration = Calibration.from_json(record.content)
        except DamagedData as error:
            log.warning("a stored calibration is left out: %s", error)
            continue
        if calibration.model.known:
            found[calibration.modality] = calibration
    return found


def z_threshold(candidates: int) -> float:
    """Give the z-score from which on the best of so many candidates is called a match without calibration.

    The best of n draws from a normal distribution lies near sqrt(2 ln n); cosines have a longer upper tail than that,
    so it is a rule of thumb and no more.
    """
    return math.sqrt(2 * math.log(max(candidates, 2)))


def _heard(point: ScoredPoint, hidden: str | None) -> list[str]:
    unheard = plain(hidden) if hidden is not None else None
    return [word for word in words_of(point.payload) if word != unheard]


def _calibrated(calibration: Calibration, found: Float64, *, stale: bool) -> Match:
    probability = calibration.probability(found)
    matched = probability >= calibration.threshold
    note = f"{'a match' if matched else 'nearest, not a match'}: probability {probability:.0%}, a match from "
    note += f"{calibration.threshold:.0%}"
    if stale:
        note += "; the catalogue has changed since this was calibrated: run `phosphene calibrate`"
    return Match(
        matched=matched,
        probability=probability,
        threshold=calibration.threshold,
        calibrated=True,
        stale=stale,
        z_score=float(found[Z_SCORE]),
        note=note,
    )


def _rule_of_thumb(question: Question, found: Float64 | None, known: _Known, *, stale: bool, calibrated: bool) -> Match:
    threshold = z_threshold(known.assets)
    z_score = None if found is None else float(found[Z_SCORE])
    matched = z_score is not None and z_score >= threshold
    if not question.points:
        note = "nothing found"
    elif z_score is None:
        note = "nearest, not a match as far as can be told: there are too few pictures to compare with"
    else:
        note = f"{'a match' if matched else 'nearest, not a match'} by a rule of thumb: the best hit stands "
        note += f"{z_score:.1f} standard deviations above the catalogue, a match from {threshold:.1f}"
    if question.composed:
        note += "; a question of several parts is never calibrated: this is of what they make together"
    elif not calibrated and (question.modality is not None or not known.calibrations):
        why = "calibrated for another model" if stale else "not calibrated"
        note += f"; {why}: run `phosphene calibrate`"
    return Match(
        matched=matched,
        probability=None,
        threshold=threshold,
        calibrated=False,
        stale=stale,
        z_score=z_score,
        note=note,
    )
