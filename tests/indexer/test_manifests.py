from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.sources import SourceItem, SourceOptions, Sources, open_sources, parse_column_map
from phosphene.errors import InvalidInput, InvalidManifest, PictureError
from phosphene.types import Field, FieldKind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "sub/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def opened(path: Path, **options: Any) -> Sources:  # noqa: ANN401  fields of SourceOptions
    return open_sources([str(path)], SourceOptions(**options))


def refused(path: Path, text: str | bytes, **options: Any) -> str:  # noqa: ANN401  as above
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidManifest) as caught:
        opened(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def said(items: list[SourceItem]) -> list[tuple[str | None, dict[str, Any]]]:
    return [(item.title, item.metadata) for item in items]


EXPECTED = [
    ("Ay", {"year": 1990, "price": 1.5, "sold": True, "taken": "2024-05-17T00:00:00Z", "keywords": ["cat", "dog"]}),
    ("Bee", {"year": 1991, "price": 2.0, "sold": False, "keywords": ["fox"]}),
]
FIELDS = {
    Field("year", FieldKind.INTEGER),
    Field("price", FieldKind.FLOAT),
    Field("sold", FieldKind.BOOL),
    Field("taken", FieldKind.DATETIME),
    Field("keywords", FieldKind.KEYWORD),
}


def test_csv(folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text(
        "\ufeffFile Name,title,Year,price,sold,taken,keywords\n"
        "a.jpg,Ay,1990,1.5,yes,2024-05-17,cat; dog\n\nsub/b.jpg,Bee,1991,2,no,,fox\n",
        encoding="utf-8",
    )
    sources = opened(path)
    assert set(sources.fields) == FIELDS
    assert sources.count() == 2
    items = list(sources)
    assert said(items) == EXPECTED
    assert [item.read() for item in items] == [b"a.jpg", b"sub/b.jpg"]
    assert [item.uri for item in items] == [f"{folder}/a.jpg", f"{folder}/sub/b.jpg"]
    assert said(list(sources)) == EXPECTED


def test_tsv(folder: Path) -> None:
    (folder / "m.tsv").write_text("file\tnote\na.jpg\tone, two\n")
    assert said(list(opened(folder / "m.tsv"))) == [(None, {"note": "one, two"})]


def test_json_lines(folder: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"file": "a.jpg", "title": "Ay", "year": 1990, "price": 1.5, "sold": True, "taken": "2024-05-17",
         "keywords": ["cat", "dog"]},
        {"title": "Bee", "year": 1991, "price": 2, "sold": False, "keywords": "fox", "file": "sub/b.jpg"},
    ]  # fmt: skip
    (folder / "m.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    sources = opened(folder / "m.jsonl")
    assert set(sources.fields) == FIELDS
    assert said(list(sources)) == EXPECTED


def test_parquet(folder: Path) -> None:
    table = pa.table(
        {
            "path": ["a.jpg", "sub/b.jpg"],
            "title": ["Ay", "Bee"],
            "year": pa.array([1990, 1991], pa.int16()),
            "price": [1.5, 2.0],
            "sold": [True, False],
            "taken": pa.array([datetime(2024, 5, 17, tzinfo=UTC), None], pa.timestamp("us", tz="UTC")),
            "keywords": [["cat", "dog"], ["fox"]],
            "thumbnail": pa.array([b"\x00", b"\x01"], pa.binary()),
        }
    )
    pq.write_table(table, folder / "m.parquet")
    sources = opened(folder / "m.parquet")
    assert set(sources.fields) == FIELDS
    assert said(list(sources)) == EXPECTED


def test_a_column_map_names_file_title_and_fields(folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text("Bild,Name,Jahr\na.jpg,Ay,1990\n")
    column_map = parse_column_map("file=Bild, title=Name, year=Jahr")
    assert said(list(opened(path, column_map=column_map))) == [("Ay", {"year": 1990})]


@pytest.mark.parametrize("text", ["file", "=x", "file=", "a=b,c"])
def test_a_column_map_that_is_not_understood(text: str) -> None:
    with pytest.raises(InvalidManifest, match="write file=path"):
        parse_column_map(text)


def test_mistakes_are_named_with_file_row_and_column(folder: Path) -> None:
    path = folder / "m.csv"
    assert "row 2: column 'file' is empty" in refused(path, "file,year\na.jpg,1\n,2\n")
    assert "row 2: 3 cells, but the header has 2" in refused(path, "file,year\na.jpg,1\nb.jpg,2,3\n")
    assert "row 1: no column names the picture; columns: name, year" in refused(path, "name,year\na.jpg,1\n")
    assert "no column 'Bild'" in refused(path, "file,year\na.jpg,1\n", column_map={"file": "Bild"})
    assert "no column 'Jahr'" in refused(path, "file,year\na.jpg,1\n", column_map={"year": "Jahr"})
    assert "two columns are named 'year'" in refused(path, "file,year,year\na.jpg,1,2\n")
    assert "column 2 of the header has no name" in refused(path, "file,,year\na.jpg,1,2\n")
    assert "both make the field 'year'" in refused(path, "file,year,Year\na.jpg,1,2\n")
    assert "row 1: can't be read" in refused(path, b"file,year\na.jpg,\xff\xfe\n")
    assert "row 1: can't be read" in refused(path, 'file,year\na.jpg,"unclosed\n')
    assert "row 1: column 'file': https://example.org/a.jpg is on the web" in refused(
        path, "file\nhttps://example.org/a.jpg\n"
    )
    assert "'width' is computed" in refused_map(path, {"width": "year"})
    assert "'Year' is no field name" in refused_map(path, {"Year": "year"})
    lines = folder / "m.jsonl"
    assert "row 2: is not JSON" in refused(lines, '{"file": "a.jpg"}\n{oops\n')
    assert "row 1: is not JSON" in refused(lines, "[" * 100_000)
    assert "row 1: is not a JSON object" in refused(lines, "[1]")
    assert "row 1: is longer than" in refused(lines, "x" * (5 * 2**20))
    assert "no Parquet file" in refused(folder / "m.parquet", "PAR1 it is not")


def refused_map(path: Path, column_map: dict[str, str]) -> str:
    path.write_text("file,year\na.jpg,1\n")
    with pytest.raises(InvalidManifest) as caught:
        opened(path, column_map=column_map)
    return str(caught.value)


def test_a_value_against_a_declared_field_is_refused_before_anything_starts(folder: Path) -> None:
    declared = (Field("year", FieldKind.INTEGER),)
    message = refused(folder / "m.csv", "file,year\na.jpg,1990\nsub/b.jpg,ca. 1991\n", fields=declared)
    assert "row 2: column 'year': field 'year' holds integer values, not \"ca. 1991\"" in message
    (folder / "m.csv").write_text("file,year\na.jpg,1990\n")
    sources = opened(folder / "m.csv", fields=(Field("year", FieldKind.KEYWORD),))
    assert said(list(sources)) == [(None, {"year": "1990"})]
    assert sources.fields == ()


def test_the_last_of_many_rows_decides_the_kind_of_all(folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text("file,code\n" + "a.jpg,1\n" * 5000 + "a.jpg,1b\n")
    sources = opened(path)
    assert sources.fields == (Field("code", FieldKind.KEYWORD),)
    assert next(iter(sources)).metadata == {"code": "1"}


def test_missing_files_are_quarantined_not_fatal(folder: Path) -> None:
    (folder / "m.csv").write_text("file\na.jpg\nnowhere.jpg\n")
    good, bad = list(opened(folder / "m.csv"))
    assert good.read() == b"a.jpg"
    with pytest.raises(PictureError, match="vanished"):
        bad.read()


def test_lists_of_addresses(folder: Path) -> None:
    path = folder / "urls.txt"
    path.write_text("# two\nhttps://example.org/a.jpg\n\nhttp://example.org/b.jpg\n")
    sources = opened(path, fetch_urls=True)
    assert sources.count() == 2
    assert [item.uri for item in sources] == ["https://example.org/a.jpg", "http://example.org/b.jpg"]
    sources.close()
    with pytest.raises(InvalidInput, match="--fetch-urls or PHOSPHENE_FETCH_URLS"):
        opened(path)
    path.write_text("https://example.org/a.jpg\nfile:///etc/passwd\n")
    with pytest.raises(InvalidManifest, match=r"line 2: 'file:///etc/passwd' is no http"):
        opened(path, fetch_urls=True)
    path.write_bytes(b"https://example.org/\xff\n")
    with pytest.raises(InvalidManifest, match="is not UTF-8"):
        opened(path, fetch_urls=True)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=30)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_whatever_a_csv_says_is_read_back_or_refused_as_manifest(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("manifests") / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "note", "other"), *(("a.jpg", *row) for row in rows)])
    items = list(opened(path))
    assert len(items) == len(rows)
    for item, (note, _) in zip(items, rows, strict=True):
        assert ("note" in item.metadata) == bool(note.strip()) or note.strip().startswith("[")


def test_a_long_table_is_no_long_row(folder: Path) -> None:
    row = f"a.jpg,{'x' * 100_000}\n"
    (folder / "m.csv").write_text("file,said\n" + row * 50)
    assert opened(folder / "m.csv").count() == 50
