from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from phosphene.types import DEFAULT_TENANT, AssetId
from tests.search_api.served import PICTURES, Served, png, sample_pictures, serving, variation


def test_a_text_finds_what_it_names(served: Served) -> None:
    """Each of these is shown by several pictures of the sample: one at least comes among the first ten."""
    for text, category in (("an animal", "animals"), ("food to eat", "food"), ("a car or a ship", "transportation")):
        hits = served.search(text=text, limit=10)["hits"]
        assert sum(hit["metadata"]["category"] == category for hit in hits) >= 3, (text, [h["title"] for h in hits])


def test_a_hit_tells_all_a_page_needs(served: Served) -> None:
    answer = served.search(text="a bird", limit=3)
    hit = answer["hits"][0]
    said = served.records[next(name for name in served.records if served.records[name]["title"] == hit["title"])]
    assert hit["metadata"]["licence"] == said["licence"]
    assert hit["state"] == "indexed"
    assert hit["width"] > 0
    assert -1 <= hit["score"] <= 1
    assert served.client.get(hit["thumbnail_url"]).headers["content-type"] == "image/jpeg"
    assert set(answer["timing_ms"]) == {"embed", "vectors", "catalogue", "match", "total"}
    assert answer["timing_ms"]["total"] >= answer["timing_ms"]["vectors"] > 0


def test_a_picture_of_the_catalogue_finds_itself(served: Served) -> None:
    for name in list(served.records)[::50]:
        data, said = sample_pictures()[name]
        uploaded = served.client.post("/v1/search/image", files={"image": ("any.name", data)}, data={"limit": "5"})
        assert uploaded.status_code == 200
        best = uploaded.json()["hits"][0]
        assert best["title"] == said["title"]
        assert best["score"] > 0.99
        encoded = base64.b64encode(data).decode()
        for image in (encoded, f"data:image/webp;base64,{encoded}"):
            assert served.search(image=image, limit=5)["hits"] == uploaded.json()["hits"]


def test_similar_pictures_leave_out_the_one_they_are_like(served: Served) -> None:
    hit = served.search(text="a fruit", limit=1)["hits"][0]
    by_asset = served.search(asset_id=hit["asset_id"], limit=8)
    assert len(by_asset["hits"]) == 8
    assert hit["asset_id"] not in [one["asset_id"] for one in by_asset["hits"]]
    by_path = served.client.get(f"/v1/assets/{hit['asset_id']}/similar", params={"limit": 8}).json()
    assert by_path["hits"] == by_asset["hits"]


def test_a_vector_of_any_length_finds_the_same(served: Served) -> None:
    vector = served.client.post("/v1/embeddings", json={"texts": ["a red car"]}).json()["texts"][0]
    by_text = served.search(text="a red car", limit=10)["hits"]
    by_vector = served.search(vector=[7.5 * number for number in vector], limit=10)["hits"]
    assert [hit["asset_id"] for hit in by_vector] == [hit["asset_id"] for hit in by_text]
    np.testing.assert_allclose([h["score"] for h in by_vector], [h["score"] for h in by_text], atol=1e-5)


def test_a_vector_says_of_which_space_it_is(served: Served) -> None:
    embedded = served.client.post("/v1/embeddings", json={"texts": ["a red car"]}).json()
    own: dict[str, Any] = {"vector": embedded["texts"][0], "space": embedded["space"]}
    assert served.search(**own)["hits"] == served.search(vector=own["vector"])["hits"]
    assert served.search(parts=[own, {"text": "a road"}], space=own["space"])["space"] == own["space"]
    other = own | {"space": "another-0123456789ab"}
    questions: list[dict[str, Any]] = [
        other,
        {"parts": [{"text": "a road"}, other]},
        {"text": "a road", "exclude": [other]},
        {"context": [{"positive": other, "negative": {"text": "a road"}}]},
        {"text": "a road", "space": other["space"]},
    ]
    for question in questions:
        refused = served.client.post("/v1/search", json=question)
        assert refused.status_code == 422, refused.text
        assert f"answers in {own['space']} now, not in another-0123456789ab" in refused.json()["detail"]
    misplaced = served.client.post("/v1/search", json={"parts": [{"text": "a road", "space": own["space"]}]})
    assert misplaced.status_code == 422
    assert "it goes beside" in misplaced.text


def test_scores_are_cosines_of_the_embeddings(served: Served) -> None:
    for hit in served.search(text="the moon", limit=3)["hits"]:
        picture = base64.b64encode(served.client.get(hit["original_url"]).content).decode()
        vectors = served.client.post("/v1/embeddings", json={"texts": ["the moon"], "images": [picture]}).json()
        assert len(vectors["texts"][0]) == vectors["dimension"]
        assert abs(float(np.linalg.norm(vectors["images"][0])) - 1) < 1e-4
        assert abs(float(np.dot(vectors["texts"][0], vectors["images"][0])) - hit["score"]) < 1e-3


def test_filters_hold(served: Served) -> None:
    records = served.records.values()
    food = sum(said["category"] == "food" for said in records)
    found = served.search(text="something", filter={"field": "category", "equals": "food"}, limit=100)["hits"]
    assert len(found) == food > 0
    assert {hit["metadata"]["category"] for hit in found} == {"food"}

    either = {"field": "category", "any_of": ["food", "animals"]}
    wide = {"field": "orientation", "equals": "landscape"}
    found = served.search(text="something", filter={"and": [either, {"not": wide}]}, limit=100)["hits"]
    assert found
    assert all(hit["metadata"]["category"] in ("food", "animals") for hit in found)
    assert all(hit["orientation"] != "landscape" for hit in found)

    created = {"field": "creator", "exists": True}
    found = served.search(text="something", filter=created, limit=100)["hits"]
    assert len(found) == min(100, sum("creator" in said for said in records))

    small = served.search(text="something", filter={"field": "width", "lt": 10}, limit=5)
    assert small["hits"] == []
    assert small["next_cursor"] is None


def test_paging_gives_the_whole_list_once_in_order(served: Served) -> None:
    seen: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = served.search(text="a house by the sea", limit=17, cursor=cursor)
        seen += answer["hits"]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len({hit["asset_id"] for hit in seen}) == PICTURES
    scores = [hit["score"] for hit in seen]
    assert scores == sorted(scores, reverse=True)
    at_once = served.search(text="a house by the sea", limit=100)["hits"]
    assert [hit["asset_id"] for hit in seen[:100]] == [hit["asset_id"] for hit in at_once]


def test_a_cursor_is_bound_to_its_question(served: Served) -> None:
    cursor = served.search(text="a cat", limit=5)["next_cursor"]
    for other in (
        {"text": "a dog"},
        {"text": "a cat", "filter": {"field": "category", "equals": "animals"}},
        {"asset_id": served.search(text="a cat", limit=1)["hits"][0]["asset_id"]},
    ):
        refused = served.client.post("/v1/search", json={**other, "cursor": cursor})
        assert refused.status_code == 422
        assert refused.json()["type"] == "urn:phosphene:problem:invalid-cursor"
    white = served.client.post("/v1/search", json={"text": "  a \n cat ", "cursor": cursor, "limit": 9})
    assert len(white.json()["hits"]) == 9


def test_pictures_added_between_pages_repeat_and_hide_nothing(data: Path) -> None:
    with serving(data) as served:
        wanted = sample_pictures()[list(sample_pictures())[10]][0]
        before = served.search(image=base64.b64encode(wanted).decode(), limit=100)["hits"][:60]
        seen, cursor = [], None
        for page in range(6):
            answer = served.search(image=base64.b64encode(wanted).decode(), limit=10, cursor=cursor)
            seen += [hit["asset_id"] for hit in answer["hits"]]
            cursor = answer["next_cursor"]
            for i in range(7):  # nearly the same picture: these go to the top of the list
                added = served.client.post("/v1/assets", files={"image": variation(wanted, 100 * page + i)})
                assert added.status_code == 201
                assert added.json()["state"] == "indexed"
        assert len(seen) == len(set(seen)) == 60
        assert seen == [hit["asset_id"] for hit in before]
        now = served.search(image=base64.b64encode(wanted).decode(), limit=43)["hits"]
        assert sum(hit["asset_id"] not in seen for hit in now) == 42


def test_an_asset_without_an_embedding_says_so(data: Path) -> None:
    with serving(data) as served:
        hit = served.search(text="a bird", limit=1)["hits"][0]
        index = served.engine.index
        index.delete([point.id for point in index.scroll(after=None, limit=1000)])
        refused = served.client.post("/v1/search", json={"asset_id": hit["asset_id"]})
        assert refused.status_code == 422
        assert "no embedding yet" in refused.json()["detail"]
        assert served.search(text="a bird")["hits"] == []


def test_points_that_the_catalogue_forgot_are_left_out(data: Path) -> None:
    with serving(data) as served:
        before = served.search(text="a bird", limit=10)["hits"]
        gone = [before[0]["asset_id"], before[4]["asset_id"]]
        for id_ in gone:
            served.engine.catalog.delete_asset(DEFAULT_TENANT, AssetId(UUID(id_)))  # behind the index's back
        after = served.search(text="a bird", limit=10)
        assert [h["asset_id"] for h in after["hits"]] == [h["asset_id"] for h in before if h["asset_id"] not in gone]
        assert after["next_cursor"] is not None


def test_fields_and_status_tell_what_is_there(served: Served) -> None:
    fields = {field["name"]: field for field in served.client.get("/v1/fields").json()["fields"]}
    told = {"name": "category", "kind": "keyword", "system": False, "description": None, "facet": True}
    assert fields["category"] == told
    assert fields["width"]["system"] is True
    status = served.client.get("/v1/status").json()
    assert status["assets"] == status["searchable"] == PICTURES
    assert status["embedded"] == PICTURES
    assert status["waiting"] == 0
    assert status["data"] is None
    local = served.client.get("/v1/status", headers=served.local).json()
    assert Path(local["data"]) == served.engine.settings.data.absolute()


def test_embeddings_of_pictures_keep_their_order(served: Served) -> None:
    pictures = [base64.b64encode(png(seed)).decode() for seed in range(5)]
    together = served.client.post("/v1/embeddings", json={"images": pictures}).json()["images"]
    alone = [served.client.post("/v1/embeddings", json={"images": [one]}).json()["images"][0] for one in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_multipart_search_takes_filters(served: Served) -> None:
    form = {"filter": json.dumps({"field": "category", "equals": "animals"}), "limit": "4"}
    answer = served.client.post("/v1/search/image", files={"image": png(1)}, data=form)
    assert {hit["metadata"]["category"] for hit in answer.json()["hits"]} == {"animals"}
    broken = served.client.post("/v1/search/image", files={"image": png(1)}, data={"filter": "{"})
    assert broken.status_code == 422
    assert "not JSON" in broken.json()["detail"]
