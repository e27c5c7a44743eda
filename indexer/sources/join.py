"""--metadata FILE: the rows of a manifest, found again by the file names of a folder or an archive."""

from __future__ import annotations

import json
import posixpath
import sqlite3
import threading

from indexer.fields import Described
from indexer.sources.archive import with_description
from indexer.sources.items import SourceItem
from indexer.sources.manifest import Manifest

# img2dataset names its pictures by `key`; its `url` says where they came from.
KEY_COLUMNS = ("file", "path", "filename", "file_name", "filepath", "file_path", "image", "image_path", "key")
_TABLE = """
    CREATE TABLE said (path TEXT PRIMARY KEY, name TEXT, stem TEXT, title TEXT, metadata TEXT);
    CREATE INDEX said_by_name ON said (name);
    CREATE INDEX said_by_stem ON said (stem);
"""


class MetadataTable:
    """Descriptions by file name, on disk in a temporary file, so that a manifest may have any number of rows."""

    def __init__(self, manifest: Manifest) -> None:
        self._lock = threading.Lock()
        self._table = sqlite3.connect("", check_same_thread=False)  # "": a file that goes when it is closed
        self._table.executescript(_TABLE)
        self._table.executemany(
            "INSERT OR REPLACE INTO said VALUES (?, ?, ?, ?, ?)",
            (
                (path, *_names(path), row.described.title, json.dumps(row.described.metadata))
                for row in manifest
                for path in [_normal(row.file)]
            ),
        )
        self._table.commit()

    def describe(self, item: SourceItem, relative: str) -> SourceItem:
        """Add what the manifest says about the file of this path below its folder.

        A row is found by its path, by its file name, or by its name without suffix; the latter two only where no
        second row has it too.
        """
        path = _normal(relative)
        name, stem = _names(path)
        for column, value in (("path", path), ("name", name), ("stem", stem)):
            with self._lock:
                rows = self._table.execute(
                    f"SELECT title, metadata FROM said WHERE {column} = ? LIMIT 2",  # noqa: S608  one of three words
                    (value,),
                ).fetchall()
            if len(rows) == 1:
                title, metadata = rows[0]
                return with_description(item, Described(title=title, metadata=json.loads(metadata)))
        return item

    def close(self) -> None:
        """Delete the temporary file."""
        self._table.close()


def _normal(path: str) -> str:
    return posixpath.normpath(path.replace("\\", "/")).encode("utf-8", "backslashreplace").decode()


def _names(path: str) -> tuple[str, str]:
    name = posixpath.basename(path)
    return name, posixpath.splitext(name)[0]
