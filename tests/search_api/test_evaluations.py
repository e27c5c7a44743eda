"""Evaluating over HTTP: what is measured, of whose pictures, and what can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from phosphene.assemble import Engine
from phosphene.errors import Unavailable
from phosphene.types import DEFAULT_TENANT, TenantId
from search_api import evaluating
from search_api.schemas import EvaluationRequest, GoldenIn
from search_api.search import SearchAnswer, SearchQuery, run_search
from tests.search_api.served import KEYS, PICTURES, Served, serving


def test_titles_as_golden_queries_find_their_pictures(served: Served) -> None:
    """Of pictures whose titles are words that the starter knows most come up; each figure follows from the ranks."""
    golden = [{"query": said["title"], "relevant": {f"{name}.webp": 1}} for name, said in served.records.items()][:30]
    answer = served.client.post("/v1/evaluations", json={"golden": golden, "no_match": True}, timeout=300)
    assert answer.status_code == 200, answer.text
    report = answer.json()
    ranks = [one["first_right"] for one in report["golden"]["queries"]]
    metrics = report["golden"]["metrics"]
    for depth in (1, 5, 10):
        found = sum(rank is not None and rank <= depth for rank in ranks) / len(ranks)
        assert abs(metrics[f"recall@{depth}"]["value"] - found) < 1e-9
    assert metrics["recall@10"]["value"] > 3 * 10 / PICTURES  # chance
    assert report["golden"]["missing"] == []
    hits = served.search(text=golden[0]["query"], limit=100)["hits"]
    titles = [hit["title"] for hit in hits]
    assert ranks[0] is None or titles[ranks[0] - 1] == golden[0]["query"]
    assert report["no_match"]["decided_by"] == "z-score"  # nothing is calibrated here
    assert report["no_match"]["questions"] == 2 * len(golden)
    assert report["index_recall"] is None


def test_index_recall_is_of_what_is_stored(served: Served) -> None:
    asked = {"index_recall": {"k": 3, "questions": 20, "shares": [0.2]}}
    report = served.client.post("/v1/evaluations", json=asked, timeout=300).json()
    assert [one["condition"] for one in report["index_recall"]["conditions"]] == ["no filter", "20 %"]
    assert [one["points"] for one in report["index_recall"]["conditions"]] == [PICTURES, PICTURES // 5]
    assert all(one["recall"]["value"] == 1 for one in report["index_recall"]["conditions"])
    assert report["golden"] is None


def test_what_can_not_be_measured_is_told(served: Served) -> None:
    for body, said in (
        ({}, "ask for golden queries, for index recall, or for both"),
        ({"no_match": True, "index_recall": {}}, "no_match asks golden queries"),
        ({"golden": [{"query": "a dog", "relevant": {"no-such-picture.jpg": 1}}]}, "are they of another one?"),
        ({"golden": [{"query": "  ", "relevant": {"x": 1}}]}, ""),
        ({"golden": []}, ""),
        ({"golden": [{"query": "a dog", "relevant": {"x": 0}}]}, ""),
        ({"index_recall": {"shares": [2]}}, ""),
    ):
        answer = served.client.post("/v1/evaluations", json=body)
        assert answer.status_code == 422, body
        assert said in answer.json()["detail"]


def test_figures_of_two_models_are_never_mixed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def search_and_swap(query: SearchQuery, *, engine: Engine, tenant: TenantId) -> SearchAnswer:
        answer = run_search(query, engine=engine, tenant=tenant)
        monkeypatch.setattr(Engine, "current", property(lambda _: None))  # as if another model answered from now on
        return answer

    monkeypatch.setattr(evaluating, "run_search", search_and_swap)
    name = next(iter(served.records))
    asked = EvaluationRequest(golden=[GoldenIn(query="a dog", relevant={f"{name}.webp": 1})])
    with pytest.raises(Unavailable, match="another model answers"):
        evaluating.evaluate(asked, engine=served.engine, tenant=DEFAULT_TENANT)


def test_a_tenant_measures_its_own_pictures_only(data: Path) -> None:
    with serving(data, api_keys=KEYS) as served:  # all pictures are another tenant's
        name = next(iter(served.records))
        headers = {"Authorization": f"Bearer {KEYS[0].partition(':')[2]}"}
        for body, said in (
            ({"golden": [{"query": "a dog", "relevant": {f"{name}.webp": 1}}]}, "none of the 1 pictures"),
            ({"index_recall": {}}, "ingest some first"),
        ):
            answer = served.client.post("/v1/evaluations", json=body, headers=headers)
            assert answer.status_code == 422
            assert said in answer.json()["detail"]
        assert served.client.post("/v1/evaluations", json={"index_recall": {}}).status_code == 401
