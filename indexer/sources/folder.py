"""Folders: every picture below them, with the sidecar files beside each.

Files that are no pictures by name are passed over and counted, archives and manifests among them: name those to have
them read. Pictures of formats that are not read here (HEIC, SVG …) end in quarantine, so that none is missed unawares.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from indexer.sources.archive import MAX_SIDECAR_BYTES, with_sidecars
from indexer.sources.items import (
    UNREAD_SUFFIXES,
    FoundFile,
    SourceItem,
    is_picture,
    suffix_of,
    unread_format,
    unreadable,
)
from indexer.sources.local import LocalFiles
from indexer.sources.manifest import Files
from phosphene.errors import PictureError


@dataclass(slots=True)
class Folder:
    """The pictures below one folder, as (path relative to it, item). `skipped` counts the files that are none."""

    files: Files
    max_bytes: int
    skipped: int = 0

    def __iter__(self) -> Iterator[tuple[str, SourceItem]]:
        """Yield them in the order of their names."""
        self.skipped = 0
        pending: list[FoundFile] = []  # of one folder
        here = ""
        for entry in self.files.walk():
            if not isinstance(entry, FoundFile):
                yield "", unreadable(*entry)
                continue
            folder = posixpath.dirname(entry.relative)
            if folder != here:
                yield from self._of_one_folder(pending)
                pending, here = [], folder
            pending.append(entry)
            if len(pending) > _AT_ONCE and (_stem(pending[-1]) != _stem(pending[-2]) or len(pending) > 4 * _AT_ONCE):
                yield from self._of_one_folder(pending[:-1])
                del pending[:-1]
        yield from self._of_one_folder(pending)

    def _of_one_folder(self, found: list[FoundFile]) -> Iterator[tuple[str, SourceItem]]:
        sidecars = {entry.relative: entry for entry in found if suffix_of(entry.relative) in (".json", ".txt")}
        used: set[str] = set()
        for entry in found:
            if is_picture(entry.relative):
                yield entry.relative, self._item(entry, sidecars, used)
            elif suffix_of(entry.relative) in UNREAD_SUFFIXES:
                yield entry.relative, unread_format(entry.uri)
            elif entry.relative not in sidecars:
                self.skipped += 1
        self.skipped += len(sidecars.keys() - used)

    def single(self, entry: FoundFile) -> SourceItem:
        """Make the item of one file that was named; its sidecars are looked for on this machine only."""
        sidecars: dict[str, FoundFile] = {}
        if isinstance(self.files, LocalFiles):
            for base in (os.path.splitext(entry.path)[0], entry.path):  # noqa: PTH122  a name of any bytes
                for suffix in (".json", ".txt"):
                    if os.path.isfile(base + suffix):  # noqa: PTH113
                        relative = os.path.basename(base) + suffix  # noqa: PTH119
                        sidecars[relative] = self.files.found(base + suffix, relative)
        named = replace(entry, relative=posixpath.basename(entry.path))
        return self._item(named, sidecars, set())

    def _item(self, entry: FoundFile, sidecars: dict[str, FoundFile], used: set[str]) -> SourceItem:
        beside: dict[str, bytes] = {}
        for base in (posixpath.splitext(entry.relative)[0], entry.relative):
            for suffix in (".json", ".txt"):
                if (sidecar := sidecars.get(base + suffix)) is not None:
                    used.add(sidecar.relative)
                    try:
                        beside[suffix] = self.files.read(sidecar.path, max_bytes=MAX_SIDECAR_BYTES)
                    except PictureError as error:
                        return unreadable(entry.uri, f"{posixpath.basename(sidecar.relative)}: {error}", error.fault)
        return with_sidecars(item_of(entry, self.files, self.max_bytes), beside)


_AT_ONCE = 512  # files whose sidecars are matched at a time: neighbours in name order, as sidecars are


def _stem(entry: FoundFile) -> str:
    """Give what a picture and its sidecars share: the name up to the first dot."""
    return posixpath.basename(entry.relative).partition(".")[0]


def item_of(entry: FoundFile, files: Files, max_bytes: int) -> SourceItem:
    """Make the item of a file that was found."""
    return SourceItem(
        uri=entry.uri,
        fingerprint=entry.fingerprint,
        read=partial(files.read, entry.path, max_bytes=max_bytes),
        size=entry.size,
    )


def count_pictures(files: Files) -> int | None:
    """Count the pictures below a folder of this machine; None where listing alone costs requests."""
    if not isinstance(files, LocalFiles):
        return None
    return sum(
        isinstance(entry, FoundFile) and (is_picture(entry.relative) or suffix_of(entry.relative) in UNREAD_SUFFIXES)
        for entry in files.walk()
    )
