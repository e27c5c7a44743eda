"""Labels learned from examples, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.search_api.served import Served, png, serving, variation

FOOD = {"field": "category", "equals": "food"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of this file's own, since it writes."""
    import shutil

    from tests.search_api.served import ingested_folder

    folder = Path(shutil.copytree(ingested_folder(), tmp_path_factory.mktemp("probes") / "data"))
    with serving(folder) as served:
        yield served


def ids(served: Served, filter_: dict[str, Any]) -> list[str]:
    hits = served.search(text="anything", filter=filter_, limit=100)["hits"]
    return [hit["asset_id"] for hit in hits]


def test_a_label_is_learned_applied_filtered_by_and_taken_away(own: Served) -> None:
    food = ids(own, FOOD)
    assert len(food) > 15
    trained = own.client.post("/v1/probes", json={"name": "edible", "where": FOOD})
    assert trained.status_code == 200, trained.text
    probe = trained.json()
    assert (probe["positive"], probe["stale"], probe["applied"]) == (len(food), False, False)
    assert probe["negative"] == 150 - len(food)
    assert probe["held_out"]["auroc"]["value"] > 0.7  # of 30 examples, by chance 0.5
    assert probe["held_out"]["log_loss"] < probe["held_out"]["log_loss_blind"]

    done = own.client.post("/v1/probes/edible/apply").json()
    found = own.search(text="food", filter={"field": "probe_labels", "equals": "edible"}, limit=100)["hits"]
    assert len(found) == done["labelled"] > 10
    right = sum(hit["metadata"]["category"] == "food" for hit in found)
    assert right / len(found) > 0.7
    assert all(hit["probe_labels"]["edible"] >= round(probe["threshold"], 3) for hit in found)
    assert own.client.get("/v1/probes").json()["probes"][0]["applied"]

    sure = max(found, key=lambda hit: float(hit["probe_labels"]["edible"]))
    alone = own.client.post("/v1/probes/edible/predict", json={"asset_id": sure["asset_id"]}).json()
    assert alone["holds"]
    assert alone["probability"] == pytest.approx(sure["probe_labels"]["edible"], abs=0.002)
    alike = variation(own.client.get(sure["original_url"]).content, seed=9)
    uploaded = own.client.post("/v1/assets", files={"image": ("n.png", alike)}).json()
    assert "edible" in uploaded["probe_labels"]  # what comes in gets it, too

    assert own.client.delete("/v1/probes/edible").status_code == 204
    assert own.client.delete("/v1/probes/edible").status_code == 404
    assert ids(own, {"field": "probe_labels", "equals": "edible"}) == []
    assert own.client.get(f"/v1/assets/{sure['asset_id']}").json()["probe_labels"] == {}


def test_a_label_is_learned_again_from_its_own_examples(own: Served) -> None:
    food, others = ids(own, FOOD)[:12], ids(own, {"not": FOOD})[:12]
    body = {"name": "twice", "positive": food, "negative": others}
    first = own.client.post("/v1/probes", json=body).json()
    again = own.client.post("/v1/probes", json={"name": "twice"}).json()
    assert (again["positive"], again["negative"], again["chosen_negative"]) == (12, 12, True)
    assert again["held_out"] == first["held_out"]
    assert again["made_at"] > first["made_at"]


def test_a_label_is_learned_again_though_an_example_was_deleted(own: Served) -> None:
    food, others = ids(own, FOOD)[:12], ids(own, {"not": FOOD})[:12]
    gone = own.client.post("/v1/assets", files={"image": png(91)}).json()["asset_id"]
    body = {"name": "thrice", "positive": [*food, gone], "negative": others}
    assert own.client.post("/v1/probes", json=body).json()["positive"] == 13
    assert own.client.delete(f"/v1/assets/{gone}").status_code == 204
    again = own.client.post("/v1/probes", json={"name": "thrice"})
    assert again.status_code == 200, again.text
    assert (again.json()["positive"], again.json()["negative"]) == (12, 12)


def test_a_label_may_be_called_anything(own: Served) -> None:
    food = ids(own, FOOD)
    assert own.client.post("/v1/probes", json={"name": "food/drink", "where": FOOD}).status_code == 200
    told = own.client.post("/v1/probes/food%2Fdrink/predict", json={"asset_id": food[0]})
    assert (told.status_code, told.json()["name"]) == (200, "food/drink")
    assert own.client.post("/v1/probes/food%2Fdrink/apply").json()["labelled"] > 0
    assert own.client.delete("/v1/probes/food%2Fdrink").status_code == 204


def test_a_label_of_another_model_is_stale_until_it_is_learned_again(own: Served) -> None:
    from phosphene.catalog.records import LabelModel, LabelModelKind
    from phosphene.types import DEFAULT_TENANT, PixelSpec, Sha256, Space

    own.client.post("/v1/probes", json={"name": "old", "where": FOOD})
    catalog = own.engine.catalog
    (now,) = [one for one in catalog.labels.models(DEFAULT_TENANT, LabelModelKind.PROBE) if one.name == "old"]
    before = Space("before", 8, Sha256("9" * 64), PixelSpec(size=32))
    catalog.record_space(before)
    catalog.labels.delete_model(DEFAULT_TENANT, LabelModelKind.PROBE, "old")
    catalog.labels.store_model(DEFAULT_TENANT, LabelModel(now.kind, now.name, before.id, now.content, now.made_at))
    (listed,) = [one for one in own.client.get("/v1/probes").json()["probes"] if one["name"] == "old"]
    assert listed["stale"]
    refused = own.client.post("/v1/probes/old/apply")
    assert refused.status_code == 422
    assert "train it again" in refused.json()["detail"]
    assert not own.client.post("/v1/probes", json={"name": "old"}).json()["stale"]
    assert own.client.post("/v1/probes/old/apply").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"name": "x"}, 404, "name examples"),
        ({"name": " ", "where": FOOD}, 422, "no text with a word"),
        ({"name": "a\x00", "where": FOOD}, 422, "no text"),
        ({"name": "x", "positive": [str(uuid4())]}, 404, "no asset"),
        ({"name": "x", "positive": ["nonsense"]}, 422, "UUID"),
        ({"name": "x", "positive": [str(uuid4()) for _ in range(2001)]}, 422, "at most 2000"),
        ({"name": "x", "where": {"field": "nothing", "equals": 1}}, 422, "no field"),
        ({"name": "x", "where": {"field": "title", "equals": "y"}}, 422, "no field"),
    ],
)
def test_hostile_examples_are_refused_with_a_reason(body: dict[str, Any], status: int, why: str, own: Served) -> None:
    response = own.client.post("/v1/probes", json=body)
    assert response.status_code == status, response.text
    assert why in response.json()["detail"]


def test_too_few_and_two_sided_examples_are_refused(own: Served) -> None:
    food = ids(own, FOOD)
    few = own.client.post("/v1/probes", json={"name": "few", "positive": food[:3]})
    assert (few.status_code, "too few" in few.json()["detail"]) == (422, True)
    both = own.client.post("/v1/probes", json={"name": "both", "positive": food[:9], "negative": food[:1]})
    assert (both.status_code, "both for and against" in both.json()["detail"]) == (422, True)
