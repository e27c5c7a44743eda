"""How well matches are told from what is merely nearest, on golden queries, which no calibration has learned from.

Each query is asked twice: with its right pictures in place, and with them and all that looks like one of them taken
out. Then whatever comes first is wrong, and a decision that calls it a match errs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from phosphene.catalog.catalog import Catalog
from phosphene.errors import InvalidInput
from phosphene.evaluation.golden import JudgedQuery
from phosphene.filters import tenant_filter
from phosphene.nomatch.background import Background, sample_background
from phosphene.nomatch.calibration import Calibration, Trials
from phosphene.nomatch.curves import Interval, RocPoint, auroc, bootstrap, roc
from phosphene.nomatch.decision import gather
from phosphene.nomatch.evidence import FEATURES, HEAD, Z_SCORE, Float64
from phosphene.nomatch.rightness import Described
from phosphene.nomatch.words import WordEmbeddings
from phosphene.types import AssetId, Float32, TenantId
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery, asset_of

DEEP = 256  # hits among which the right ones are


@dataclass(frozen=True, slots=True)
class MatchReport:
    """How well the decision, and for comparison the best cosine alone, tell right best hits from wrong ones."""

    questions: int
    right: float  # share of questions whose best hit is right
    decided_by: str  # "calibration", or "z-score" where there is none
    auroc: Interval  # chance that a right best hit is held more likely than a wrong one
    cosine_auroc: Interval
    false_match_rate: float | None  # share of wrong best hits called a match; None without a calibration
    missed_match_rate: float | None  # share of right ones that are not
    promised: float | None  # the false-match rate that the calibration promises
    roc: tuple[RocPoint, ...]


def match_report(trials: Trials, calibration: Calibration | None) -> MatchReport:
    """Judge the decision by trials. Raises InvalidInput where no best hit was right, or none wrong."""
    right = trials.right
    if right.all() or not right.any():
        raise InvalidInput(
            f"of {len(trials)} questions {int(right.sum())} had a right best hit: to draw a ROC curve takes both kinds"
        )
    evidence = trials.evidence
    cosine = evidence[:, FEATURES.index("top")]
    decided = evidence[:, Z_SCORE] if calibration is None else calibration.model.probabilities(evidence)
    called = None if calibration is None else decided >= calibration.threshold
    return MatchReport(
        questions=len(trials),
        right=float(right.mean()),
        decided_by="z-score" if calibration is None else "calibration",
        auroc=_auroc(decided, trials),
        cosine_auroc=_auroc(cosine, trials),
        false_match_rate=None if called is None else float(called[~right].mean()),
        missed_match_rate=None if called is None else float((~called[right]).mean()),
        promised=None if calibration is None else calibration.false_match_rate,
        roc=roc(decided, right),
    )


def _auroc(scores: Float64, trials: Trials) -> Interval:
    return bootstrap(lambda rows: auroc(scores[rows], trials.right[rows]), trials.groups)


def golden_trials(
    queries: Sequence[JudgedQuery],
    *,
    embed: Callable[[str], Float32],
    tenant: TenantId,
    catalog: Catalog,
    index: VectorIndex,
    words: WordEmbeddings,
) -> Trials:
    """Ask each query with its right pictures in place and taken out; `embed` gives (d,) of length 1."""
    background = sample_background(tenant, catalog=catalog, index=index)
    rows: list[Float64] = []
    right: list[bool] = []
    groups: list[int] = []
    for group, query in enumerate(queries):
        vector = embed(query.text)
        points = index.query([VectorQuery(vector, DEEP, tenant_filter(tenant, None))])[0]
        out = _right_and_alike(query, points, background, tenant, catalog)
        for gone in (frozenset[AssetId](), out):
            left = [point for point in points if asset_of(point) not in gone]
            row = gather(vector, left[:HEAD], background=background.without(gone), index=index, words=words, share=1.0)
            if row is not None:
                rows.append(row)
                right.append(asset_of(left[0]) in query.gains)
                groups.append(group)
    evidence = np.array(rows).reshape(-1, len(FEATURES))
    return Trials(evidence, np.array(right, dtype=np.bool_), np.array(groups, dtype=np.int64))


def _right_and_alike(
    query: JudgedQuery,
    points: Sequence[ScoredPoint],
    background: Background,
    tenant: TenantId,
    catalog: Catalog,
) -> frozenset[AssetId]:
    """Give the right pictures, and of those that are looked at what looks like one."""
    seen = [*query.gains, *(asset_of(point) for point in points), *background.ids]
    looks = {id_: Described.of(asset) for id_, asset in catalog.assets(tenant, list(dict.fromkeys(seen))).items()}
    phashes = [looks[id_].phash for id_ in query.gains if id_ in looks]
    return frozenset(query.gains) | {id_ for id_, look in looks.items() if look.looks_like(phashes)}
