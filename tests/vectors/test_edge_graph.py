"""The graph of the embedded index: built in a child process while questions and writes go on."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from phosphene.errors import Unavailable
from phosphene.filters import Equals
from phosphene.types import Field, FieldKind, UnitEmbeddings
from phosphene.vectors import edge, edge_shard
from phosphene.vectors.edge import EdgeIndex
from phosphene.vectors.edge_shard import EdgeShard
from tests.vectors.made import SPACE, ask, embeddings, nearest_by_numpy, numbered, payloads

COUNT = 4000


def opened(folder: Path) -> EdgeIndex:
    return EdgeIndex.open(folder, SPACE, profile="graph", graph_from=1000)


def recall_at_10(index: EdgeIndex, rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    queries = embeddings(100, seed=8).rows
    found = 0
    for query, points in zip(queries, index.query([ask(query) for query in queries]), strict=True):
        found += len({point.id.int - 1 for point in points} & set(nearest_by_numpy(rows, query, 10)))
    return found / 1000


@pytest.mark.parametrize("profile", ["flat", "graph"])
def test_the_nearest_are_found(tmp_path: Path, profile: str) -> None:
    index = EdgeIndex.open(tmp_path, SPACE, profile="graph" if profile == "graph" else "flat", graph_from=1000)
    made = embeddings(COUNT)
    index.upsert(numbered(COUNT), made, payloads(COUNT))
    assert index.optimise() is (profile == "graph")
    assert (index._shard.unindexed() == 0) is (profile == "graph")
    assert recall_at_10(index, made.rows) >= 0.99
    index.close()


def test_an_exact_query_reads_no_codes_and_any_other_scores_again_what_they_found() -> None:
    """The engine's answers are too good to show it at sizes that a test can wait for."""
    row = embeddings(1).rows[0]
    exact, usual = (edge_shard._request(ask(row, exact=exact), 10).params for exact in (True, False))
    assert exact is not None
    assert usual is not None
    assert exact.quantization is not None
    assert usual.quantization is not None
    assert (exact.exact, exact.quantization.ignore) == (True, True)
    assert (bool(usual.exact), bool(usual.quantization.ignore), usual.quantization.rescore) == (False, False, True)


def test_nothing_is_lost_while_the_graph_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "_LATE_POINTS_UNDER_LOCK", 10)  # so that it catches up in rounds before it swaps
    index = opened(tmp_path)
    made = embeddings(COUNT)
    index.upsert(numbered(COUNT), made, payloads(COUNT))
    done, failures, rounds = threading.Event(), [], [0, 0]

    def write() -> None:
        while (not done.is_set() or rounds[0] < 5) and rounds[0] < 1000:
            start = 10_000 + rounds[0] * 20
            index.upsert(numbered(20, start=start), embeddings(20, seed=start), [{"tenant": "late"}] * 20)
            index.delete(numbered(2, start=1 + rounds[0] * 2))
            index.set_payloads(numbered(2, start=3000 + rounds[0] * 2), [{"tenant": "changed"}] * 2)
            rounds[0] += 1

    def read() -> None:
        while not done.is_set():
            answers = index.query([ask(made.rows[number]) for number in (3990, 3995)])
            if [points[0].id.int for points in answers] != [3991, 3996]:
                failures.append(answers)
            rounds[1] += 1

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    index.declare([Field("width", FieldKind.INTEGER)])
    assert index.optimise()
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert rounds[1] > 0
    for _ in range(2):
        deleted = min(2 * rounds[0], COUNT)
        assert index.count(Equals("tenant", "late")) == 20 * rounds[0]
        expected = {number for number in range(3000, 3000 + 2 * rounds[0]) if deleted < number <= COUNT}
        assert index.count(Equals("tenant", "changed")) == len(expected)
        assert index.count() == COUNT - deleted + 20 * rounds[0]
        assert set(index.vectors(numbered(deleted))) == set()
        index.close()
        index = opened(tmp_path)
    index.close()


def test_one_build_at_a_time_and_none_without_need(tmp_path: Path) -> None:
    index = opened(tmp_path)
    index.upsert(numbered(900), embeddings(900), payloads(900))
    assert not index.optimise()
    index.upsert(numbered(COUNT), embeddings(COUNT), payloads(COUNT))
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(index.optimise())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(True) == 1
    assert not index.optimise()
    assert len(list((tmp_path / "shards").iterdir())) == 1
    index.close()


def test_a_failing_child_leaves_the_index_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opened(tmp_path)
    index.upsert(numbered(1500), embeddings(1500), payloads(1500))
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/bin/false")
        with pytest.raises(Unavailable, match="the index is as it was"):
            index.optimise()
    with monkeypatch.context() as patch:
        patch.setattr(EdgeShard, "flush", _no_space)
        with pytest.raises(Unavailable, match="no room"):
            index.optimise()
    assert index.count() == 1500
    assert len(list((tmp_path / "shards").iterdir())) == 1
    index.upsert(numbered(1, start=9000), embeddings(1), [{"tenant": "late"}])
    assert index.optimise()
    assert index.count() == 1501
    index.close()


def _no_space(shard: EdgeShard) -> None:
    raise Unavailable(f"no room at {shard.path}")


def test_closing_gives_up_a_graph_in_the_making(tmp_path: Path) -> None:
    index = opened(tmp_path)
    index.upsert(numbered(COUNT), embeddings(COUNT), payloads(COUNT))
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(index.optimise()))
    thread.start()
    while index._child is None and thread.is_alive():
        os.sched_yield()
    child = index._child
    index.close()
    thread.join()
    assert answers == [False]
    assert child is not None
    assert child.poll() is not None
    again = opened(tmp_path)
    assert again.count() == COUNT
    assert len(list((tmp_path / "shards").iterdir())) == 1
    again.close()


def test_writers_and_readers_in_many_threads(tmp_path: Path) -> None:
    index = EdgeIndex.open(tmp_path, SPACE, profile="flat")
    rows = embeddings(1200).rows
    errors: list[BaseException] = []

    def work(part: int) -> None:
        try:
            for start in range(part * 200, part * 200 + 200, 25):
                some = slice(start, start + 25)
                index.upsert(numbered(1200)[some], UnitEmbeddings(SPACE, rows[some]), [{"tenant": str(part)}] * 25)
                assert index.query([ask(rows[start], 1, where=Equals("tenant", str(part)))])[0][0].id.int == start + 1
        except BaseException as error:  # noqa: BLE001  told by the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert index.count() == 1200
    index.close()
