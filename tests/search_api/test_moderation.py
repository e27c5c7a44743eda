"""Pictures near to what is blocked wait for a decision, which stands."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from indexer.new_labels import policy_of
from phosphene.moderation import calibrate_scores
from phosphene.types import DEFAULT_TENANT, AssetId, TenantId
from tests.search_api.served import serving, variation

NOT_FLAGGED = {"not": {"field": "moderation", "any_of": ["flagged", "rejected"]}}


def test_flagged_pictures_are_listed_decided_and_left_out_of_searches(data: Path) -> None:
    with serving(data, blocked_concepts=("fruit",)) as served:
        client = served.client
        done = client.post("/v1/moderation/scan", json={}).json()
        flagged = client.get("/v1/moderation").json()["assets"]
        assert done == {"pictures": 150, "flagged": len(flagged)}
        assert 0 < len(flagged) < 50
        scores = [one["score"] for one in flagged]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= 0.4
        assert flagged[0]["concept"] == "fruit"
        assert (flagged[0]["calibrated"], flagged[0]["probability"]) == (False, None)
        shown = client.get(f"/v1/assets/{flagged[0]['asset_id']}").json()
        assert shown["metadata"]["category"] == "food"  # by its own words

        first = flagged[0]["asset_id"]
        kept = client.post(f"/v1/moderation/{first}", json={"decision": "approve", "by": "Ada"}).json()
        assert (kept["state"], kept["by"]) == ("approved", "Ada")
        assert kept["at"] is not None
        again = client.post("/v1/moderation/scan", json={"min_score": 0}).json()
        assert again["flagged"] == 149  # the decision stands
        found = served.search(text="fruit", filter=NOT_FLAGGED, limit=100)["hits"]
        assert [hit["asset_id"] for hit in found] == [first]
        assert client.get("/v1/moderation", params={"state": "approved"}).json()["assets"] == [kept]
        assert client.post("/v1/moderation/scan", json={"min_score": 1}).json()["flagged"] == 0
        assert client.get("/v1/moderation").json()["assets"] == []

        again = client.post("/v1/moderation/scan", json={"min_score": 0.05}).json()
        assert len(client.get("/v1/moderation").json()["assets"]) == again["flagged"] > 1
        late = AssetId(UUID(client.get("/v1/moderation").json()["assets"][0]["asset_id"]))
        served.engine.catalog.labels.change(DEFAULT_TENANT, {late: {"moderation": None}})  # and its point lags behind
        left = [one["asset_id"] for one in client.get("/v1/moderation").json()["assets"]]
        assert len(left) == again["flagged"] - 1
        assert str(late) not in left

        for path, body, status in (
            (f"/v1/moderation/{uuid4()}", {"decision": "approve", "by": "Ada"}, 404),
            (f"/v1/moderation/{first}", {"decision": "perhaps", "by": "Ada"}, 422),
            (f"/v1/moderation/{first}", {"decision": "reject", "by": ""}, 422),
            (f"/v1/moderation/{late}", {"decision": "reject", "by": "Ada"}, 422),
            ("/v1/moderation/scan", {"min_score": 2}, 422),
        ):
            assert client.post(path, json=body).status_code == status, path
        assert client.get("/v1/moderation", params={"state": "odd"}).status_code == 422


def test_a_tenant_chooses_what_is_flagged_as_it_comes_in_and_decisions_teach_what_scores_mean(data: Path) -> None:
    with serving(data) as served:
        client = served.client
        assert client.get("/v1/moderation/policy").json() == {
            "concepts": [],
            "guard_rails": True,
            "min_score": 0.4,
            "at_ingest": False,
        }
        own = {"concepts": ["fruit"], "guard_rails": False, "min_score": 0.3, "at_ingest": True}
        for wrong in ({**own, "concepts": []}, {**own, "concepts": ["a", " a"]}, {**own, "min_score": 2}, {"odd": 1}):
            assert client.put("/v1/moderation/policy", json=wrong).status_code == 422, wrong
        assert client.put("/v1/moderation/policy", json=own).json() == own
        assert client.get("/v1/moderation/policy").json() == own
        assert policy_of(TenantId("other"), engine=served.engine) is None
        assert client.get("/v1/moderation").json()["assets"] == []  # nothing was looked at yet

        ranked = served.search(text="fruit", limit=100)["hits"]
        for hit in (ranked[0], ranked[-1]):
            alike = variation(client.get(hit["original_url"]).content, seed=5)
            client.post("/v1/assets", files={"image": ("new.png", alike)}, data={"title": f"new {hit['title']}"})
        (new,) = client.get("/v1/moderation").json()["assets"]
        assert (new["title"], new["concept"], new["state"]) == (f"new {ranked[0]['title']}", "fruit", "flagged")
        assert len(served.search(text="fruit", filter={"field": "moderation", "equals": "flagged"})["hits"]) == 1

        assert client.post("/v1/moderation/scan", json={"min_score": 0}).json() == {"pictures": 152, "flagged": 152}
        before = client.get("/v1/moderation").json()
        assert before["learned"] == []
        assert "no probabilities" in before["note"]
        chosen = [*before["assets"][:12], *before["assets"][-12:]]
        for place, one in enumerate(chosen):
            said = {"decision": "reject" if place < 11 else "approve", "by": "Ada"}
            done = client.post(f"/v1/moderation/{one['asset_id']}", json=said).json()
            assert done["calibrated"] is (place >= 19)  # twenty decisions, five of them either way
        after = client.get("/v1/moderation").json()
        assert after["learned"] == [{"concept": "fruit", "approved": 13, "rejected": 11}]
        assert "24 decisions" in after["note"]
        likely = [one["probability"] for one in after["assets"]]
        assert likely == sorted(likely, reverse=True)  # as the scores are
        assert likely[0] > 0.6
        assert likely[-1] < 0.4


def test_probabilities_are_those_by_which_decisions_were_made() -> None:
    rng = np.random.default_rng(7)
    scores = rng.uniform(0.05, 0.95, 4000)
    truth = 1 / (1 + np.exp(-(-0.7 + 1.5 * np.log(scores / (1 - scores)))))
    wrong = rng.random(4000) < truth
    decided = [("gore", float(score), bool(one)) for score, one in zip(scores, wrong, strict=True)]
    turned = [("maps", float(score), not one) for score, one in zip(scores, wrong, strict=True)]
    few = [("rare", 0.5, True)] * 19 + [("agreed", 0.5, True)] * 100
    learned = calibrate_scores([*decided, *turned, *few])
    assert sorted(learned) == ["gore", "maps"]
    for score, probability in zip(scores[:50], truth[:50], strict=True):
        assert learned["gore"].probability(float(score)) == pytest.approx(probability, abs=0.04)
    constant = learned["maps"].probability(0.1)  # a score that misleads tells nothing
    assert constant == learned["maps"].probability(0.9) == pytest.approx(1 - wrong.mean())
    assert 0 < learned["gore"].probability(0) < learned["gore"].probability(1) < 1
