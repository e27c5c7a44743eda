"""`phosphene calibrate`: ask the catalogue its own captions, fit, store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from phosphene.blobs import BlobStore
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import AssetState, CalibrationRecord
from phosphene.errors import Cancelled, InvalidInput
from phosphene.nomatch.asking import Examination, Golden
from phosphene.nomatch.calibration import FALSE_MATCH_RATE, Calibration, Trials, fit_calibration
from phosphene.nomatch.decision import Judge
from phosphene.types import Modality, TenantId
from phosphene.vectors.base import VectorIndex


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What became of one kind of question: a calibration, or the reason why there is none."""

    modality: Modality
    calibration: Calibration | None
    reason: str | None

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop before it was done."""
        return self.reason == _STOPPED


_STOPPED = "stopped before it was done"


def calibrate(
    tenant: TenantId,
    *,
    catalog: Catalog,
    index: VectorIndex,
    judge: Judge,
    blobs: BlobStore,
    false_match_rate: float = FALSE_MATCH_RATE,
    stop: threading.Event | None = None,
    modalities: Collection[Modality] = tuple(Modality),
    golden: Golden | None = None,
) -> list[Calibrated]:
    """Calibrate these kinds of question for a tenant's catalogue; the judge decides by it from now on.

    Golden queries are learned from beside the catalogue's own captions, as texts.
    A kind that can't be calibrated keeps what it had; so does what was not done yet when `stop` was set. Raises
    InvalidInput for a rate that is none.
    """
    if not 0 < false_match_rate < 1:
        raise InvalidInput(f"the false-match rate lies between 0 and 1, not at {false_match_rate}")
    judged = {" ".join(text.split()): answers for text, answers in (golden or {}).items()}
    assets = catalog.count_assets(tenant, AssetState.INDEXED)

    def learn(modality: Modality, ask: Callable[[], Trials]) -> Calibrated:
        try:
            fitted = fit_calibration(
                ask(),
                space_id=index.space.id,
                modality=modality,
                assets=assets,
                made_at=datetime.now(UTC),
                false_match_rate=false_match_rate,
                golden=len(judged) if modality is Modality.TEXT else 0,
                stop=stop,
            )
        except InvalidInput as error:
            return Calibrated(modality, None, str(error))
        record = CalibrationRecord(index.space.id, modality, fitted.to_json(), fitted.made_at)
        catalog.store_calibration(tenant, record)
        return Calibrated(modality, fitted, None)

    wanted = [modality for modality in (Modality.TEXT, Modality.IMAGE) if modality in modalities]
    outcomes: list[Calibrated] = []
    try:
        examination = Examination(tenant, catalog=catalog, index=index, words=judge.words, stop=stop)
        asks = {
            Modality.TEXT: lambda: examination.ask_texts().and_those(examination.ask_golden(judged)),
            Modality.IMAGE: examination.ask_pictures,
        }
        for modality in wanted:
            outcomes.append(learn(modality, asks[modality]))  # noqa: PERF401  what is done stays when it is stopped
    except Cancelled:
        outcomes += [Calibrated(modality, None, _STOPPED) for modality in wanted[len(outcomes) :]]
    judge.words.save(blobs)
    judge.forget(tenant)
    return outcomes
