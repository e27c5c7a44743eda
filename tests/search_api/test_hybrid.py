"""Words looked up beside the picture, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.pipeline import add_asset
from phosphene.types import DEFAULT_TENANT, AssetId
from search_api.remainder import Remainder
from search_api.word_cursors import DEPTH
from tests.search_api.served import PICTURES, Served, png, serving


def titles(answer: dict[str, Any]) -> list[str]:
    return [hit["title"] for hit in answer["hits"]]


def walk(served: Served, **asked: Any) -> list[str]:  # noqa: ANN401  JSON
    """Turn all pages of a list."""
    found: list[str] = []
    cursor = None
    while True:
        answer = served.search(**asked, **({"cursor": cursor} if cursor else {}))
        found += [hit["asset_id"] for hit in answer["hits"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


def test_a_file_name_finds_its_picture_and_is_a_match_in_its_own_right(served: Served) -> None:
    names = [name for name in served.records if name[-1].isdigit()][::12]
    assert len(names) > 3
    for name in names:
        answer = served.search(text=name.upper().replace("-", "_"), mode="hybrid", limit=1, explain=True)
        assert titles(answer) == [served.records[name]["title"]], name
        assert answer["match"]["matched"] is answer["match"]["by_words"] is True
        assert answer["match"]["note"].startswith("found by its words (")
        assert answer["hits"][0]["explanation"]["words"]["rank"] == 1


def test_a_code_that_nothing_carries_is_no_match_for_it(served: Served) -> None:
    answer = served.search(text="zqx98765", mode="hybrid", limit=3)
    assert answer["match"]["by_words"] is False
    assert len(answer["hits"]) == 3  # the nearest by the picture
    assert served.search(text="zqx98765", mode="words", limit=3)["hits"] == []


def test_by_itself_it_is_both_where_that_can_be(served: Served) -> None:
    asset = served.search(text="bird", limit=1)["hits"][0]["asset_id"]
    text, both = ({"text": "a bird animal", "limit": 9}, served.search(text="a bird animal", mode="hybrid", limit=9))
    assert both["hits"] != served.search(**text)["hits"]
    auto = served.search(**text, mode="auto")
    assert (auto["mode"], auto["hits"]) == ("hybrid", both["hits"])
    following = served.search(**text, mode="auto", cursor=auto["next_cursor"])
    assert following["hits"] == served.search(**text, mode="hybrid", cursor=both["next_cursor"])["hits"]
    for question in ({"asset_id": asset}, {"query": "2:bird + car"}, {"text": "bird", "prior_search": True}):
        told = served.search(**question, mode="auto", limit=3)
        assert told["mode"] == "picture"
        assert told["hits"] == served.search(**question, limit=3)["hits"]


def test_what_both_find_comes_before_what_one_finds(served: Served) -> None:
    """Creators are nothing that a picture shows."""
    title, creator = next((one["title"], one["creator"]) for one in served.records.values() if one.get("creator"))
    hits = served.search(text=f"{title} {creator}", mode="hybrid", limit=3, explain=True)["hits"]
    assert (hits[0]["title"], hits[0]["metadata"]["creator"]) == (title, creator)
    scores = [hit["explanation"]["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[0] <= 1


def test_explanations_tell_both_places_and_the_words(served: Served) -> None:
    picture = served.search(text="bird", mode="picture", limit=100)["hits"]
    words = served.search(text="bird", mode="words", limit=100, explain=True)["hits"]
    cosines = {hit["asset_id"]: hit["score"] for hit in picture}
    ranks = {hit["asset_id"]: hit["explanation"]["words"]["rank"] for hit in words}
    assert words
    assert all(hit["explanation"]["matched"] == ["bird"] for hit in words)
    for hit in served.search(text="bird", mode="hybrid", limit=20, explain=True)["hits"]:
        said = hit["explanation"]
        assert said["picture"]["score"] == hit["score"]
        assert hit["score"] == pytest.approx(cosines.get(hit["asset_id"], hit["score"]), abs=1e-4)
        assert (said["words"] is not None) is (hit["asset_id"] in ranks) is (said["matched"] == ["bird"])
    assert all(hit["explanation"] is None for hit in served.search(text="bird", mode="hybrid", limit=3)["hits"])


def test_weights_move_the_list_towards_one_part(served: Served) -> None:
    def first(**asked: Any) -> list[str]:  # noqa: ANN401  JSON
        return [hit["asset_id"] for hit in served.search(text="blue bird", limit=10, **asked)["hits"]]

    picture, words = first(mode="picture"), first(mode="words")
    for fusion in ("rrf", "weighted"):
        assert first(mode="hybrid", fusion=fusion, weights={"picture": 1, "words": 0}) == picture
        assert set(first(mode="hybrid", fusion=fusion, weights={"picture": 0, "words": 1})[: len(words)]) == set(words)


def test_filters_hold_for_words(served: Served) -> None:
    animals = {"field": "category", "equals": "animals"}
    for mode in ("hybrid", "words"):
        hits = served.search(text="bird flower car", mode=mode, filter=animals, limit=100)["hits"]
        assert hits
        assert {hit["metadata"]["category"] for hit in hits} == {"animals"}


@pytest.mark.parametrize("limit", [7, 64, 100])
def test_all_pages_together_are_the_catalogue_once(served: Served, limit: int) -> None:
    assert DEPTH < PICTURES  # so that a list goes on behind its candidates
    found = walk(served, text="a bird on a tree", mode="hybrid", limit=limit)
    assert len(found) == len(set(found)) == PICTURES
    words = walk(served, text="bird animal public", mode="words", limit=limit)
    assert len(words) == len(set(words)) > limit
    whole = served.search(text="bird animal public", mode="words", limit=100)["hits"]
    assert words[:100] == [hit["asset_id"] for hit in whole]


def test_pages_fit_together_while_pictures_come_in(data: Path) -> None:
    with serving(data) as served:
        for mode in ("hybrid", "words"):
            asked = {"text": "bird animal", "mode": mode, "limit": 10}
            before = walk(served, **asked)
            found: list[str] = []
            cursor, number = None, 0
            while True:
                answer = served.search(**asked, **({"cursor": cursor} if cursor else {}))
                found += [hit["asset_id"] for hit in answer["hits"]]
                cursor = answer["next_cursor"]
                if cursor is None:
                    break
                for _ in range(3):
                    number += 1
                    add_asset(
                        png(hash((mode, number)) % 10_000),
                        engine=served.engine,
                        tenant=DEFAULT_TENANT,
                        uri="upload:x",
                        title=f"bird animal {number}",
                    )
            assert len(found) == len(set(found)), mode
            assert set(before) <= set(found), mode


def test_words_follow_a_new_title(data: Path) -> None:
    with serving(data) as served:
        asset = served.search(text="a fruit", limit=1)["hits"][0]["asset_id"]
        assert served.search(text="quetzal", mode="words")["hits"] == []
        served.client.patch(f"/v1/assets/{asset}", json={"title": "Quetzal AB-1234"}).raise_for_status()
        for text in ("quetzal", "ab1234", "AB_1234"):
            assert [hit["asset_id"] for hit in served.search(text=text, mode="words")["hits"]] == [asset]
        served.client.delete(f"/v1/assets/{asset}").raise_for_status()
        assert served.search(text="quetzal", mode="words")["hits"] == []
        assert served.engine.catalog.assets(DEFAULT_TENANT, [AssetId(UUID(asset))]) == {}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"vector": [1.0] * 64, "mode": "hybrid"}, "looks words up"),
        ({"text": "dog", "mode": "sounds"}, "mode"),
        ({"text": "dog", "fusion": "best"}, "fusion"),
        ({"text": "dog", "weights": {"picture": -1}}, "weights"),
        ({"text": "dog", "weights": {"picture": 0, "words": 0}, "mode": "hybrid"}, "weights"),
        ({"text": "dog", "weights": {"sounds": 1}}, "weights"),
        ({"text": "dog", "mode": "words", "prior_search": True}, "leave the mode out"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(served: Served, body: dict[str, Any], said: str) -> None:
    dimension = served.engine.current.space.dimension
    if "vector" in body:
        body = body | {"vector": [1.0] * dimension}
    refused = served.client.post("/v1/search", json=body)
    assert refused.status_code in (400, 422), refused.text
    assert said in refused.text


@pytest.mark.parametrize("mode", ["hybrid", "words"])
def test_cursors_of_others_and_of_other_questions_are_refused(served: Served, mode: str) -> None:
    asked = {"text": "bird animal public", "mode": mode, "limit": 5}
    cursor = served.search(**asked)["next_cursor"]
    nowhere = Remainder("q", (), "H~zz").encode()
    strange = [nowhere, cursor[:-4], cursor[2:], cursor[:2], f"{cursor[:2]}AAAA", f"{cursor[:2]}{'A' * 20_000}"]
    for body in (
        *({**asked, "cursor": text} for text in strange),
        {**asked, "text": "cat animal public", "cursor": cursor},
        {**asked, "mode": "picture", "cursor": cursor},
        {**asked, "mode": "words" if mode == "hybrid" else "hybrid", "cursor": cursor},
    ):
        refused = served.client.post("/v1/search", json=body)
        assert refused.status_code == 422, body
        assert "cursor" in refused.json()["detail"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(min_size=1, max_size=60).filter(lambda one: bool(one.split())),
    mode=st.sampled_from(["hybrid", "words"]),
)
def test_any_text_is_answered(served: Served, text: str, mode: str) -> None:
    answer = served.client.post("/v1/search", json={"text": text, "mode": mode, "limit": 3, "explain": True})
    assert answer.status_code in (200, 422), answer.text
