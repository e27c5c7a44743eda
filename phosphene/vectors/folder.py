"""The folder of one embedded index: its lock, and the pointer that says which shard in it is the live one.

    <folder>/lock            held (flock) by the one process that has the index open
    <folder>/making          there while the first shard is being made
    <folder>/current.json    space, dimension, name of the live shard; replaced atomically
    <folder>/shards/<name>/  what the engine writes

A rebuilt shard comes to life by a new pointer: before the rename the old one is the truth, after it the new one.
Shards that the pointer does not name are leftovers of a killed process.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from phosphene.errors import DamagedData, DataFolderInUse, Unavailable
from phosphene.vectors.pointers import sync, write_whole

_FORMAT = 1
_COPY_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which shard is live, and the space of its vectors.

    `sealed` has the sha256 of those files of a built graph that never change and that the engine reads without a
    check: noise in one of them ends the whole process (seen: an allocation of its length field).
    """

    space: str
    dimension: int
    shard: str
    sealed: dict[str, str] = field(default_factory=dict)


class IndexFolder:
    """A folder that this object holds until `release`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock
        self._making = path / "making"

    @classmethod
    def claim(cls, path: Path) -> Self:
        """Create the folder if need be and take its lock. Raises DataFolderInUse and Unavailable."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"the vector index {path} can't be opened: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise in_use(path, holder) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return cls(path, lock)

    def release(self) -> None:
        """Let another process have the folder; twice is fine."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def shard(self, name: str) -> Path:
        """Where the shard of that name is."""
        return self.path / "shards" / name

    def new_shard(self) -> Path:
        """Give a place for a shard that is not there yet."""
        return self.shard(uuid.uuid4().hex)

    def begin(self) -> None:
        """Note that the first shard is being made: until there is a pointer, what is in here was promised to nobody."""
        (self.path / "shards").mkdir(exist_ok=True)
        self._making.touch()
        sync(self.path)

    def pointer(self) -> Pointer | None:
        """Read the pointer; None where nothing was ever stored. Raises DamagedData."""
        try:
            source = json.loads((self.path / "current.json").read_bytes())
            if source.pop("format") != _FORMAT:
                raise damaged(self.path, "current.json has a format of another version")
            pointer = Pointer(**source)
        except FileNotFoundError:
            if any((self.path / "shards").glob("*")) and not self._making.exists():
                raise damaged(self.path, "current.json is missing") from None
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise damaged(self.path, f"current.json: {error}") from error
        if not self.shard(pointer.shard).is_dir():
            raise damaged(self.path, f"shard {pointer.shard} is missing")
        if not pointer.sealed.items() <= seals(self.shard(pointer.shard)).items():
            raise damaged(self.path, f"the ids of shard {pointer.shard} are not as they were written")
        return pointer

    def point_to(self, pointer: Pointer) -> None:
        """Make a shard the live one: durable, and all or nothing."""
        write_whole(self.path / "current.json", {"format": _FORMAT, **asdict(pointer)})

    def sweep(self, live: str) -> None:
        """Delete what is not the live shard."""
        self._making.unlink(missing_ok=True)
        for leftover in (self.path / "shards").glob("*"):
            if leftover.name != live:
                shutil.rmtree(leftover, ignore_errors=True)


def seals(shard: Path) -> dict[str, str]:
    """Hash the files of a shard that `Pointer.sealed` is about, by their names in the shard."""
    return {
        str(path.relative_to(shard)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in shard.glob("segments/*/id_tracker.mappings")
    }


def in_use(path: Path, holder: str) -> DataFolderInUse:
    """Say who holds a folder."""
    return DataFolderInUse(
        f"the vector index in {path} is in use by process {holder}: stop it, or ask it with --server URL"
    )


def damaged(path: Path, reason: str) -> DamagedData:
    """Say what is wrong with a folder and what mends it."""
    line = " ".join(reason.split())[:200]
    return DamagedData(f"the vector index in {path} is damaged ({line}): run `phosphene verify --repair`")


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a folder, leaving out the holes that the engine allocates ahead (most of a small shard)."""
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            copy_sparse(entry, target / entry.name)
        else:
            _copy_file(entry, target / entry.name)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        position = 0
        while position < size:
            try:
                start = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    return
                raise
            end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            while start < end:
                piece = os.pread(reader.fileno(), min(_COPY_BYTES, end - start), start)
                if not piece:
                    return
                os.pwrite(writer.fileno(), piece, start)
                start += len(piece)
            position = end
