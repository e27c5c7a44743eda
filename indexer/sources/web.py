"""Manifests, lists of addresses and archives on the web: fetched whole, within limits, and read from here.

By the fetcher that pictures go through, so no address within the network is reached. They lie in a temporary file
without a name, of which nothing is left however this process ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import IO
from urllib.parse import urljoin

from indexer.sources.fetch import Fetcher
from indexer.sources.items import FoundFile, printable_url
from phosphene.addresses import told
from phosphene.errors import InvalidInput, PictureError


def name_of(url: str) -> str:
    """Give an address without query and fragment: its end tells what it is."""
    return url.partition("#")[0].partition("?")[0]


class Room:
    """The disk that what was fetched of the web may take, all at a time."""

    def __init__(self, max_bytes: int) -> None:
        self.kept = 0  # bytes
        self._max_bytes = max_bytes
        self._fetching = threading.Lock()

    @contextlib.contextmanager
    def free(self) -> Iterator[int]:
        """Give the bytes that are left; they are the caller's alone within."""
        with self._fetching:
            yield max(self._max_bytes - self.kept, 0)


class WebFiles:
    """One file on the web; for lists and archives what LocalFiles and RemoteFiles are. Thread-safe."""

    def __init__(self, url: str, *, fetcher: Fetcher, room: Room) -> None:
        """Fetch nothing yet: what reads it first has it fetched."""
        self.root = name_of(url)
        self._url = url
        self._fetcher = fetcher
        self._room = room
        self._fetching = threading.Lock()
        self._file: IO[bytes] | None = None

    def uri(self, _path: str) -> str:
        """Name it so that a person can find it."""
        return printable_url(self._url)

    def is_folder(self) -> bool:
        """Tell that it is none: the web has no way to list one."""
        return False

    def found(self, path: str, relative: str) -> FoundFile:
        """Describe it; its fingerprint is the sha256 of its bytes. Raises InvalidInput where it can't be fetched."""
        with self.open(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return FoundFile(path=path, uri=self.uri(path), relative=relative, size=file.tell(), fingerprint=digest)

    def beside(self, name: str) -> str:
        """Give the address of a name that is written relative to this file."""
        return urljoin(self._url, name.replace("#", "%23"))

    def open(self, _path: str) -> io.BufferedReader:
        """Open it to be read from its beginning. Raises InvalidInput where it can't be fetched or kept."""
        with self._fetching:
            if self._file is None:
                self._file = self._fetched()
            return io.BufferedReader(_Reading(self._file.fileno()))

    def _fetched(self) -> IO[bytes]:
        try:
            with contextlib.ExitStack() as on_failure:
                file = on_failure.enter_context(tempfile.TemporaryFile(buffering=0))
                with self._room.free() as free:
                    self._fetcher.download(self._url, file, max_bytes=free)
                    self._room.kept += file.tell()
                on_failure.pop_all()
                return file
        except PictureError as error:
            others = f"beside {self._room.kept:,} bytes of other lists " if self._room.kept else ""
            raise InvalidInput(f"{told(self._url)}: {others}{error}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise InvalidInput(f"{told(self._url)} can't be kept in {tempfile.gettempdir()}: {reason}") from error

    def close(self) -> None:
        """Delete what was fetched; it is fetched again where it is read again."""
        with self._fetching:
            if self._file is not None:
                self._room.kept -= os.fstat(self._file.fileno()).st_size
                self._file.close()
                self._file = None


class _Reading(io.RawIOBase):
    """An open file read from a place of its own, so that several may read it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)  # what is read here stays that file, whoever closes the other
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any buffer, says io
        count = os.preadv(self._descriptor, [buffer], self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._descriptor).st_size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
