"""Arranged lists and facets over HTTP, on pictures of the demo catalogue and the starter model."""

from __future__ import annotations

import base64
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import httpx2
import pytest

from search_api.rerank import Candidate, RerankQuestion
from tests.search_api.served import PICTURES, Served, png

ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "diversity": {"diversity": 0.4},
    "collapse": {"collapse": "duplicates"},
    "creator": {"group_by": "creator"},
    "near duplicates": {"group_by": "near_duplicates"},
    "all": {"diversity": 0.3, "collapse": "duplicates", "group_by": "category"},
}


def walked(served: Served, limit: int, **asked: Any) -> list[dict[str, Any]]:  # noqa: ANN401  JSON
    hits: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = served.search(**asked, limit=limit, **({"cursor": cursor} if cursor else {}))
        hits += answer["hits"]
        cursor = answer["next_cursor"]
        if cursor is None:
            return hits
        assert len(answer["hits"]) == limit


def shown(hits: Sequence[dict[str, Any]]) -> list[str]:
    return [one["asset_id"] for hit in hits for one in (hit, *(hit["group"]["others"] if hit["group"] else []))]


@pytest.mark.parametrize("how", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_pages_of_an_arranged_list_are_the_whole_list(served: Served, how: dict[str, Any]) -> None:
    whole = walked(served, 100, text="an animal", **how)
    assert walked(served, 7, text="an animal", **how) == whole
    assert len(shown(whole)) == len(set(shown(whole)))
    if "collapse" not in how and "group_by" not in how:
        assert len(whole) == PICTURES


@pytest.mark.parametrize("mode", ["hybrid", "words"])
@pytest.mark.parametrize("how", [ARRANGEMENTS["diversity"], ARRANGEMENTS["all"]], ids=["diversity", "all"])
def test_lists_by_words_are_arranged_as_others_are(served: Served, how: dict[str, Any], mode: str) -> None:
    asked = {"text": "an animal or a public bird", "mode": mode}
    plain = walked(served, 50, **asked)
    whole = walked(served, 100, **asked, **how)
    assert walked(served, 40, **asked, **how) == whole
    ids = shown(whole)
    assert ids[0] == shown(plain)[0]
    assert len(ids) == len(set(ids))
    assert set(ids) <= set(shown(plain))
    if "collapse" not in how and "group_by" not in how:
        assert len(ids) == len(plain)
        assert ids != shown(plain)


@pytest.mark.parametrize("mode", ["hybrid", "words"])
def test_an_arranged_list_by_words_explains_its_hits_on_each_page(served: Served, mode: str) -> None:
    asked = {"text": "bird", "mode": mode, "explain": True}
    plain = {hit["asset_id"]: hit["explanation"] for hit in walked(served, 50, **asked)}
    arranged = walked(served, 30, **asked, diversity=0.5)
    assert {hit["asset_id"]: hit["explanation"] for hit in arranged} == plain
    assert arranged[0]["explanation"]["words"]["rank"] is not None


def test_a_code_stays_in_front_of_a_diverse_hybrid_list(served: Served) -> None:
    name = next(name for name in served.records if name[-1].isdigit())
    answer = served.search(text=name, mode="hybrid", limit=3, diversity=1)
    assert answer["hits"][0]["title"] == served.records[name]["title"]
    assert answer["match"]["by_words"] is True


def test_groups_of_words_hold_only_pictures_that_carry_them(served: Served) -> None:
    hits = walked(served, 20, text="bird flower", mode="words", group_by="category", group_size=3, explain=True)
    assert len(hits) == len({hit["group"]["value"] for hit in hits}) > 1
    carrying = set(shown(walked(served, 50, text="bird flower", mode="words")))
    assert set(shown(hits)) <= carrying


@pytest.mark.parametrize("how", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_similar_leaves_out_the_picture_asked_with(served: Served, how: dict[str, Any]) -> None:
    asset = served.search(text="a bird", limit=1)["hits"][0]["asset_id"]
    hits = walked(served, 40, asset_id=asset, facets=["category"], **how)
    assert asset not in shown(hits)
    assert shown(hits)


@pytest.mark.parametrize("how", [ARRANGEMENTS["all"], ARRANGEMENTS["near duplicates"]], ids=["all", "near duplicates"])
def test_uploads_and_similar_pictures_are_arranged_and_counted_as_a_search_is(
    served: Served, how: dict[str, Any]
) -> None:
    counted = ["category", "year"]
    asset = served.search(text="a bird", limit=1)["hits"][0]["asset_id"]
    asked = {"limit": 9, "facets": counted, **how}
    told = served.search(asset_id=asset, **asked)
    path = f"/v1/assets/{asset}/similar"
    similar = served.client.get(path, params=asked).json()
    assert shown(similar["hits"]) == shown(told["hits"])
    assert similar["facets"] == told["facets"]
    following = served.client.get(path, params={**asked, "cursor": similar["next_cursor"]}).json()
    assert shown(following["hits"]) == shown(served.search(asset_id=asset, **asked, cursor=told["next_cursor"])["hits"])

    picture = png(3)
    told = served.search(image=base64.b64encode(picture).decode(), **asked)
    form = {name: str(value) if isinstance(value, int | float) else value for name, value in asked.items()}
    uploaded = served.client.post("/v1/search/image", files={"image": picture}, data=form).json()
    assert shown(uploaded["hits"]) == shown(told["hits"])
    assert uploaded["facets"] == told["facets"]
    for wrong in ({"diversity": "2"}, {"collapse": "all"}, {"group_by": "nobody"}, {"facets": ["nobody"]}):
        name = next(iter(wrong))
        for answer in (
            served.client.get(path, params=wrong),
            served.client.post("/v1/search/image", files={"image": picture}, data=wrong),
        ):
            assert answer.status_code == 422, wrong
            assert name in answer.json()["detail"]


def test_groups_are_of_one_value_each_and_say_how_many_pictures_have_it(served: Served) -> None:
    creators = Counter(said["creator"] for said in served.records.values() if said.get("creator"))
    hits = walked(served, 50, text="an animal", group_by="creator", group_size=2)
    named = [hit["group"]["value"] for hit in hits if hit["group"]["value"] is not None]
    assert sorted(named) == sorted(creators)
    for hit in hits:
        group = hit["group"]
        assert all(one["metadata"]["creator"] == group["value"] for one in (hit, *group["others"]) if group["value"])
        assert group["pictures"] == creators.get(group["value"])
        assert len(group["others"]) == min(2, group["pictures"] or 1) - 1
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_diversity_shows_other_things_sooner(served: Served) -> None:
    plain = served.search(text="an animal", limit=10)["hits"]
    diverse = served.search(text="an animal", limit=10, diversity=0.6)["hits"]
    assert diverse[0] == plain[0]
    ids = [hit["asset_id"] for hit in diverse]
    assert ids != [hit["asset_id"] for hit in plain]
    assert served.search(text="an animal", limit=10, diversity=0)["hits"] == plain


def test_facets_count_all_pictures_and_the_best(served: Served) -> None:
    answer = served.search(
        text="an animal", limit=3, facets=["category", {"field": "keywords", "limit": 5}, "generated"]
    )
    category, keywords, generated = (answer["facets"][name] for name in ("category", "keywords", "generated"))
    counted = Counter(said["category"] for said in served.records.values())
    assert {one["value"]: one["count"] for one in category["values"]} == dict(counted.most_common(12))
    assert category["pictures"] == category["best"] == PICTURES == sum(counted.values()) + category["missing"]
    assert [one["count"] for one in category["values"]] == [one["among_best"] for one in category["values"]]
    assert len(keywords["values"]) == 5
    assert keywords["more"]
    assert generated["values"] == [{"value": False, "count": PICTURES, "among_best": PICTURES}]
    narrow = served.search(text="an animal", limit=3, facets=["category"], filter={"field": "year", "gte": 1900})
    dated = Counter(said["category"] for said in served.records.values() if said.get("year"))
    assert {one["value"]: one["count"] for one in narrow["facets"]["category"]["values"]} == dict(dated.most_common(12))


NARROWED: dict[str, dict[str, Any]] = {
    "exclude": {"text": "an animal", "exclude": [{"text": "bird"}, {"text": "flowers"}]},
    "NOT": {"query": "outdoors NOT people -snow year:2000..2010"},
    "context": {"context": [{"positive": {"text": "animal"}, "negative": {"text": "tool"}}]},
    "words": {"text": "bird flower", "mode": "words", "exclude": [{"text": "tree"}]},
}


@pytest.mark.parametrize("asked", NARROWED.values(), ids=NARROWED.keys())
def test_counts_and_groups_are_of_what_the_question_lets_through(served: Served, asked: dict[str, Any]) -> None:
    hits = walked(served, 100, **asked)
    assert 0 < len(hits) < PICTURES
    answer = served.search(**asked, limit=1, facets=["category", "year"])
    category, year = (answer["facets"][name] for name in ("category", "year"))
    counted = Counter(hit["metadata"]["category"] for hit in hits if "category" in hit["metadata"])
    assert {one["value"]: one["count"] for one in category["values"]} == dict(counted.most_common(12))
    assert category["exact"] is True
    assert category["pictures"] == category["best"] == len(hits)
    dated = [hit for hit in hits if hit["metadata"].get("year")]
    if "query" not in asked:  # whose condition does not narrow its own field
        assert sum(one["count"] for one in year["ranges"]) == len(dated)
    groups = served.search(**asked, limit=100, group_by="category")["hits"]
    assert {hit["group"]["value"]: hit["group"]["pictures"] for hit in groups} == counted


def test_the_picture_asked_with_is_not_counted(served: Served) -> None:
    asset = served.search(text="a bird", limit=1)["hits"][0]["asset_id"]
    category = served.search(asset_id=asset, limit=1, facets=["category"])["facets"]["category"]
    assert category["pictures"] == category["best"] == PICTURES - 1
    near = {"parts": [{"text": "dog"}, {"text": "cat", "weight": -1}], "strategy": "best_score"}
    assert served.search(**near, limit=1, facets=["category"])["facets"]["category"]["exact"] is False


def test_a_condition_narrows_the_counts_of_other_fields_only(served: Served) -> None:
    food = {"field": "category", "equals": "food"}
    wide = {"field": "orientation", "equals": "landscape"}
    free = served.search(text="x", limit=1, facets=["category"])["facets"]["category"]
    one = served.search(text="x", limit=1, facets=["category", "orientation"], filter=food)["facets"]
    assert one["category"] == free
    assert one["orientation"]["pictures"] == next(v["count"] for v in free["values"] if v["value"] == "food")
    both = served.search(text="x", limit=1, facets=["category", "orientation"], filter={"and": [food, wide]})["facets"]
    assert both["orientation"] == one["orientation"]
    assert both["category"]["pictures"] < free["pictures"]


@pytest.mark.parametrize("field", ["year", "bytes", "width", "megapixels", "added_at"])
def test_ranges_hold_every_picture_and_are_filters(served: Served, field: str) -> None:
    facet = served.search(text="an animal", limit=1, facets=[{"field": field, "limit": 8}])["facets"][field]
    assert 1 <= len(facet["ranges"]) <= 8
    assert sum(one["count"] for one in facet["ranges"]) + facet["missing"] == facet["pictures"] == PICTURES
    assert sum(one["among_best"] for one in facet["ranges"]) + facet["missing"] == facet["best"]
    fullest = max(facet["ranges"], key=lambda one: one["count"])
    where = {"field": field, "gte": fullest["gte"], "lt": fullest["lt"]}
    assert len(walked(served, 100, text="an animal", filter=where)) == fullest["count"]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"diversity": 2}, "diversity"),
        ({"diversity": "NaN"}, "diversity"),
        ({"collapse": "all"}, "collapse"),
        ({"group_by": "nobody"}, "makes no groups"),
        ({"group_by": "megapixels"}, "makes no groups"),
        ({"group_by": "tenant"}, "makes no groups"),
        ({"group_by": "creator", "group_size": 0}, "group_size"),
        ({"collapse": "duplicates", "group_by": "near_duplicates"}, "one of them"),
        ({"prior_search": True, "diversity": 0.5}, "prior_search"),
        ({"rerank": True}, "PHOSPHENE_RERANK"),
        ({"facets": ["nobody"]}, "no field 'nobody'"),
        ({"facets": ["tenant"]}, "no field 'tenant'"),
        ({"facets": ["category", "category"]}, "twice"),
        ({"facets": ["category"] * 99}, "facets"),
        ({"facets": [{"field": "category", "limit": 0}]}, "limit"),
        ({"facets": "category"}, "facets"),
        ({"group_by": "creator", "cursor": "L~hello"}, "none of ours"),
    ],
)
def test_what_makes_no_sense_is_a_clear_422(served: Served, asked: dict[str, Any], complaint: str) -> None:
    answer = served.client.post("/v1/search", json={"text": "an animal", **asked})
    assert answer.status_code in (400, 422), answer.text
    assert complaint in answer.text


def test_a_cursor_goes_on_with_its_own_list_only(served: Served) -> None:
    asked = {"text": "an animal", "limit": 5}
    plain = served.search(**asked)["next_cursor"]
    grouped = served.search(**asked, group_by="creator")["next_cursor"]
    for wrong in ({"cursor": grouped}, {"cursor": plain, "group_by": "creator"}, {"cursor": grouped, "diversity": 0.1}):
        answer = served.client.post("/v1/search", json={**asked, **wrong})
        assert answer.status_code == 422, wrong
        assert "cursor" in answer.json()["detail"]


def by_title(question: RerankQuestion, candidates: Sequence[Candidate]) -> list[float]:
    assert question.text == "an animal"
    assert len(question.vector) > 1
    return [-float(ord(str(one.fields["title"])[0].lower())) for one in candidates]


def broken(_: RerankQuestion, __: Sequence[Candidate]) -> list[float]:
    raise KeyError("no such thing")


def slow(_: RerankQuestion, candidates: Sequence[Candidate]) -> list[float]:
    time.sleep(1)
    return [0.0] * len(candidates)


def short(_: RerankQuestion, candidates: Sequence[Candidate]) -> list[float]:
    return [0.0] * (len(candidates) - 1)


@pytest.fixture
def hooked(served: Served, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Name a function of this module as the deployment's hook."""
    module = ModuleType("hooks_of_this_test")
    for function in (by_title, broken, slow, short):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def name(function: str) -> None:
        said = {"rerank": f"{module.__name__}:{function}", "rerank_timeout_s": 0.3 if function == "slow" else 30}
        monkeypatch.setattr(served.engine, "settings", served.engine.settings.model_copy(update=said))

    return name


def test_a_hook_orders_the_best_hits(served: Served, hooked: Callable[[str], None]) -> None:
    plain = served.search(text="an animal", limit=100)["hits"]
    hooked("by_title")
    for mode in ("picture", "hybrid"):
        found = walked(served, 50, text="an animal", mode=mode)
        assert sorted(shown(found)) == sorted(shown(walked(served, 50, text="an animal", rerank=False)))
        assert [hit["title"][0].lower() for hit in found[:100]] == sorted(
            hit["title"][0].lower() for hit in found[:100]
        )
    hits = walked(served, 9, text="an animal")
    assert len({hit["asset_id"] for hit in hits}) == len(hits) == PICTURES
    assert [hit["title"][0].lower() for hit in hits[:100]] == sorted(hit["title"][0].lower() for hit in plain)
    assert served.search(text="an animal", limit=100, rerank=False)["hits"] == plain


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("broken", "raised KeyError"),
        ("slow", "took longer than 0.3 s"),
        ("short", "gave no list of 100 finite numbers"),
    ],
)
def test_a_hook_that_fails_leaves_the_order_and_says_so(
    served: Served,
    hooked: Callable[[str], None],
    function: str,
    complaint: str,
) -> None:
    plain = served.search(text="an animal", limit=20)
    assert plain["note"] is None
    hooked(function)
    answer = served.search(text="an animal", limit=20)
    assert answer["hits"] == plain["hits"]
    assert answer["note"].startswith("the order was left as it is: ")
    assert complaint in answer["note"]


def test_fields_are_declared_ahead_and_told_of(served: Served) -> None:
    def put(**field: Any) -> httpx2.Response:  # noqa: ANN401  JSON
        return served.client.put("/v1/fields", json={"fields": [field]})

    told = put(name="shot_at", kind="geo", description="where the camera stood").json()["fields"]
    assert told == served.client.get("/v1/fields").json()["fields"]
    by_name = {field["name"]: field for field in told}
    assert by_name["shot_at"]["description"] == "where the camera stood"
    assert not by_name["shot_at"]["facet"]
    assert by_name["category"]["facet"]
    here = {"field": "shot_at", "within": {"lat": 0, "lon": 0, "radius_m": 10}}
    assert served.search(text="an animal", filter=here)["hits"] == []
    assert put(name="archive_no", kind="keyword", facet=False).status_code == 200
    refused = served.client.post("/v1/search", json={"text": "an animal", "facets": ["archive_no"]})
    assert refused.status_code == 422
    assert "declared as no facet" in refused.json()["detail"]
    for name, kind in (("shot_at", "float"), ("width", "integer"), ("A b", "geo"), ("x", "colour")):
        assert put(name=name, kind=kind).status_code in (400, 422), name
