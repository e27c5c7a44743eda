"""Measuring how good search is, as searches are really answered. Knows nothing of FastAPI."""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.assemble import Engine
from phosphene.catalog.catalog import Catalog
from phosphene.errors import InvalidInput, Unavailable
from phosphene.evaluation.golden import HITS, JudgedQuery, look_up, score_golden
from phosphene.evaluation.matching import golden_trials, match_report
from phosphene.evaluation.recall import Probes, conditions_of, index_recall
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, Float32, Modality, TenantId
from phosphene.vectors.base import VectorIndex
from search_api.question import SearchQuery, normalised_text
from search_api.schemas import (
    EvaluationOut,
    EvaluationRequest,
    GoldenOut,
    IndexRecallIn,
    IndexRecallOut,
    NoMatchOut,
)
from search_api.search import run_search


def evaluate(asked: EvaluationRequest, *, engine: Engine, tenant: TenantId) -> EvaluationOut:
    """Measure what is asked for on a tenant's catalogue, in the space that answers.

    Raises InvalidInput, Unavailable where another model answers meanwhile, and what searches raise.
    """
    if asked.golden is None and asked.index_recall is None:
        raise InvalidInput("ask for golden queries, for index recall, or for both")
    if asked.no_match and asked.golden is None:
        raise InvalidInput("no_match asks golden queries: send them too")
    with engine.answering() as space:
        report = EvaluationOut(model=space.space.model, space=space.space.id)
        if asked.golden is not None:
            queries = look_up(
                [query.query_of() for query in asked.golden],
                tenant=tenant,
                named=lambda names: engine.catalog.assets_named(tenant, names),
            )
            scored = score_golden(queries, search=lambda text: _found(text, engine, tenant))
            if engine.current is not space:
                raise Unavailable("another model answers since the first of the golden queries: ask them again")
            report.golden = GoldenOut.of(scored)
            if asked.no_match:
                report.no_match = _no_match(queries, space=space, catalog=engine.catalog, tenant=tenant)
        if asked.index_recall is not None:
            report.index_recall = _index_recall(asked.index_recall, space.index, engine.catalog, tenant)
    return report


def _found(text: str, engine: Engine, tenant: TenantId) -> list[AssetId]:
    answer = run_search(SearchQuery(text=text, limit=HITS), engine=engine, tenant=tenant)
    return [hit.asset.id for hit in answer.hits]


def _no_match(queries: Sequence[JudgedQuery], *, space: OpenSpace, catalog: Catalog, tenant: TenantId) -> NoMatchOut:
    def embed(text: str) -> Float32:
        row: Float32 = space.texts.embed(normalised_text(text)).rows[0]
        return row

    trials = golden_trials(
        queries, embed=embed, tenant=tenant, catalog=catalog, index=space.index, words=space.judge.words
    )
    standing = [one.calibration for one in space.judge.standing(tenant) if one.calibration.modality is Modality.TEXT]
    return NoMatchOut.of(match_report(trials, standing[0] if standing else None))


def _index_recall(asked: IndexRecallIn, index: VectorIndex, catalog: Catalog, tenant: TenantId) -> IndexRecallOut:
    probes = Probes.stored(index, asked.questions, catalog=catalog, tenant=tenant)
    if not len(probes):
        raise InvalidInput("there are no pictures in the index to ask for their neighbours: ingest some first")
    conditions = conditions_of(catalog, tenant=tenant, shares=asked.shares)
    return IndexRecallOut.of(index_recall(index, probes, k=asked.k, conditions=conditions))
