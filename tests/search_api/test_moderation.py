"""Pictures near to what is blocked wait for a decision, which stands."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from phosphene.types import DEFAULT_TENANT, AssetId
from tests.search_api.served import serving

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
