"""Questions of several parts, over HTTP, on 150 pictures of the demo catalogue."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from phosphene.errors import InvalidCursor
from phosphene.unclip.geometry import direction, text_diff
from search_api.compose import split_cursor
from tests.search_api.served import Served, png

Json = dict[str, Any]


def titles(answer: Json) -> list[str]:
    return [hit["title"] for hit in answer["hits"]]


def ids(answer: Json) -> list[str]:
    return [hit["asset_id"] for hit in answer["hits"]]


def embedded(served: Served, *texts: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(served.client.post("/v1/embeddings", json={"texts": list(texts)}).json()["texts"])


def first(served: Served, text: str) -> str:
    return str(served.search(text=text, limit=1)["hits"][0]["asset_id"])


def everything(served: Served, **body: Any) -> list[str]:  # noqa: ANN401  JSON
    return ids(served.search(**body, limit=100))


def test_one_part_is_the_question_itself_however_it_is_asked(served: Served) -> None:
    plain = served.search(text="a bird", limit=9)
    for body in ({"parts": [{"text": "a bird", "weight": 3}]}, {"query": "a bird"}, {"query": '7:"a bird"'}):
        answer = served.search(**body, limit=9)
        assert answer["hits"] == plain["hits"]
        assert answer["match"] == plain["match"]
        assert answer["understood"]["plain"] is True
    asset = first(served, "a bird")
    assert served.search(query=f"asset:{asset}")["hits"] == served.search(asset_id=asset)["hits"]


def test_a_picture_and_a_text_of_one_weight_count_the_same(served: Served) -> None:
    """Unbalanced the picture decides alone: its hits are all that is listed."""
    asset = first(served, "a sailing ship")
    like, said = everything(served, asset_id=asset), everything(served, text="a fruit")
    both = ids(served.search(parts=[{"asset_id": asset}, {"text": "a fruit"}], limit=10))
    ranks = [np.mean([ranked.index(one) if one in ranked else 100 for one in both]) for ranked in (like, said)]
    assert max(ranks) < 2.5 * min(ranks)
    assert max(ranks) < 50


def test_weights_lead_towards_and_away(served: Served) -> None:
    animal, food = embedded(served, "an animal", "food")

    def leaning(weight: float) -> float:
        answer = served.search(parts=[{"text": "an animal"}, {"text": "food", "weight": weight}], limit=10)
        pictures = [base64.b64encode(served.client.get(hit["original_url"]).content).decode() for hit in answer["hits"]]
        rows = np.array(served.client.post("/v1/embeddings", json={"images": pictures}).json()["images"])
        return float((rows @ food - rows @ animal).mean())

    leanings = [leaning(weight) for weight in (-1, -0.2, 0.5, 1, 3)]
    assert leanings == sorted(leanings)
    assert leanings[-1] > leanings[0] + 0.1


def test_what_is_excluded_is_taken_out_and_nothing_else_moves(served: Served) -> None:
    plain = everything(served, text="an animal")
    for body in (
        {"text": "an animal", "exclude": [{"text": "bird"}]},
        {"query": "an animal NOT bird"},
        {"query": "an animal without a bird"},
        {"query": "an animal, not a bird"},
    ):
        left = everything(served, **body)
        kept = [one for one in plain if one in set(left)]
        assert left[: len(kept)] == kept  # behind them come those that were behind the hundredth
        assert 1 <= len(plain) - len(kept) <= 20
        shown = served.search(**body, limit=100)["hits"]
        assert not [hit["title"] for hit in shown if "bird" in (hit["metadata"].get("keywords") or [])]


def test_all_that_has_no_people_can_be_asked_for(served: Served) -> None:
    answer = served.search(query="no people", limit=100)
    assert not [hit["title"] for hit in answer["hits"] if "people" in (hit["metadata"].get("keywords") or [])]
    assert len(answer["hits"]) == 100
    assert answer["understood"]["parts"] == []
    assert answer["understood"]["note"] == "without what shows “people”"


def test_an_asset_can_be_excluded_and_takes_its_like_along(served: Served) -> None:
    food = {"field": "category", "equals": "food"}
    asset = first(served, "an ice cream cone")
    like = everything(served, asset_id=asset, filter=food)
    left = everything(served, query=f"something NOT asset:{asset}", filter=food)
    out = [one for one in like if one not in left]
    assert out == like[: len(out)]
    assert out
    assert left
    assert asset not in left


def test_assets_asked_with_are_left_out(served: Served) -> None:
    four = ids(served.search(text="food", limit=4))
    answer = served.search(
        parts=[{"asset_id": four[0]}, {"asset_id": four[1]}, {"asset_id": four[2], "weight": -0.5}],
        context=[{"positive": {"asset_id": four[3]}, "negative": {"text": "a machine"}}],
        limit=50,
    )
    assert not set(four) & set(ids(answer))


def test_the_best_score_is_the_nearest_example_and_not_their_mean(served: Served) -> None:
    ship, fruit = first(served, "a sailing ship"), first(served, "a fruit")
    parts = [{"asset_id": ship}, {"asset_id": fruit}]
    best = served.search(parts=parts, strategy="best_score", limit=6)
    nearest = [ids(served.search(asset_id=one, limit=6)) for one in (ship, fruit)]
    assert set(ids(best)) <= set(nearest[0]) | set(nearest[1])
    assert all(set(ids(best)) & set(one) for one in nearest)
    scores = [hit["score"] for hit in best["hits"]]
    assert scores == sorted(scores, reverse=True)
    # As a vector, since a picture that is asked with would be left out in any case.
    avoided = served.client.post("/v1/embeddings", json={"asset_ids": [ids(best)[0]]}).json()["asset_ids"][0]
    without = served.search(parts=[*parts, {"vector": avoided, "weight": -1}], strategy="best_score", limit=6)
    assert ids(best)[0] not in ids(without)
    assert len(ids(without)) == 6


def test_a_context_keeps_one_side_and_its_mirror_the_other(served: Served) -> None:
    pair = {"positive": {"text": "an animal"}, "negative": {"text": "a machine"}}
    mirror = {"positive": pair["negative"], "negative": pair["positive"]}
    here = everything(served, query="a thing", context=[pair])
    there = everything(served, query="a thing", context=[mirror])
    assert here
    assert there
    assert not set(here) & set(there)
    animals = set(everything(served, text="anything", filter={"field": "category", "equals": "animals"}))
    assert len(set(here) & animals) / len(here) > 2 * len(set(there) & animals) / len(there)
    alone = served.search(context=[pair], limit=10)
    assert set(ids(alone)) <= set(everything(served, query="an animal", context=[pair]))


def test_an_edit_turns_a_picture_as_the_paper_says(served: Served) -> None:
    asset = first(served, "a guitar")
    before, after = embedded(served, "a guitar", "a trumpet")
    picture = served.client.get(f"/v1/assets/{asset}/image", params={"size": "original"}).content
    encoded = base64.b64encode(picture).decode()
    row = served.client.post("/v1/embeddings", json={"images": [encoded]}).json()["images"][0]
    turned = text_diff(direction(np.array(row)), before=direction(before), after=direction(after), theta=0.5)
    edit = {"before": "a guitar", "after": "a trumpet", "theta": 0.5}
    by_edit = served.search(image=encoded, edit=edit, limit=10)
    by_vector = served.search(vector=turned.tolist(), limit=10)
    assert ids(by_edit) == ids(by_vector)
    assert ids(by_edit) != ids(served.search(image=encoded, limit=10))


def test_pages_of_any_question_are_its_list(served: Served) -> None:
    asset = first(served, "a guitar")
    for body in (
        {"query": "2:animal + food -machine NOT bird"},
        {"parts": [{"asset_id": asset}, {"text": "wood", "weight": 0.3}], "exclude": [{"asset_id": asset}]},
        {"parts": [{"asset_id": asset}, {"text": "a fruit"}], "strategy": "best_score"},
        {"query": "no people"},
    ):
        whole = everything(served, **body)[:40]
        found: list[str] = []
        cursor = None
        while len(found) < 40:
            page = served.search(**body, limit=7, cursor=cursor)
            found += ids(page)
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert found[:40] == whole


def test_a_cursor_is_of_all_the_parts(served: Served) -> None:
    body: Json = {"parts": [{"text": "an animal"}, {"text": "food", "weight": 0.5}], "limit": 3}
    cursor = served.search(**body)["next_cursor"]
    others: list[Json] = [
        {"parts": [{"text": "an animal"}, {"text": "food", "weight": 0.6}]},
        {"parts": [{"text": "an animal"}, {"text": "foods", "weight": 0.5}]},
        {**body, "exclude": [{"text": "bird"}]},
        {**body, "context": [{"positive": {"text": "a"}, "negative": {"text": "b"}}]},
        {**body, "edit": {"before": "a dog", "after": "a cat"}},
        {**body, "strategy": "best_score"},
        {"text": "an animal"},
    ]
    for other in others:
        response = served.client.post("/v1/search", json={**other, "limit": 3, "cursor": cursor})
        assert response.status_code == 422, other
        assert "another question" in response.json()["detail"]


@pytest.mark.parametrize("scales", ["[[1" + 400 * "0" + ",1]]", "[[0.1,1e400]]", "[[NaN,1]]", "[1]", "["])
def test_scales_that_are_none_are_refused(scales: str) -> None:
    with pytest.raises(InvalidCursor, match="none of ours"):
        split_cursor(base64.urlsafe_b64encode(scales.encode()).decode().rstrip("=") + ".WyJx")


def test_what_is_judged_of_a_composed_question_is_said(served: Served) -> None:
    match = served.search(query="dog + beach", limit=3)["match"]
    assert not match["calibrated"]
    assert match["probability"] is None
    assert "a question of several parts is never calibrated" in match["note"]


def test_how_a_question_was_understood_is_told(served: Served) -> None:
    told = served.search(query="2:dog + beach -snow category:animals NOT people")["understood"]
    assert [(part["text"], part["weight"]) for part in told["parts"]] == [("dog", 2), ("beach", 1), ("snow", -0.5)]
    assert [part["text"] for part in told["excluded"]] == ["people"]
    assert told["filter"] == {"field": "category", "equals": "animals"}
    assert told["plain"] is False
    assert told["note"] == (
        "like “dog” (2) and “beach”, away from “snow” (0.5), without what shows “people”, only category:animals"
    )


def test_a_typed_filter_and_a_sent_one_both_hold(served: Served) -> None:
    found = served.search(query="something -category:food", filter={"field": "width", "gte": 1}, limit=100)
    assert "food" not in {hit["metadata"]["category"] for hit in found["hits"]}
    assert found["understood"]["filter"] == {
        "and": [{"field": "width", "gte": 1}, {"not": {"field": "category", "equals": "food"}}]
    }


def test_a_colour_is_told_back_as_it_was_asked_for_and_not_as_hundreds_of_steps(served: Served) -> None:
    asked = {"or": [{"colour": "#ff8800", "tolerance": 0.2}, {"not": {"colour": "#0a0", "tolerance": 0.1}}]}
    response = served.client.post("/v1/search", json={"text": "a cat", "filter": asked, "limit": 1})
    assert response.json()["understood"]["filter"] == {
        "or": [{"colour": "#ff8800", "tolerance": 0.2}, {"not": {"colour": "#00aa00", "tolerance": 0.1}}]
    }
    told = served.search(query="cat colour:#ff8800", limit=1)["understood"]
    assert told["filter"] == {"colour": "#ff8800", "tolerance": 0.1}
    assert told["note"] == "like “cat”, only colour:#ff8800~0.1"


def test_what_can_not_be_drawn_of_a_question_is_told_beside_its_hits(served: Served) -> None:
    vector = embedded(served, "a cat")[0].tolist()
    for body, why in (
        ({"parts": [{"vector": vector}, {"text": "a dog"}]}, "a bare vector can't be drawn"),
        ({"query": "no people"}, "say also what is"),
    ):
        answer = served.search(**body, generate="always", limit=2)
        assert len(answer["hits"]) == 2
        assert answer["generation"]["status"] == "refused"
        assert why in answer["generation"]["detail"]


def test_text_stays_plain(served: Served) -> None:
    for text in ("no people", "dog -snow", "category:food", '"a cat'):
        told = served.search(text=text)["understood"]
        assert told["plain"]
        assert [part["text"] for part in told["parts"]] == [text]


def test_a_picture_that_can_t_be_read_is_told_wherever_it_stands(served: Served) -> None:
    broken = base64.b64encode(png(1)[:40]).decode()
    for body in (
        {"parts": [{"text": "a cat"}, {"image": broken}]},
        {"text": "a cat", "exclude": [{"image": broken}]},
        {"text": "a cat", "context": [{"positive": {"image": broken}, "negative": {"text": "x"}}]},
    ):
        response = served.client.post("/v1/search", json=body)
        assert response.status_code == 422, response.text


@pytest.mark.parametrize("place", ["parts", "exclude"])
def test_an_asset_that_is_not_there_is_not_found(served: Served, place: str) -> None:
    body = {"query": "a cat", place: [{"asset_id": "00000000-0000-0000-0000-000000000001"}]}
    assert served.client.post("/v1/search", json=body).status_code == 404
