"""Rows of Parquet files, which may be a few packed bytes that unfold to gigabytes.

A text that stands in a million rows is written once, and zeros pack well. So texts stay written once until their row is
read, rows are measured before they become Python's, and row groups that unfold beyond reason are not begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ROWS_AT_ONCE = 256
_UNFOLDED = 64 * 2**20  # bytes of a row group
_PACKED = 100  # times; texts come to 2-20
_VALUE = 8  # bytes that a value of a list takes beside the text in it
_TEXTS = ("STRING", "NONE", "JSON", "ENUM")


def rows_of(binary: IO[bytes], *, max_bytes: int) -> Iterator[dict[str, object]]:
    """Yield the rows. Raises ValueError for one of more than `max_bytes`, OSError for a file that can't be read."""
    try:
        yield from _rows_of(binary, max_bytes)
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


def _rows_of(binary: IO[bytes], max_bytes: int) -> Iterator[dict[str, object]]:
    with pq.ParquetFile(binary) as table:
        metadata = table.metadata
        for number in range(metadata.num_row_groups):
            _check(metadata, number)
        columns = [table.schema.column(index) for index in range(metadata.num_columns)]
    texts = [one.path for one in columns if one.physical_type == "BYTE_ARRAY" and one.logical_type.type in _TEXTS]
    binary.seek(0)
    with pq.ParquetFile(binary, read_dictionary=texts) as table:
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
            if _size(batch) <= max_bytes:
                yield from batch.to_pylist()
                continue
            for at in range(batch.num_rows):
                row = batch.slice(at, 1)
                if (size := _size(row)) > max_bytes:
                    raise ValueError(f"{_largest(row)!r} makes it {size:,} bytes long, {max_bytes:,} are read")
                yield from row.to_pylist()


def _check(metadata: pq.FileMetaData, number: int) -> None:
    group = metadata.row_group(number)
    unfolded = packed = 0
    for index in range(group.num_columns):
        chunk = group.column(index)
        unfolded += max(chunk.total_uncompressed_size, _VALUE * (chunk.num_values - group.num_rows))
        packed += chunk.total_compressed_size
    if unfolded > _UNFOLDED and unfolded > _PACKED * packed:
        raise pa.ArrowInvalid(
            f"row group {number + 1} unfolds from {packed:,} to {unfolded:,} bytes, which is not read: write it with "
            "fewer rows a group"
        )


def _largest(row: pa.RecordBatch) -> str:
    return max(map(str, row.schema.names), key=lambda name: _array_size(row.column(name)))


def _size(batch: pa.RecordBatch) -> int:
    return sum(map(_array_size, batch.columns))


def _array_size(array: pa.Array) -> int:
    """Measure values as they will be: a text counts wherever it stands."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return int(pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0)
    if pa.types.is_map(kind):
        start, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
        return _VALUE * int(end - start) + sum(_array_size(part[start:end]) for part in (array.keys, array.items))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = array.flatten()
        return _VALUE * len(values) + _array_size(values)
    if pa.types.is_struct(kind):
        return sum(map(_array_size, array.flatten()))
    return int(array.nbytes)
