"""Parquet manifests that are small and unfold to gigabytes."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.sources import SourceOptions, open_sources
from indexer.sources.parquet import rows_of
from phosphene.errors import InvalidManifest

MB = 2**20


def as_metadata(path: Path) -> SourceOptions:
    return SourceOptions(metadata=str(path))


def refused(path: Path) -> str:
    (path.parent / "a.jpg").write_bytes(b"picture")
    said = []
    for sources, options in (([str(path)], SourceOptions()), ([str(path.parent)], as_metadata(path))):
        with pytest.raises(InvalidManifest) as caught:
            open_sources(sources, options)
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("store_schema", [True, False])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_rows_are_read_as_arrow_reads_them(*, store_schema: bool, use_dictionary: bool) -> None:
    columns = {
        "text": ["x", "y", None],
        "large": pa.array(["x", "y", "x"], pa.large_string()),
        "lists": [["cat", "dog"], [], None],
        "objects": [{"a": "q", "b": 1}, None, {"a": None, "b": 2}],
        "maps": pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())),
        "bytes": [b"1", b"2", None],
        "numbers": [1, 2, 3],
        "decimals": [Decimal("1.5")] * 3,
        "pairs": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)),
        "nothing": pa.nulls(3),
        "coded": pa.array(["a", "b", "a"]).dictionary_encode(),
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, store_schema=store_schema, use_dictionary=use_dictionary)
    rows = list(rows_of(file, max_bytes=MB))
    assert rows == pq.read_table(file).to_pylist()
    assert list(rows_of(file, max_bytes=150)) == rows  # one by one


def test_a_text_of_many_rows_is_held_once(tmp_path: Path) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array(["x" * (3 * MB)]))
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"file": ["a.jpg"] * 300, "said": texts}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 2000
    assert open_sources([str(path)], SourceOptions()).count() == 300
    assert pa.default_memory_pool().max_memory() < 200 * MB  # 256 rows together are 768


def test_a_row_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"file": ["a.jpg"] * 3, "said": ["short", "x" * (5 * MB), "short"]}), path)
    assert refused(path) == f"{path}: row 2: 'said' makes it 5,242,885 bytes long, 4,194,304 are read"
    pq.write_table(pa.table({"file": ["a.jpg"], "tags": [["cat"] * 500_000]}), path)
    assert "row 1: 'tags' makes it 5,500,005 bytes long" in refused(path)


@pytest.mark.parametrize("unfolding", ["text", "texts", "list"])
def test_a_group_that_unfolds_beyond_reason_is_not_begun(tmp_path: Path, unfolding: str) -> None:
    table = {
        "text": {"file": ["a.jpg"], "said": ["x" * (70 * MB)]},
        "texts": {"file": ["a.jpg"] * 35, "said": ["x" * (2 * MB)] * 35},
        "list": {"file": ["a.jpg"], "tags": pa.ListArray.from_arrays([0, 9_000_000], pa.nulls(9_000_000, pa.string()))},
    }[unfolding]
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table(table), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 10_000
    assert "row group 1 unfolds from" in refused(path)
    assert "write it with fewer rows a group" in refused(path)
