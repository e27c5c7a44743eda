"""An embedded data folder belongs to one process. This file says which, and how to reach it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Self

from phosphene.errors import DataFolderInUse, Unavailable

_LOCK = "holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a data folder.

    `url` and `token` are set while it serves: whoever can read this file (mode 0600) may act as its local user.
    """

    pid: int
    command: str
    url: str | None = None
    token: str | None = None


class HeldFolder:
    """A data folder that this process holds until `release`, or until it dies: the kernel lets go of the lock then."""

    def __init__(self, folder: Path, file: IO[str], holder: Holder) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(32)  # what local callers of a serving process show
        self._file = file
        self._holder = holder

    @classmethod
    def take(cls, folder: Path, *, command: str) -> Self:
        """Take the folder, making it if need be. Raises DataFolderInUse, which names the holder and what to do."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"the data folder {folder} can't be used: {error.strerror}; set PHOSPHENE_DATA to another folder"
            raise Unavailable(message) from error
        file = os.fdopen(descriptor, "r+", encoding="utf-8")
        if not _lock(file):
            file.close()
            raise DataFolderInUse(_who(folder))
        held = cls(folder, file, Holder(pid=os.getpid(), command=command))
        held._write()
        return held

    def announce(self, url: str) -> None:
        """Say where this process serves, and the token, to those who may read the folder."""
        self._holder = replace(self._holder, url=url, token=self.token)
        self._write()

    def release(self) -> None:
        """Let go of the folder."""
        with contextlib.suppress(ValueError, OSError):
            self._file.seek(0)
            self._file.truncate()
        self._file.close()

    def _write(self) -> None:
        try:
            self._file.seek(0)
            self._file.truncate()
            json.dump(asdict(self._holder), self._file)
            self._file.flush()
        except OSError as error:
            message = f"the data folder {self.folder} can't be written: {error.strerror}"
            raise Unavailable(message) from error


def _lock(file: IO[str]) -> bool:
    """Lock for this process alone; tries again for a moment, since `current_holder` of another process locks too."""
    for _ in range(5):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def current_holder(folder: Path) -> Holder | None:
    """Say which process holds the folder now, None if nobody does."""
    try:
        with (folder / _LOCK).open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return Holder(pid=0, command="another user's process")
    return None


def _read(file: IO[str]) -> Holder:
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return Holder(pid=0, command="a process that has just started")


def _who(folder: Path) -> str:
    holder = current_holder(folder)
    if holder is None:
        return f"the data folder {folder} was in use a moment ago: try again"
    who = f"`{holder.command}`" + (f" (pid {holder.pid})" if holder.pid else "")
    if holder.url:
        return f"the data folder {folder} is held by {who}, which serves at {holder.url}: use --server {holder.url}"
    return f"the data folder {folder} is held by {who}: wait for it, stop it, or set PHOSPHENE_DATA to another folder"
