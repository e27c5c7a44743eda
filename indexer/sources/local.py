"""Files of this machine: folders walked in order, read within limits, without ever following a loop or a pipe."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from indexer.sources.items import FoundFile, printable
from phosphene.errors import InvalidInput, PictureError, PictureFault

_MODES = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}


def walk(root: str) -> Iterator[FoundFile | tuple[str, str]]:
    """Yield the visible files below root, each folder's before those of its subfolders, in the order of their names.

    What can't be listed comes as (uri, reason). Links to folders are followed, but never back to a folder on the way
    here. Only the names in the current folder and in those on the way to it are held in memory.
    """
    yield from _walk(root, "", ())


def _walk(folder: str, relative: str, ancestors: tuple[tuple[int, int], ...]) -> Iterator[FoundFile | tuple[str, str]]:
    try:
        status = os.stat(folder)  # noqa: PTH116  os.scandir's world of str, 1,000,000 times
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            folders = sorted(entry.name for entry in visible if _leads_to_folder(entry))
            names = sorted({entry.name for entry in visible}.difference(folders))
    except OSError as error:
        yield printable(os.path.abspath(folder)), f"the folder can't be listed: {error.strerror or error}"  # noqa: PTH100
        return
    del visible
    for name in names:
        yield found(os.path.join(folder, name), relative + name)  # noqa: PTH118
    del names
    for name in folders:
        yield from _walk(os.path.join(folder, name), f"{relative}{name}/", (*ancestors, identity))  # noqa: PTH118


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def found(path: str, relative: str) -> FoundFile:
    """Describe a file; where it can't be looked at, size and fingerprint stay unknown and reading tells why."""
    uri = printable(os.path.abspath(path))  # noqa: PTH100  resolving links would make one file of many names
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return FoundFile(path=path, uri=uri, relative=relative, size=None, fingerprint=None)
    return FoundFile(path=path, uri=uri, relative=relative, size=status.st_size, fingerprint=fingerprint_of(status))


def fingerprint_of(status: os.stat_result) -> str:
    """Digest what changes with the bytes. ctime is in it because mtime can be set back to what it was."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def read(path: str, *, max_bytes: int, start: int = 0, length: int | None = None) -> bytes:
    """Read a regular file, or `length` bytes of it. Raises PictureError with what is wrong."""
    try:
        # O_NONBLOCK: opening a pipe without a writer would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = _MODES.get(stat.S_IFMT(status.st_mode), "a device")
                raise PictureError(PictureFault.UNREADABLE, f"this is {kind}, not a file")
            size = status.st_size - start if length is None else length
            if size > max_bytes:
                raise too_many_bytes(size, max_bytes)
            file.seek(start)
            data = _exactly(file, size)
            if length is not None and len(data) < length:
                raise PictureError(PictureFault.UNREADABLE, "the file ends in the middle of it")
            return data
    except OSError as error:
        raise PictureError(PictureFault.UNREADABLE, _reason(path, error)) from error


def _exactly(file: object, size: int) -> bytes:
    parts: list[bytes] = []
    missing = size
    while missing and (part := file.read(missing)):  # type: ignore[attr-defined]  # a raw file; reads may come short
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _reason(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and os.path.islink(path):  # noqa: PTH114
        return f"a link to {printable(os.readlink(path))}, which does not exist"  # noqa: PTH115
    if isinstance(error, FileNotFoundError):
        return "the file vanished before it was read"
    return f"the file can't be read: {error.strerror or error}"


def too_many_bytes(size: int, max_bytes: int) -> PictureError:
    """Say that a file is over the limit."""
    return PictureError(
        PictureFault.TOO_MANY_BYTES,
        f"{size:,} bytes are more than the limit of {max_bytes:,} (PHOSPHENE_MAX_PICTURE_BYTES)",
    )


class LocalFiles:
    """The files of this machine below one path; the counterpart of RemoteFiles."""

    def __init__(self, path: str) -> None:
        self.root = os.path.expanduser(path.removeprefix("file://").removeprefix("local://"))  # noqa: PTH111

    def uri(self, path: str) -> str:
        """Name a path so that a person can find it: absolute, links kept."""
        return printable(os.path.abspath(path))  # noqa: PTH100

    def is_folder(self) -> bool:
        """Tell whether the path is a folder. Raises InvalidInput where nothing is there."""
        if not os.path.lexists(self.root):
            raise InvalidInput(f"{printable(self.root)!r} does not exist: name a folder, a file or a pattern that does")
        return Path(self.root).is_dir()

    def walk(self) -> Iterator[FoundFile | tuple[str, str]]:
        """Yield the visible files below the folder; (uri, reason) for what can't be listed."""
        return walk(self.root)

    def matches(self) -> Iterator[FoundFile]:
        """Expand a glob (`**` crosses folders, hidden names are left out), in the order of the paths."""
        for path in sorted(glob.iglob(self.root, recursive=True)):  # noqa: PTH207  Path.glob takes no absolute patterns
            if not Path(path).is_dir():
                yield found(path, Path(path).name)

    def found(self, path: str, relative: str) -> FoundFile:
        """Describe one file."""
        return found(path, relative)

    def beside(self, name: str) -> str:
        """Give the path of a name that is written relative to this file."""
        return os.path.join(os.path.dirname(self.root), name)  # noqa: PTH118, PTH120

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """Read a file. Raises PictureError with what is wrong."""
        return read(path, max_bytes=max_bytes)

    def open(self, path: str) -> IO[bytes]:
        """Open a file to be read from its beginning. Raises InvalidInput where that can't be done."""
        try:
            return Path(path).open("rb")
        except OSError as error:
            raise InvalidInput(f"{printable(path)!r} can't be read: {error.strerror or error}") from error


def has_glob(spec: str) -> bool:
    """Tell whether a spec is a pattern rather than the name of a file that happens to hold brackets."""
    return glob.has_magic(spec) and not os.path.lexists(os.path.expanduser(spec))  # noqa: PTH111
