"""Words for pictures, over HTTP."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import pytest

from tests.search_api.served import Served, sample_pictures, serving, variation

THINGS = ["a boat", "an animal", "food", "a computer", "a tree", "music"]


def refused(served: Served, path: str, body: dict[str, Any]) -> str:
    response = served.client.post(path, json=body)
    assert response.status_code == 422, response.text
    assert len(response.content) < 2000
    return str(response.json()["detail"])


@pytest.fixture(scope="module")
def picture(served: Served) -> str:
    assets = served.client.get("/v1/assets", params={"limit": 1}).json()["assets"]
    return str(assets[0]["asset_id"])


def classified(served: Served, picture: str, **more: object) -> dict[str, Any]:
    response = served.client.post("/v1/classify", json={"asset_id": picture, **more})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_shares_are_of_the_labels_that_are_named(served: Served, picture: str) -> None:
    found = classified(served, picture, labels=THINGS)
    assert sorted(one["label"] for one in found["labels"]) == sorted(THINGS)
    shares = [one["probability"] for one in found["labels"]]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    two = classified(served, picture, labels=THINGS, limit=2)
    assert two["labels"] == found["labels"][:2]


def test_a_file_is_classified_like_its_asset(served: Served) -> None:
    name, (data, _) = next(iter(sample_pictures().items()))
    sent = base64.b64encode(data).decode()
    body = {"labels": THINGS, "templates": ["a drawing of {}"]}
    alone = served.client.post("/v1/classify", json={"image": sent, **body}).json()
    hit = served.client.post("/v1/search", json={"image": sent, "limit": 1}).json()["hits"][0]
    kept = classified(served, hit["asset_id"], **body)
    assert [one["label"] for one in alone["labels"]] == [one["label"] for one in kept["labels"]], name
    assert alone["templates"] == ["a drawing of {}"]


def test_the_templates_of_imagenet_are_eighty(served: Served, picture: str) -> None:
    assert len(classified(served, picture, labels=["cat", "dog"], templates="imagenet")["templates"]) == 80


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"labels": [f"label {number}" for number in range(10_000)]}, "at most 1000"),
        ({"labels": []}, "at least 1"),
        ({"labels": ["cat", ""]}, "at least 1"),
        ({"labels": ["cat", " \t"]}, "no text with a word"),
        ({"labels": ["cat", "do\x00g"]}, "no text"),
        ({"labels": ["cat", "\x1b]0;x"]}, "no text"),
        ({"labels": ["cat", "x" * 100_000]}, "at most 400"),
        ({"labels": ["cat"]}, "send two"),
        ({"labels": ["cat", "cat "]}, "twice"),
        ({"labels": ["cat", "dog"], "templates": ["a photo"]}, "where the label goes"),
        ({"labels": ["cat", "dog"], "templates": [f"{n} {{}}" for n in range(101)]}, "1 to 100"),
        (
            {"labels": [f"l{n}" for n in range(13)], "templates": "imagenet"},
            "more than 1,000 texts to embed: send fewer",
        ),
        ({"labels": ["cat", "dog"], "limit": 0}, "greater than or equal to 1"),
        ({"labels": ["cat", "dog"], "image": "AAAA"}, "exactly one"),
    ],
)
def test_hostile_labels_are_refused_with_a_reason(more: dict[str, Any], why: str, served: Served, picture: str) -> None:
    assert why in refused(served, "/v1/classify", {"asset_id": picture, **more})


def test_a_picture_is_asked_for(served: Served) -> None:
    assert "exactly one of image" in refused(served, "/v1/describe", {})
    assert "exactly one of image" in refused(served, "/v1/classify", {"labels": ["cat", "dog"]})
    unknown = served.client.post("/v1/describe", json={"asset_id": str(uuid4())})
    assert unknown.status_code == 404
    assert served.client.post("/v1/describe", json={"image_url": "http://127.0.0.1/"}).status_code == 403


def test_a_description_has_every_kind_and_a_line(served: Served, picture: str) -> None:
    found = served.client.post("/v1/describe", json={"asset_id": picture, "limit": 4}).json()
    assert list(found["phrases"]) == ["subject", "medium", "style", "colours", "setting", "mood"]
    assert all(len(ranked) == 4 for ranked in found["phrases"].values())
    best = {kind: ranked[0]["label"] for kind, ranked in found["phrases"].items()}
    assert found["text"].startswith(f"{best['medium']} of {best['subject']}")
    one = served.client.post("/v1/describe", json={"asset_id": picture, "kinds": ["mood"], "limit": 1}).json()
    assert one["text"] == one["phrases"]["mood"][0]["label"]
    assert one["phrases"] == {"mood": found["phrases"]["mood"][:1]}
    assert "kinds: subject" in refused(served, "/v1/describe", {"asset_id": picture, "kinds": ["colour"]})


def test_keywords_are_learned_written_and_filtered_by(data: Any) -> None:  # noqa: ANN401  a path
    with serving(data, auto_keywords=True) as served:
        picture = served.client.get("/v1/assets", params={"limit": 1}).json()["assets"][0]["asset_id"]
        before = classified(served, picture, multi_label=True, labels=["cat"])
        assert not before["calibrated"]
        assert before["labels"][0]["probability"] is None
        assert "not calibrated" in before["note"]
        done = served.client.post("/v1/keywords", json={"min_probability": 0.2}).json()
        assert done["pictures"] == 150
        assert done["calibration"]["words"] >= 10
        assert 0.6 < done["calibration"]["auroc"] < 1
        word, pictures = next(iter(done["words"].items()))
        found = served.search(text=word, filter={"field": "auto_keywords", "equals": word}, limit=100)
        assert len(found["hits"]) == pictures
        assert all(0.2 <= hit["auto_keywords"][word] <= 1 for hit in found["hits"])
        again = served.client.post("/v1/keywords", json={"new_only": True}).json()
        assert again["pictures"] == 0
        after = classified(served, picture, multi_label=True, labels=["cat"])
        assert after["calibrated"]
        assert 0 < after["labels"][0]["probability"] < 1
        learned = served.client.get("/v1/vocabulary").json()
        assert learned["licence"] == "CC0-1.0"
        assert learned["calibration"] == done["calibration"]
        own = served.client.post("/v1/keywords", json={"vocabulary": ["zzyzx road"], "min_probability": 0.9}).json()
        assert set(own["words"]) <= {"zzyzx road"}
        for wrong in ([], ["a", "a"], ["\x07"], [f"w{n}" for n in range(10_001)]):
            refused(served, "/v1/keywords", {"vocabulary": wrong})
        sure = max(found["hits"], key=lambda hit: float(hit["auto_keywords"][word]))
        assert sure["auto_keywords"][word] > 0.4
        alike = variation(served.client.get(sure["original_url"]).content, seed=5)
        uploaded = served.client.post("/v1/assets", files={"image": ("n.png", alike)}).json()
        assert word in uploaded["auto_keywords"]  # found as it was embedded
