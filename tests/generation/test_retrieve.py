"""The prior as a retriever, over a part of the demo catalogue. Its generators are random: plumbing, not meaning."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phosphene.assemble import Engine, open_engine
from phosphene.errors import InvalidCursor, InvalidQuery, ModelNotFound, Overloaded, SpaceMismatch
from phosphene.filters import Equals, tenant_filter
from phosphene.generation import retrieve
from phosphene.generation.retrieve import CANDIDATES, Predictor, mean_direction, towards
from phosphene.types import DEFAULT_TENANT, TenantId, UnitEmbeddings
from phosphene.unclip.geometry import angle, direction
from phosphene.vectors.base import VectorQuery, asset_of
from search_api.search import SearchAnswer, SearchQuery, run_search
from tests.search_api.served import (
    PICTURES,
    ingested_folder,
    png,
    serving,
    settings_for,
    tiny_generator,
)
from tests.unclip import published_models

UNMATCHED = "inflation rate of last year"  # a question that the sample has no picture for

Ask = Callable[..., SearchAnswer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(ingested_folder(), tmp_path_factory.mktemp("retrieve") / "data"))


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    with open_engine(settings_for(folder, generator=str(tiny_generator())), command="tests") as opened:
        yield opened


@pytest.fixture
def ask(engine: Engine) -> Ask:
    def run(text: str = UNMATCHED, **more: Any) -> SearchAnswer:  # noqa: ANN401  whatever SearchQuery takes
        return run_search(SearchQuery(text=text, **more), engine=engine, tenant=DEFAULT_TENANT)

    return run


def mixed(engine: Engine, text: str = UNMATCHED) -> UnitEmbeddings:
    return towards(engine.texts.embed(text), engine.predictor.predict(text))


def nearest(engine: Engine, row: np.ndarray[Any, Any]) -> list[Any]:
    points = engine.index.query([VectorQuery(row, PICTURES, tenant_filter(DEFAULT_TENANT, None))])[0]
    return [asset_of(point) for point in points]


def test_what_a_text_looks_like_is_told_the_same_each_time(engine: Engine, tmp_path: Path) -> None:
    first = engine.predictor.predict("a red bus")
    assert first.space == engine.index.space
    with open_engine(settings_for(tmp_path, generator=str(tiny_generator())), command="tests") as other:
        again = Predictor(lambda: engine.generator, drawing=other.generating, space=engine.index.space)
        np.testing.assert_array_equal(again.predict("a red bus").rows, first.rows)
    assert abs(float(engine.predictor.predict("a cat").rows[0] @ first.rows[0])) < 0.999


def test_it_is_remembered_and_the_oldest_is_forgotten(engine: Engine) -> None:
    asked: list[list[str]] = []
    generator = engine.generator
    predict = generator.predict

    def counted(captions: list[str], **more: Any) -> Any:  # noqa: ANN401  the generator's own
        asked.append(list(captions))
        return predict(captions, **more)

    generator.predict = counted  # type: ignore[method-assign,assignment]
    predictor = Predictor(lambda: generator, drawing=engine.generating, space=engine.index.space, remembered=2)
    for text in ("a cat", "a dog", "a cat", "a bus", "a dog", "a bus"):
        predictor.predict(text)
    assert asked == [[text] * CANDIDATES for text in ("a cat", "a dog", "a bus", "a dog")]


def test_directions_are_averaged_whatever_their_lengths() -> None:
    rows = np.array([[3.0, 0.0], [0.0, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(mean_direction(rows), [2**-0.5, 2**-0.5], rtol=1e-6)


def test_the_text_is_turned_towards_the_prediction(engine: Engine) -> None:
    text, predicted = engine.texts.embed(UNMATCHED), engine.predictor.predict(UNMATCHED)
    turned = direction(towards(text, predicted).rows[0])
    whole = angle(direction(text.rows[0]), direction(predicted.rows[0]))
    assert angle(direction(text.rows[0]), turned) == pytest.approx(retrieve.TOWARDS_PRIOR * whole, abs=1e-3)


def test_without_being_asked_nothing_changes(ask: Ask) -> None:
    answer = ask()
    assert not answer.match.matched
    assert {hit.found_by for hit in answer.hits} == {"search"}
    assert "prior" not in answer.match.note


def test_an_unmatched_text_is_searched_by_the_prior(engine: Engine, ask: Ask) -> None:
    plain, answer = ask(limit=10), ask(limit=10, prior_search=True)
    assert [hit.asset.id for hit in answer.hits] == nearest(engine, mixed(engine).rows[0])[:10]
    own = {hit.asset.id for hit in plain.hits}
    assert {hit.asset.id: hit.found_by for hit in answer.hits} == {
        hit.asset.id: "search" if hit.asset.id in own else "prior" for hit in answer.hits
    }
    assert "prior" in {hit.found_by for hit in answer.hits}
    assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)


def test_a_match_is_never_claimed_for_the_prior(ask: Ask) -> None:
    plain, answer = ask(), ask(prior_search=True)
    assert (answer.match.matched, answer.match.z_score) == (False, plain.match.z_score)
    assert "hits of the prior are not judged" in answer.match.note


def test_a_matched_text_is_left_alone(engine: Engine, ask: Ask) -> None:
    text = next(
        text
        for text in ("a sailing ship", "a red car", "an ice cream", "a moon", "a guitar")
        if ask(text).match.matched
    )
    engine.predictor.predict = None  # type: ignore[method-assign,assignment]  # would fail if asked
    plain, answer = ask(text), ask(text, prior_search=True)
    assert [(hit.asset.id, hit.found_by) for hit in answer.hits] == [(hit.asset.id, "search") for hit in plain.hits]
    assert answer.match == plain.match


@pytest.mark.parametrize("limit", [7, 24])
def test_pages_go_on_with_the_list_of_the_prior(engine: Engine, ask: Ask, limit: int) -> None:
    wanted = nearest(engine, mixed(engine).rows[0])
    own = nearest(engine, engine.texts.embed(UNMATCHED).rows[0])
    shown: list[Any] = []
    cursor = None
    while True:
        answer = ask(limit=limit, prior_search=True, cursor=cursor)
        shown += [hit.asset.id for hit in answer.hits]
        for hit in answer.hits:
            assert hit.found_by == ("search" if hit.asset.id in own[: len(shown)] else "prior")
        assert "hits of the prior are not judged" in answer.match.note
        cursor = answer.next_cursor
        if cursor is None:
            break
    assert shown == wanted


def test_pages_of_a_matched_text_stay_with_the_text(engine: Engine, ask: Ask) -> None:
    text = next(text for text in ("a sailing ship", "a red car", "an ice cream", "a moon") if ask(text).match.matched)
    cursor = ask(text, limit=5, prior_search=True).next_cursor
    second = ask(text, limit=5, prior_search=True, cursor=cursor)
    assert [hit.asset.id for hit in second.hits] == nearest(engine, engine.texts.embed(text).rows[0])[5:10]


@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False)])
def test_a_cursor_belongs_to_its_way_of_searching(ask: Ask, first: bool, second: bool) -> None:  # noqa: FBT001
    cursor = ask(limit=5, prior_search=first).next_cursor
    with pytest.raises(InvalidCursor, match="another question"):
        ask(limit=5, prior_search=second, cursor=cursor)


def test_filters_hold(ask: Ask) -> None:
    answer = ask(prior_search=True, filter=Equals("category", "food"), limit=100)
    assert not answer.match.matched
    assert {hit.asset.metadata["category"] for hit in answer.hits} == {"food"}
    assert len(answer.hits) == len(ask(filter=Equals("category", "food"), limit=100).hits) > 0


def test_other_tenants_see_nothing(engine: Engine) -> None:
    query = SearchQuery(text=UNMATCHED, prior_search=True)
    answer = run_search(query, engine=engine, tenant=TenantId("elsewhere"))
    assert answer.hits == ()
    assert answer.next_cursor is None


def test_only_texts_can_be_searched_by_the_prior(engine: Engine) -> None:
    with pytest.raises(InvalidQuery, match="questions in words"):
        SearchQuery(vector=np.ones(engine.index.space.dimension), prior_search=True)


def test_a_generator_that_draws_keeps_no_search_waiting(
    engine: Engine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieve, "_WAIT_S", 0.05)
    page = ask(limit=5, prior_search=True)
    engine.current._predictor = None  # forgets
    with engine.generating:
        answer = ask(limit=5, prior_search=True)
        assert [hit.asset.id for hit in answer.hits] == [hit.asset.id for hit in ask(limit=5).hits]
        assert "not searched by the prior" in answer.match.note
        with pytest.raises(Overloaded):
            ask(limit=5, prior_search=True, cursor=page.next_cursor)
    following = ask(limit=5, prior_search=True, cursor=page.next_cursor)
    assert not {hit.asset.id for hit in following.hits} & {hit.asset.id for hit in page.hits}


def test_a_generator_of_another_clip_space_is_refused_clearly(folder: Path, tmp_path: Path) -> None:
    karlo = published_models.save_karlo(tmp_path / "karlo")
    query = SearchQuery(text=UNMATCHED, prior_search=True)
    with (
        open_engine(settings_for(folder, generator=str(karlo)), command="tests") as engine,
        pytest.raises(SpaceMismatch, match="prior_search can't be used here: this generator takes embeddings of"),
    ):
        run_search(query, engine=engine, tenant=DEFAULT_TENANT)


def test_without_a_generator_only_a_matched_text_is_answered(folder: Path, tmp_path: Path) -> None:
    with open_engine(settings_for(folder, generator=str(tmp_path / "none")), command="tests") as engine:
        with pytest.raises(ModelNotFound):
            run_search(SearchQuery(text=UNMATCHED, prior_search=True), engine=engine, tenant=DEFAULT_TENANT)
        run_search(SearchQuery(text=UNMATCHED), engine=engine, tenant=DEFAULT_TENANT)


def test_over_http(folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(folder, tmp_path / "data"))
    with serving(data, generator=str(tiny_generator())) as served:
        answer = served.search(text=UNMATCHED, prior_search=True, limit=10)
        assert "prior" in {hit["found_by"] for hit in answer["hits"]}
        assert answer["match"]["matched"] is False
        following = served.search(text=UNMATCHED, prior_search=True, limit=10, cursor=answer["next_cursor"])
        assert not {hit["asset_id"] for hit in following["hits"]} & {hit["asset_id"] for hit in answer["hits"]}
        image = base64.b64encode(png(0)).decode()
        refused = served.client.post("/v1/search", json={"image": image, "prior_search": True})
        assert refused.status_code == 422
        assert "questions in words" in refused.json()["detail"]
