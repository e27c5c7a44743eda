"""Words in a vector index: the same answers from every engine."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from phosphene.errors import InvalidQuery, Unavailable
from phosphene.filters import And, Equals, Exists, Filter, Not
from phosphene.types import PointId
from phosphene.vectors.base import Payload, VectorIndex, WordQuery
from phosphene.vectors.conditions import WORDS
from phosphene.vectors.edge import EdgeIndex
from phosphene.vectors.server import ServerIndex
from tests.vectors.conftest import Opener
from tests.vectors.made import FIELDS, SPACE, embeddings, numbered
from tests.vectors.qdrant_stand_in import RestServer, StandIn

TEXTS = ["img 2041 img2041 dog", "dog cat", "cat", "dsc 17 dsc17 dog dog house tree river", "東京 東 京", ""]
MINE, THEIRS = Equals("tenant", "t"), Equals("tenant", "other")


def fill(index: VectorIndex, texts: list[str], *, tenant: str = "t", start: int = 1) -> list[PointId]:
    ids = numbered(len(texts), start=start)
    payloads: list[Payload] = [
        {"tenant": tenant, "year": number % 2, WORDS: text} for number, text in enumerate(texts, start)
    ]
    index.upsert(ids, embeddings(len(texts), space=index.space), payloads)
    return ids


def found(index: VectorIndex, *words: str, within: Filter = MINE, among: Filter = MINE, limit: int = 10) -> list[int]:
    return [point.id.int for point in index.query_words([WordQuery(words, limit, within, among)])[0]]


def test_the_best_words_come_first(index: VectorIndex) -> None:
    fill(index, TEXTS)
    assert found(index, "dog") == [2, 4, 1]  # short before long; twice counts for more
    assert found(index, "img", "2041", "img2041") == [1]
    assert found(index, "dog", "cat") == [2, 3, 4, 1]
    assert found(index, "東京") == [5]
    assert found(index, "nosuch") == []
    assert found(index, "dog", limit=1) == [2]


def test_scores_are_bm25(index: VectorIndex) -> None:
    fill(index, ["dog cat", "dog", "bird bird"])
    (point, *_) = index.query_words([WordQuery(("dog",), 1, MINE, MINE)])[0]
    rarity = log((3 - 2 + 0.5) / (2 + 0.5) + 1)
    assert point.score == pytest.approx(rarity * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1 / (5 / 3))), rel=1e-4)


def test_filters_and_tenants_hold(index: VectorIndex) -> None:
    fill(index, TEXTS)
    fill(index, ["dog"] * 50, tenant="other", start=20)
    assert found(index, "dog", within=And((MINE, Equals("year", 0)))) == [2, 4]
    assert found(index, "dog", within=And((MINE, Not(Equals("year", 0))))) == [1]
    assert len(found(index, "dog", within=THEIRS, among=THEIRS, limit=100)) == 50


def test_what_others_have_changes_no_score(index: VectorIndex) -> None:
    fill(index, TEXTS)
    before = index.query_words([WordQuery(("dog", "cat"), 10, MINE, MINE)])[0]
    fill(index, ["dog and a long text of others"] * 30, tenant="other", start=20)
    after = index.query_words([WordQuery(("dog", "cat"), 10, MINE, MINE)])[0]
    assert [(point.id, point.score) for point in after] == [(point.id, point.score) for point in before]


def test_words_follow_what_is_written(index: VectorIndex) -> None:
    ids = fill(index, TEXTS)
    index.set_payloads([ids[0]], [{"tenant": "t", WORDS: "renamed dog"}])
    assert found(index, "img2041") == []
    assert found(index, "renamed") == [1]
    index.delete([ids[0]])
    assert found(index, "renamed") == []
    assert found(index, "dog") == [2, 4]


def test_equals_come_in_the_order_of_their_ids(index: VectorIndex) -> None:
    fill(index, ["dog"] * 40)
    for limit in (1, 7, 39):
        assert found(index, "dog", limit=limit) == list(range(1, limit + 1))


def test_points_that_say_nothing_can_be_told_from_those_that_were_never_asked(index: VectorIndex) -> None:
    fill(index, TEXTS)
    index.upsert(
        numbered(2, start=20), embeddings(2, space=index.space), [{"tenant": "t"}, {"tenant": "t", WORDS: None}]
    )
    assert index.count(And((MINE, Not(Exists(WORDS))))) == 2


def test_words_last(opener: Opener) -> None:
    first = opener(SPACE)
    first.declare(FIELDS)
    fill(first, TEXTS)
    first.close()
    again = opener(SPACE)
    assert found(again, "dog") == [2, 4, 1]
    again.drop()


@pytest.mark.parametrize("words", [(), ("",), ("two words",), ("line\nbreak",), ("\ud800",)])
def test_what_is_no_word_is_refused(index: VectorIndex, words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidQuery):
        index.query_words([WordQuery(words, 5)])
    with pytest.raises(InvalidQuery, match="limit"):
        index.query_words([WordQuery(("dog",), 0)])


def test_words_that_mean_something_to_an_engine_are_words(index: VectorIndex) -> None:
    fill(index, ["and or not", "NOT", '"quoted"', "a*", "-dog"])
    assert found(index, "not") == [1]
    assert found(index, "or") == [1]


def test_a_folder_from_before_words_gets_their_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr("phosphene.vectors.edge_shard.EdgeShard.declare_words", lambda _: None)
        old = EdgeIndex.open(tmp_path / "index", SPACE, profile="flat")
        old.upsert(numbered(2), embeddings(2), [{"tenant": "t"}, {"tenant": "t"}])
        old.close()
    index = EdgeIndex.open(tmp_path / "index", SPACE, profile="flat")
    assert found(index, "dog") == []
    index.set_payloads(numbered(1), [{"tenant": "t", WORDS: "dog"}])
    assert found(index, "dog") == [1]
    index.close()


def test_an_older_server_says_that_it_looks_up_no_words(stand_in: StandIn, rest: RestServer) -> None:
    stand_in.version = "1.19.2"
    index = ServerIndex.open(rest.url, replace(SPACE, model="older"))
    index.upsert(numbered(1), embeddings(1, space=index.space), [{"tenant": "t", WORDS: "dog"}])
    with pytest.raises(Unavailable, match=r"is 1\.19, and looks words up from 1\.20 on"):
        found(index, "dog")
    index.close()
