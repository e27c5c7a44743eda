"""Small JSON files that are replaced as a whole: an embedded index's pointer to its shard, and names for spaces."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phosphene.errors import DamagedData, NotFound
from phosphene.types import SpaceId


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file: durable on return, and readers see the old one or the new one."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; other threads go on meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SpaceAliases:
    """Names for spaces in a file ("retrieval" -> the space that answers queries): what aliases are on a server.

    A new model's index is built beside the old one, then its name is pointed to it, and back if need be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def space_of(self, name: str) -> SpaceId:
        """Say which space has this name now. Raises NotFound."""
        try:
            return SpaceId(self._read()[name])
        except KeyError:
            raise NotFound(f"no space is called {name!r} in {self._path}") from None

    def point(self, name: str, space: SpaceId) -> SpaceId | None:
        """Give a name to a space and return the one that had it before. One process writes, any may read."""
        names = self._read()
        before = names.get(name)
        write_whole(self._path, {**names, name: space})
        return None if before is None else SpaceId(before)

    def _read(self) -> dict[str, str]:
        try:
            names = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DamagedData(f"{self._path} is not JSON ({error}): delete it and point the names anew") from error
        if not isinstance(names, dict) or not all(isinstance(space, str) for space in names.values()):
            raise DamagedData(f"{self._path} does not map names to spaces: delete it and point the names anew")
        return names
