"""Golden queries: reading them, looking their pictures up, and what the demo's own say of the starter model."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.assemble import Engine
from phosphene.errors import InvalidInput
from phosphene.evaluation.golden import (
    HITS,
    GoldenQuery,
    JudgedQuery,
    look_up,
    parse_golden,
    read_golden,
    score_golden,
)
from phosphene.filters import tenant_filter
from phosphene.types import DEFAULT_TENANT, AssetId, asset_id, sha256_of
from phosphene.vectors.base import VectorQuery, asset_of
from tests.demo import DEMO


def _id(number: int) -> AssetId:
    return AssetId(UUID(int=number))


@pytest.fixture(scope="module")
def golden() -> list[GoldenQuery]:
    return read_golden(DEMO / "golden.jsonl")


def _searching(engine: Engine) -> list[list[AssetId]]:
    queries = read_golden(DEMO / "golden.jsonl")
    rows = engine.encoder.encode_texts([query.text for query in queries]).unit().rows
    everything = tenant_filter(DEFAULT_TENANT, None)
    answers = engine.index.query([VectorQuery(row, HITS, everything, exact=True) for row in rows])
    return [[asset_of(point) for point in points] for points in answers]


def test_the_demo_is_found_as_readme_and_model_card_say(demo: Engine, golden: list[GoldenQuery]) -> None:
    judged = look_up(
        golden, tenant=DEFAULT_TENANT, named=lambda names: demo.catalog.assets_named(DEFAULT_TENANT, names)
    )
    answers = dict(zip([query.text for query in golden], _searching(demo), strict=True))
    report = score_golden(judged, search=lambda text: answers[text])
    assert report.missing == ()
    figures = json.loads((DEMO.parent / "clip" / "figures.json").read_text())["golden_queries"]
    shown = re.search(
        r"(\d+) golden queries on the demo, a right picture first, among ten \| (\d+) %, (\d+) %",
        (DEMO.parents[2] / "README.md").read_text(),
    )
    assert shown
    assert len(report.queries) == figures["queries"] == int(shown[1])
    assert round(100 * report.metrics["recall@1"].value) == int(shown[2])
    assert round(100 * report.metrics["recall@10"].value) == int(shown[3])
    assert round(100 * report.metrics["recall@1"].value, 1) == figures["right_first_percent"]
    failed = [score.text for score in report.queries if score.first_right is None or score.first_right > 10]
    assert failed == figures["nothing_right_among_ten"]


def test_what_is_reported_is_what_plain_counting_gives(demo: Engine, golden: list[GoldenQuery]) -> None:
    """Without any of the code under test: file names of hits against names in the file."""
    answers = _searching(demo)
    names = [
        [demo.catalog.locations_of(DEFAULT_TENANT, id_)[0].rpartition("::")[2] for id_ in ids[:10]] for ids in answers
    ]
    lines = [json.loads(line) for line in (DEMO / "golden.jsonl").read_text().splitlines()]
    right = [[name in line["relevant"] for name in found] for found, line in zip(names, lines, strict=True)]
    ideal = [[True] * min(10, len(line["relevant"])) for line in lines]
    gains = [sum(is_right / np.log2(place + 2) for place, is_right in enumerate(row)) for row in right]
    best = [sum(1 / np.log2(place + 2) for place in range(len(row))) for row in ideal]

    by_text = dict(zip([line["query"] for line in lines], answers, strict=True))
    judged = look_up(
        golden, tenant=DEFAULT_TENANT, named=lambda asked: demo.catalog.assets_named(DEFAULT_TENANT, asked)
    )
    metrics = score_golden(judged, search=lambda text: by_text[text]).metrics
    for depth in (1, 5, 10):
        assert metrics[f"recall@{depth}"].value == pytest.approx(np.mean([any(row[:depth]) for row in right]))
    assert metrics["ndcg@10"].value == pytest.approx(np.mean(np.array(gains) / np.array(best)))
    covered = [sum(row) / len(whole) for row, whole in zip(right, ideal, strict=True)]
    assert metrics["coverage@10"].value == pytest.approx(np.mean(covered))
    assert all(interval.low < interval.value < interval.high for interval in metrics.values())


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.permutations(range(12)), st.dictionaries(st.integers(0, 15), st.floats(0.5, 3), min_size=1)),
        min_size=1,
        max_size=6,
    )
)
def test_recall_and_mrr_follow_from_the_ranks_alone(asked: list[tuple[list[int], dict[int, float]]]) -> None:
    queries = [
        JudgedQuery(str(number), {_id(at): gain for at, gain in gains.items()}, {})
        for number, (_, gains) in enumerate(asked)
    ]
    report = score_golden(queries, search=lambda text: [_id(at) for at in asked[int(text)][0]])
    ranks = [min([order.index(at) + 1 for at in gains if at in order], default=np.inf) for order, gains in asked]
    for depth in (1, 5, 10):
        assert report.metrics[f"recall@{depth}"].value == pytest.approx(np.mean([rank <= depth for rank in ranks]))
    assert report.metrics["mrr"].value == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert [score.first_right or np.inf for score in report.queries] == ranks


def test_pictures_are_named_by_file_place_id_or_hash() -> None:
    ids = {"dog.jpg": {_id(1)}, "2024/dog.jpg": {_id(2), _id(3)}}
    asked: list[Collection[str]] = []

    def named(names: Collection[str]) -> dict[str, set[AssetId]]:
        asked.append(names)
        return {name: ids[name] for name in names if name in ids}

    sha256 = sha256_of(b"a picture")
    lines = [
        json.dumps({"query": "one", "relevant": ["dog.jpg", "gone.jpg"]}),
        "",
        json.dumps({"query": "two", "relevant": {"2024/dog.jpg": 2, str(_id(3)): 5, sha256: 1}, "note": "ignored"}),
    ]
    first, second = look_up(parse_golden(lines, name="lines"), tenant=DEFAULT_TENANT, named=named)
    assert (first.gains, first.missing) == ({_id(1): 1}, {"gone.jpg": 1})
    assert (second.gains, second.missing) == ({_id(2): 2, _id(3): 5, asset_id(DEFAULT_TENANT, sha256): 1}, {})
    assert sorted(asked[0]) == ["2024/dog.jpg", "dog.jpg", "gone.jpg"]

    report = score_golden([first], search=lambda _: [_id(1)])
    assert report.missing == ("gone.jpg",)
    assert report.metrics["recall@1"].value == 1
    assert report.metrics["coverage@10"].value == 0.5  # a picture that is not there is one that is not found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dog", "line 2: Invalid JSON"),
        ('["dog"]', "line 2: Input should be an object"),
        ('{"query": "dog"}', "line 2: relevant: Field required"),
        ('{"query": "", "relevant": ["a"]}', "line 2: query: "),
        ('{"query": "dog", "relevant": []}', "line 2: relevant: "),
        ('{"query": "dog", "relevant": [1]}', "names of pictures are text"),
        ('{"query": "dog", "relevant": {"a": 0}}', "line 2: relevant.a: Input should be greater than 0"),
        ('{"query": "dog", "relevant": {"a": Infinity}}', "line 2: "),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text('{"query": "cat", "relevant": ["cat.jpg"]}\n' + line + "\n")
    with pytest.raises(InvalidInput, match=re.escape(said)) as caught:
        read_golden(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_and_catalogues_with_nothing_to_ask_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        read_golden(tmp_path / "none.jsonl")
    (tmp_path / "picture.jsonl").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InvalidInput, match="utf-8"):
        read_golden(tmp_path / "picture.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(InvalidInput, match="holds no golden queries"):
        read_golden(tmp_path / "empty.jsonl")
    with pytest.raises(InvalidInput, match=r"none of the 1 pictures .* 'dog.jpg': are they of another one"):
        look_up([GoldenQuery("dog", {"dog.jpg": 1})], tenant=DEFAULT_TENANT, named=lambda _: {})
    with pytest.raises(InvalidInput, match="no golden queries"):
        score_golden([], search=_finds_nothing)


def _finds_nothing(_: str) -> Sequence[AssetId]:
    return []
