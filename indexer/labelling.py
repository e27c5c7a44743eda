"""Words for the pictures of a catalogue: found by the model, written beside what owners say, and to be filtered by.

Everything is of the space that answers. Rows are written first and payloads are derived from them, as everywhere.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from indexer.embedding import renew_payloads
from indexer.new_labels import label_calibration
from indexer.walking import vectors
from phosphene.assemble import Engine
from phosphene.catalog.records import AssetState, LabelModel, LabelModelKind
from phosphene.errors import InvalidInput
from phosphene.labels.calibration import SAMPLE, LabelCalibration, calibrate_labels, carried_words
from phosphene.labels.keywords import MIN_PROBABILITY, MOST, keywords_of
from phosphene.life import show_life
from phosphene.open_space import OpenSpace
from phosphene.types import Float32, TenantId

_GROWN = 1.5  # as many pictures with keywords as a calibration was learned from: it is learned anew


@dataclass(frozen=True, slots=True)
class KeywordsAsked:
    """Which words to give to a tenant's pictures, and which pictures: all, or those that have none yet."""

    words: tuple[str, ...] | None = None  # None: the subjects of the vocabulary
    min_probability: float = MIN_PROBABILITY
    most: int = MOST  # of one picture
    new_only: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no probability and no number of words. Raises InvalidInput."""
        if not 0 < self.min_probability < 1:
            raise InvalidInput(f"min_probability lies between 0 and 1, not at {self.min_probability}")
        if not 1 <= self.most <= 50:
            raise InvalidInput(f"a picture gets 1 to 50 keywords, not {self.most}")


@dataclass(frozen=True, slots=True)
class KeywordsDone:
    """What became of it: pictures looked at, those with a keyword, and the words in use with how many carry them."""

    pictures: int
    with_keywords: int
    words: Mapping[str, int]  # the most frequent first
    calibration: LabelCalibration | None
    reason: str | None  # why there is no calibration
    stopped: bool


def calibrate(tenant: TenantId, *, engine: Engine) -> LabelCalibration:
    """Learn probabilities from the catalogue's own keywords, in the space that answers. Raises InvalidInput."""
    with engine.answering() as space:
        pictures: list[Float32] = []
        carried: list[frozenset[str]] = []
        for assets, rows in vectors(tenant, space, engine=engine):
            for asset, row in zip(assets, rows, strict=True):
                if words := carried_words(asset.metadata):
                    pictures.append(row)
                    carried.append(words)
            if len(carried) >= SAMPLE:
                break
        stacked = np.stack(pictures) if pictures else np.empty((0, space.space.dimension), dtype=np.float32)
        fitted = calibrate_labels(
            stacked, carried, labeller=space.labeller, space_id=space.space.id, made_at=datetime.now(UTC)
        )
        engine.catalog.labels.store_model(
            tenant,
            LabelModel(LabelModelKind.CALIBRATION, "keywords", fitted.space_id, fitted.to_json(), fitted.made_at),
        )
    return fitted


def write_keywords(
    asked: KeywordsAsked, *, engine: Engine, tenant: TenantId, stop: threading.Event | None = None
) -> KeywordsDone:
    """Give a tenant's pictures their automatic keywords, in place of those before.

    Learns probabilities first where it has not been done, and can be. May be stopped and run again at will.
    """
    words = engine.vocabulary.subjects if asked.words is None else asked.words
    counted: Counter[str] = Counter()
    seen = told = 0
    with engine.answering() as space:
        calibration, reason = _learned(tenant, space, engine)
        for assets, rows in vectors(tenant, space, engine=engine):
            show_life()
            at = [
                place
                for place, asset in enumerate(assets)
                if not (asked.new_only and asset.labels.keywords_space == space.space.id)
            ]
            seen += len(at)
            if not at:
                continue
            found = keywords_of(
                rows[at],
                words,
                labeller=space.labeller,
                calibration=calibration,
                min_probability=asked.min_probability,
                most=asked.most,
            )
            told += sum(bool(one) for one in found)
            counted.update(word for one in found for word in one)
            said = {assets[place].id: one for place, one in zip(at, found, strict=True)}
            changed = engine.catalog.labels.set_keywords(tenant, space.space.id, said)
            renew_payloads(engine, dict.fromkeys(changed, tenant), engine.written())
            if stop is not None and stop.is_set():
                return KeywordsDone(seen, told, dict(counted.most_common()), calibration, reason, stopped=True)
    return KeywordsDone(seen, told, dict(counted.most_common()), calibration, reason, stopped=False)


def _learned(tenant: TenantId, space: OpenSpace, engine: Engine) -> tuple[LabelCalibration | None, str | None]:
    known = label_calibration(tenant, space, engine=engine)
    indexed = engine.catalog.count_assets(tenant, AssetState.INDEXED)
    if known is not None and (known.pictures >= SAMPLE or indexed < _GROWN * known.pictures):
        return known, None
    try:
        return calibrate(tenant, engine=engine), None
    except InvalidInput as error:
        return known, None if known is not None else str(error)
