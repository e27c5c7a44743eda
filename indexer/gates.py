"""What a new model must pass before it answers: all pictures there, an index that finds them, answers no worse."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from phosphene.assemble import Engine
from phosphene.catalog.records import AssetState, Reindex
from phosphene.evaluation.golden import HITS, GoldenQuery, GoldenReport, look_up, score_golden
from phosphene.evaluation.recall import Probes, conditions_of, index_recall
from phosphene.filters import tenant_filter
from phosphene.life import show_life
from phosphene.open_space import OpenSpace
from phosphene.types import DEFAULT_TENANT, AssetId, TenantId
from phosphene.vectors.base import VectorQuery, asset_of

JUDGED_BY = ("recall@10", "ndcg@10")
PROBES = 200  # stored pictures that are asked for their neighbours
_COUNTS_AGAIN = 10  # pictures may come in between two counts
_COUNTS_WAIT_S = 0.3
_RECALL_AGAIN = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a new model. Kept with the change, so that whoever goes on with it asks the same."""

    tenant: TenantId = DEFAULT_TENANT  # whose pictures and golden queries are asked
    golden: tuple[GoldenQuery, ...] = ()
    tolerance: float = 0.02  # how much worse than before recall@10 and nDCG@10 of the golden queries may be
    least_recall: float = 0.95  # of the index against exact comparison, also under filters
    max_missing: int = 0  # pictures that could be embedded before and can't be now
    swap: bool = True  # once all is passed

    def to_json(self) -> dict[str, Any]:
        """Write it for the catalogue."""
        return asdict(self) | {"golden": [[query.text, dict(query.relevant)] for query in self.golden]}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        golden = tuple(GoldenQuery(text, relevant) for text, relevant in kept["golden"])
        return cls(**{**kept, "golden": golden})


@dataclass(frozen=True, slots=True)
class Gate:
    """How one of them went."""

    name: str  # counts, index recall, quality
    passed: bool
    detail: str
    figures: Mapping[str, float] = field(default_factory=dict)


def judge(reindex: Reindex, *, engine: Engine) -> tuple[dict[str, Any], bool]:
    """Hold the new space against the gates; give the report, and whether all is passed."""
    options = Options.from_json(reindex.options)
    before, after = engine.spaces.open(reindex.before), engine.spaces.open(reindex.after)
    with before.held(), after.held():
        gates = [_counts(reindex, options, after, engine)]
        show_life()
        gates.append(_index_recall(options, after, engine))
        show_life()
        gates.append(_quality(options, before, after, engine))
    report = {"at": datetime.now(UTC).isoformat(), "gates": [asdict(gate) for gate in gates]}
    return report, all(gate.passed for gate in gates)


def _counts(reindex: Reindex, options: Options, after: OpenSpace, engine: Engine) -> Gate:
    """Compare what the catalogue says is embedded with what the index holds, and with the space before."""
    reindexes = engine.catalog.reindexes
    for _ in range(_COUNTS_AGAIN):
        embedded = reindexes.embedded(after.space.id)
        there = after.index.count()
        if there >= embedded:
            break
        time.sleep(_COUNTS_WAIT_S)
    before, missing = reindexes.embedded(reindex.before.space.id), reindexes.missing(reindex)
    said = f"{there:,} vectors for {embedded:,} embedded pictures, {before:,} in the space before"
    if missing:
        said += f"; {missing:,} pictures of the space before could not be embedded ({options.max_missing:,} may be so)"
    return Gate(
        "counts",
        there >= embedded and missing <= options.max_missing,
        said,
        {"vectors": there, "embedded": embedded, "before": before, "missing": missing},
    )


def _index_recall(options: Options, after: OpenSpace, engine: Engine) -> Gate:
    tenant = _asked_tenant(options, engine)
    probes = Probes.stored(after.index, PROBES, catalog=engine.catalog, tenant=tenant)
    if not len(probes):
        empty = not engine.catalog.reindexes.embedded(after.space.id)
        told = "nothing to ask: there are no pictures" if empty else f"none of the pictures of {tenant} has a vector"
        return Gate("index recall", passed=empty, detail=told)
    conditions = conditions_of(engine.catalog, tenant=tenant)
    found = dict.fromkeys(conditions, 0.0)
    for _ in range(_RECALL_AGAIN):  # what comes in or goes between the two searches looks like a miss
        report = index_recall(after.index, probes, conditions=conditions)
        found = {one.condition: max(one.recall.value, found[one.condition]) for one in report.conditions}
        if min(found.values()) >= options.least_recall:
            break
        show_life()
    told = ", ".join(f"{recall:.3f} {condition}" for condition, recall in found.items())
    passed = min(found.values()) >= options.least_recall
    return Gate("index recall", passed, f"recall@{report.k} {told}; {options.least_recall:g} asked", found)


def _asked_tenant(options: Options, engine: Engine) -> TenantId:
    """Give the tenant of the options or, where it has no pictures, one that has."""
    if not engine.catalog.count_assets(options.tenant, AssetState.INDEXED):
        for asset in engine.catalog.page_assets(tenant=None, after=None, limit=1):
            return asset.tenant
    return options.tenant


def _quality(options: Options, before: OpenSpace, after: OpenSpace, engine: Engine) -> Gate:
    if not options.golden:
        return Gate("quality", passed=True, detail="not judged: there are no golden queries")
    old, new = (_scored(options, space, engine) for space in (before, after))
    passed = all(new.metrics[name].value >= old.metrics[name].value - options.tolerance for name in JUDGED_BY)
    told = ", ".join(f"{name} {old.metrics[name].value:.3f} -> {new.metrics[name].value:.3f}" for name in JUDGED_BY)
    figures = {
        f"{name} {when}": report.metrics[name].value
        for when, report in (("before", old), ("after", new))
        for name in JUDGED_BY
    }
    return Gate(
        "quality",
        passed,
        f"{told} on {len(options.golden)} golden queries; {options.tolerance:g} may be lost",
        figures,
    )


def _scored(options: Options, space: OpenSpace, engine: Engine) -> GoldenReport:
    queries = look_up(
        options.golden, tenant=options.tenant, named=lambda names: engine.catalog.assets_named(options.tenant, names)
    )
    return score_golden(queries, search=_search_in(space, options.tenant))


def _search_in(space: OpenSpace, tenant: TenantId) -> Callable[[str], Sequence[AssetId]]:
    def search(text: str) -> Sequence[AssetId]:
        show_life()
        asked = VectorQuery(space.texts.embed(text).rows[0], HITS, tenant_filter(tenant, None))
        return [asset_of(point) for point in space.index.query([asked])[0]]

    return search
