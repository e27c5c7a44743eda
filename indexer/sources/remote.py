"""Files of other machines and inside archives, through fsspec: s3://, gs://, memory://, zip:// and others.

The only file of the indexer that imports fsspec. Addresses on the web are not read through it: fetch.py does that, for
fsspec would follow any redirect to any address.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Iterator
from typing import IO, Any

from fsspec.core import url_to_fs

from indexer.sources.items import FoundFile, is_hidden, printable
from indexer.sources.local import too_many_bytes
from phosphene.addresses import told
from phosphene.errors import InvalidInput, PictureError, PictureFault

# They would reach the web past the checks of fetch.py.
_REFUSED = frozenset({"http", "https", "ftp", "ftps", "github", "gist", "jupyter", "jlab", "reference", "webhdfs"})
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created", "CRC")


class RemoteFiles:
    """The files of one fsspec address."""

    def __init__(self, url: str) -> None:
        protocols = [part.partition("://")[0] for part in url.split("::")]
        if refused := sorted(_REFUSED & set(protocols)):
            raise InvalidInput(
                f"{told(url)!r} reads over {', '.join(refused)}, which sources do not: download it first and "
                "name the file"
            )
        try:
            self._files, self.root = url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise InvalidInput(f"{told(url)!r} can't be opened: {error}") from error
        self._url = url
        self._chain = "".join("::" + part for part in url.split("::")[1:])

    def uri(self, path: str) -> str:
        """Name a path so that a person can find it."""
        return printable(str(self._files.unstrip_protocol(path)) + self._chain)

    def is_folder(self) -> bool:
        """Tell whether the address is a folder. Raises InvalidInput where nothing is there."""
        with self._clear():
            if self._files.isdir(self.root) or self.root in ("", "/"):
                return True
            if self._files.exists(self.root):
                return False
        raise InvalidInput(f"{told(self._url)!r} does not exist")

    def walk(self) -> Iterator[FoundFile | tuple[str, str]]:
        """Yield the visible files below the address, folder by folder, in the order of their names."""
        yield from self._walk(self.root, "")

    def _walk(self, folder: str, relative: str) -> Iterator[FoundFile | tuple[str, str]]:
        try:
            entries = self._files.ls(folder, detail=True)
        except Exception as error:  # noqa: BLE001  each file system of fsspec raises its own
            yield self.uri(folder), f"the folder can't be listed: {error}"
            return
        for entry in sorted(entries, key=lambda entry: (entry["type"] == "directory", str(entry["name"]))):
            path = str(entry["name"]).rstrip("/")
            name = posixpath.basename(path)
            if path.strip("/") == folder.strip("/") or is_hidden(name):
                continue
            below = f"{relative}{name}"
            if entry["type"] == "directory":
                yield from self._walk(path, below + "/")
            else:
                yield self._found(entry, below)

    def matches(self) -> Iterator[FoundFile]:
        """Expand a glob in the address, in the order of the paths."""
        with self._clear():
            matched = self._files.glob(self.root, detail=True)
        fixed = len(posixpath.dirname(re.split(r"[*\[]", self.root, maxsplit=1)[0]))
        for path, entry in sorted(matched.items()):
            if entry["type"] == "file" and not is_hidden(path[fixed:]):
                yield self._found(entry, posixpath.basename(path))

    def _found(self, entry: dict[str, Any], relative: str) -> FoundFile:
        path = str(entry["name"])
        version = [f"{key}={entry[key]}" for key in _VERSION_KEYS if entry.get(key) is not None]
        size = entry.get("size")
        fingerprint = f"{size} {' '.join(version)}" if version and size is not None else None
        return FoundFile(path=path, uri=self.uri(path), relative=relative, size=size, fingerprint=fingerprint)

    def found(self, path: str, relative: str) -> FoundFile:
        """Describe one file; where it can't be looked at, size and fingerprint stay unknown and reading tells why."""
        try:
            return self._found({**self._files.info(path), "name": path}, relative)
        except Exception:  # noqa: BLE001  reading it gives the reason
            return FoundFile(path=path, uri=self.uri(path), relative=relative, size=None, fingerprint=None)

    def beside(self, name: str) -> str:
        """Give the path of a name that is written relative to this file."""
        return posixpath.join(posixpath.dirname(self.root), name)

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """Read a file. Raises PictureError with what is wrong."""
        try:
            with self._files.open(path, "rb") as file:
                data: bytes = file.read(max_bytes + 1)
        except Exception as error:
            raise PictureError(PictureFault.UNREADABLE, f"the file can't be read: {_first_line(error)}") from error
        if len(data) > max_bytes:
            raise too_many_bytes(len(data), max_bytes)
        return data

    def open(self, path: str) -> IO[bytes]:
        """Open a file to be read from its beginning. Raises InvalidInput where that can't be done."""
        with self._clear():
            opened: IO[bytes] = self._files.open(path, "rb")
            return opened

    @contextlib.contextmanager
    def _clear(self) -> Iterator[None]:
        try:
            yield
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(f"{told(self._url)!r} can't be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def has_glob(spec: str) -> bool:
    """Tell whether an fsspec address holds a pattern."""
    return any(mark in spec.split("::", maxsplit=1)[0] for mark in "*[")
