"""Manifests: CSV, TSV, JSON lines and Parquet files whose rows are pictures.

A manifest is read twice, row by row: first to check it as a whole and to find out which kinds its columns hold, so that
a mistake in row 900,000 is named before the first picture is touched; then to yield its pictures.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from indexer.fields import MAX_FIELDS, Described, KindOfColumn, brought_to, describe
from indexer.sources.items import MANIFEST_SUFFIXES, WEB_SCHEMES, suffix_of, told_spec
from indexer.sources.local import LocalFiles
from indexer.sources.parquet import rows_of
from indexer.sources.remote import RemoteFiles
from indexer.sources.web import WebFiles
from phosphene.addresses import told
from phosphene.errors import InvalidInput, InvalidManifest
from phosphene.types import FIELD_NAME, RESERVED_NAMES, Field, FieldKind, FieldValue

FILE_COLUMNS = ("file", "path", "filename", "file_name", "filepath", "file_path", "image", "image_path", "url",
                "image_url", "uri", "src")  # fmt: skip
_MAX_LINE = 4 * 2**20  # bytes of one row

Files = LocalFiles | RemoteFiles
Listing = Files | WebFiles  # where a manifest, a list or an archive lies


def is_manifest(name: str) -> bool:
    """Tell by its name whether a file is a manifest."""
    return name.lower().endswith(MANIFEST_SUFFIXES)


def parse_column_map(text: str) -> dict[str, str]:
    """Read "file=path,title=name,year=Year taken": the field on the left comes from the column on the right.

    Raises InvalidManifest.
    """
    column_map: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = (side.strip() for side in part.partition("="))
        if not (name and equals and column):
            raise InvalidManifest(f"column map {part!r} is not understood: write file=path,title=name,year=Year taken")
        column_map[name] = column
    return column_map


def _checked(column_map: Mapping[str, str]) -> Mapping[str, str]:
    for name in column_map:
        if name in ("file", "title"):
            continue
        if name in RESERVED_NAMES:
            raise InvalidManifest(f"column map: {name!r} is computed by Phosphene; choose another name for the field")
        if FIELD_NAME.fullmatch(name) is None:
            raise InvalidManifest(f"column map: {name!r} is no field name: write a to z, digits and _, a letter first")
    return column_map


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a manifest. `file` is as written there; `number` counts from 1, header not counted."""

    number: int
    file: str
    described: Described


class _Lines:
    """The lines of a table. A row may have several, but all together no more than `_MAX_LINE` characters."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.of_row = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(_MAX_LINE + 1):
            self.of_row += len(line)
            if self.of_row > _MAX_LINE:
                raise csv.Error(f"it is longer than {_MAX_LINE:,} characters")
            yield line


class Manifest:
    """A manifest that was checked: how many rows it has and which fields."""

    def __init__(
        self,
        files: Listing,
        *,
        column_map: Mapping[str, str],
        declared: Sequence[Field] = (),
        web: bool = True,
        file_columns: Sequence[str] = FILE_COLUMNS,
    ) -> None:
        """Read it once. `declared` fields keep their kinds. `web` tells whether rows may be http(s) addresses.

        Raises InvalidManifest with file, row and column.
        """
        self.files = files
        self.name = told(files.uri(files.root))
        self._column_map = dict(_checked(column_map))
        self._textual = suffix_of(files.root) in (".csv", ".tsv")
        self._declared = {field.name: field for field in declared}
        self._web = web
        self._file_columns = file_columns
        self._file_column = ""
        self.rows = 0
        kinds = self._check()
        self.fields = tuple(Field(name, kind) for name, kind in kinds.items())
        self._kinds = {field.name: field for field in self.fields}

    def _check(self) -> dict[str, FieldKind]:
        columns: dict[str, KindOfColumn] = {}
        for row in self._described():
            self.rows += 1
            for name, value in row.described.metadata.items():
                if name in self._declared:
                    self._bring(value, self._declared[name], row.number)
                    continue
                if name not in columns:
                    columns[name] = KindOfColumn(name, textual=self._textual)
                    if len(columns) > MAX_FIELDS:
                        raise self._error(row.number, f"{name!r} would be field {MAX_FIELDS + 1}; map fewer columns")
                columns[name].see(value)
        inferred = {name: column.kind for name, column in columns.items()}
        return {name: kind for name, kind in inferred.items() if kind is not None}

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows, their values brought to their kinds."""
        known = self._declared | self._kinds
        for row in self._described():
            metadata = {
                name: self._bring(value, known[name], row.number) for name, value in row.described.metadata.items()
            }
            yield Row(row.number, row.file, Described(title=row.described.title, metadata=metadata))

    def _bring(self, value: FieldValue, field: Field, number: int) -> FieldValue:
        try:
            return brought_to(value, field)
        except ValueError as error:
            raise self._error(number, f"column {self._column_of(field.name)!r}: {error}") from error

    def _column_of(self, name: str) -> str:
        return self._column_map.get(name, name)

    def _described(self) -> Iterator[Row]:
        for number, cells in self._cells():
            column = self._file_column or self._find_file_column(cells, number)
            file = cells.get(column)
            if not isinstance(file, str) or not file.strip():
                raise self._error(number, f"column {column!r} is empty: it must name a picture file or address")
            if file.startswith(WEB_SCHEMES) and not self._web:
                raise self._error(
                    number,
                    f"column {column!r}: {told_spec(file)[:200]} is on the web: it is fetched only with "
                    "--fetch-urls or PHOSPHENE_FETCH_URLS=true",
                )
            try:
                described = describe(
                    {name: value for name, value in cells.items() if name != column},
                    {name: mapped for name, mapped in self._column_map.items() if name != "file"},
                )
            except ValueError as error:
                raise self._error(number, str(error)) from error
            yield Row(number, file.strip(), described)

    def _find_file_column(self, cells: Mapping[str, object], number: int) -> str:
        columns = ", ".join(cells) or "none"
        for name, column in self._column_map.items():
            # JSON lines may leave keys out, so only the columns of tables can be missed here.
            if column not in cells and (name == "file" or suffix_of(self.files.root) not in (".jsonl", ".ndjson")):
                raise self._error(number, f"no column {column!r}, which the column map names; columns: {columns}")
        by_name = {name.lower().strip().replace(" ", "_"): name for name in cells}
        likely = (by_name[name] for name in self._file_columns if name in by_name)
        found = self._column_map.get("file") or next(likely, None)
        if found is None:
            raise self._error(
                number, f"no column names the picture; columns: {columns}. Say which with --column-map file=COLUMN"
            )
        self._file_column = found
        return found

    def _error(self, number: int, text: str) -> InvalidManifest:
        return InvalidManifest(f"{self.name}: row {number}: {text}")

    def _cells(self) -> Iterator[tuple[int, dict[str, object]]]:
        suffix = suffix_of(self.files.root)
        if suffix == ".parquet":
            yield from self._parquet()
        elif suffix in (".jsonl", ".ndjson"):
            yield from self._json_lines()
        else:
            yield from self._csv("\t" if suffix == ".tsv" else ",")

    def _csv(self, delimiter: str) -> Iterator[tuple[int, dict[str, object]]]:
        with self.files.open(self.files.root) as binary:
            lines = _Lines(io.TextIOWrapper(binary, encoding="utf-8-sig", newline=""))
            rows = csv.reader(lines, delimiter=delimiter, strict=True)
            number = 0
            header: list[str] = []
            try:
                for cells in rows:
                    lines.of_row = 0
                    if not any(cell.strip() for cell in cells):
                        continue
                    if not header:
                        header = self._header(cells)
                        continue
                    number += 1
                    if len(cells) != len(header):
                        raise self._error(
                            number, f"{len(cells)} cells, but the header has {len(header)} (is a quote missing?)"
                        )
                    yield number, dict(zip(header, cells, strict=True))
            except (csv.Error, UnicodeDecodeError) as error:
                raise self._error(number + 1, f"can't be read: {error}") from error

    def _header(self, cells: list[str]) -> list[str]:
        header: dict[str, None] = {}
        for column, name in enumerate((cell.strip() for cell in cells), start=1):
            if not name:
                raise InvalidManifest(f"{self.name}: column {column} of the header has no name")
            if name in header:
                raise InvalidManifest(f"{self.name}: two columns are named {name!r}")
            header[name] = None
        return list(header)

    def _json_lines(self) -> Iterator[tuple[int, dict[str, object]]]:
        with self.files.open(self.files.root) as binary:
            number = 0
            while line := binary.readline(_MAX_LINE + 1):
                if not line.strip():
                    continue
                number += 1
                if len(line) > _MAX_LINE:
                    raise self._error(number, f"is longer than {_MAX_LINE:,} bytes")
                try:
                    cells = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise self._error(number, f"is not JSON: {error}") from error
                if not isinstance(cells, dict):
                    raise self._error(number, 'is not a JSON object like {"file": …}')  # fmt: skip
                yield number, cells

    def _parquet(self) -> Iterator[tuple[int, dict[str, object]]]:
        number = 0
        try:
            with self.files.open(self.files.root) as binary:
                for cells in rows_of(binary, max_bytes=_MAX_LINE):
                    number += 1
                    yield number, cells
        except (OSError, RecursionError) as error:
            raise InvalidManifest(f"{self.name}: no Parquet file that can be read: {error}") from error
        except ValueError as error:
            raise self._error(number + 1, str(error)) from error


def open_files(spec: str) -> Files:
    """Open a path of this machine or an fsspec address."""
    return RemoteFiles(spec) if is_address(spec) else LocalFiles(spec)


def is_address(spec: str) -> bool:
    """Tell whether a spec is an fsspec address rather than a path of this machine."""
    head, colons, _ = spec.partition("://")
    return bool(colons) and head.replace("+", "").isalnum() and ("::" in spec or head not in ("file", "local"))


def require_manifest(spec: str, files: Listing) -> Listing:
    """See that what --metadata names is a manifest. Raises InvalidManifest."""
    if not is_manifest(files.root):
        raise InvalidManifest(f"{told_spec(spec)!r} is no manifest: its name ends in {', '.join(MANIFEST_SUFFIXES)}")
    try:
        if not files.is_folder():
            return files
    except InvalidInput as error:
        raise InvalidManifest(f"metadata {error}") from error
    raise InvalidManifest(f"metadata {told_spec(spec)!r} is a folder")
