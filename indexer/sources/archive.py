"""Tar archives as WebDataset and img2dataset write them: `key.jpg` with `key.json` and `key.txt` beside it.

Archives are read member by member and never unpacked: a member's name only names it, it never becomes a path. A plain
tar on this machine is skimmed and its pictures read where they lie, when they are wanted; all others are read in one
pass, and a picture is held until it is used.
"""

from __future__ import annotations

import gzip
import json
import os
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, cast

from indexer.fields import NOTHING_SAID, Described, describe, describe_caption, joined
from indexer.sources import local
from indexer.sources.items import (
    ARCHIVE_SUFFIXES,
    UNREAD_SUFFIXES,
    SourceItem,
    is_hidden,
    is_picture,
    printable,
    suffix_of,
    unread_format,
    unreadable,
)
from indexer.sources.local import LocalFiles, too_many_bytes
from indexer.sources.manifest import Listing
from phosphene.addresses import told
from phosphene.errors import InvalidInput, PictureFault

MAX_SIDECAR_BYTES = 2**20
_MAX_GROUP = 64  # members of one key; beyond that it is no group but a naming habit
_MAX_GROUP_BYTES = 256 * 2**20  # of pictures that are held for it
_MAX_HEADER_BYTES = 4 * 2**20  # of one member, long names and the like included
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError)


def is_archive(name: str) -> bool:
    """Tell by its name whether a file is an archive that is read here."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


@dataclass(slots=True)
class _Group:
    """The members of one key."""

    key: str
    pictures: list[tuple[str, SourceItem]] = field(default_factory=list)  # member name and item
    sidecars: dict[str, bytes] = field(default_factory=dict)
    members: int = 0
    held: int = 0  # bytes


class _Bounded:
    """A tar that is read in one pass: no further than to the next header, and as far beyond as one may be long.

    tarfile reads a header as a whole, however long it says that it is, and a few packed megabytes can hold gigabytes.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self._at = 0
        self.tar: tarfile.TarFile | None = None  # which knows where its next header lies

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._at += len(data)
        if self._at > _MAX_HEADER_BYTES + (0 if self.tar is None else self.tar.offset):
            raise tarfile.ReadError(f"a header in it is longer than {_MAX_HEADER_BYTES:,} bytes")
        return data


class Archive:
    """The pictures of one tar."""

    def __init__(self, files: Listing, *, max_bytes: int) -> None:
        """Open it and read its first header. Raises InvalidInput where it is no tar."""
        self._files = files
        self._max_bytes = max_bytes
        self._uri = files.uri(files.root)
        self._version = files.found(files.root, "").fingerprint
        self.skipped = 0
        compressed = not files.root.lower().endswith(".tar")
        self._in_place = isinstance(files, LocalFiles) and not compressed
        self._compressed = compressed
        with files.open(files.root) as file:
            try:
                self._tar(file).close()
            except _DAMAGED as error:
                raise InvalidInput(f"{told(self._uri)}: no tar that can be read: {error}") from error

    def _tar(self, file: IO[bytes]) -> tarfile.TarFile:
        if self._in_place:
            return tarfile.open(fileobj=file, mode="r:")
        # GzipFile rather than tarfile's own "r|gz", which takes a cut file for one that is complete.
        bounded = _Bounded(gzip.GzipFile(fileobj=file) if self._compressed else file)
        bounded.tar = tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|")  # noqa: SIM115  the caller's
        return bounded.tar

    def __iter__(self) -> Iterator[SourceItem]:
        """Yield the pictures in the order they lie in; the last item tells where a damaged archive broke off."""
        with self._files.open(self._files.root) as file:
            group = _Group("")
            try:
                with self._tar(file) as tar:
                    while (member := tar.next()) is not None:
                        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps every header it saw
                        if not member.isfile():
                            self.skipped += not member.isdir()
                            continue
                        name = member.name.lstrip("/")
                        key = _key_of(name)
                        if key != group.key or group.members >= _MAX_GROUP or group.held >= _MAX_GROUP_BYTES:
                            yield from self._items(group)
                            group = _Group(key)
                        group.members += 1
                        self._take(tar, member, name, group)
                    _check_end(tar)
            except _DAMAGED as error:
                yield from self._items(group)
                yield unreadable(self._uri, f"the archive is damaged and was read up to {group.key!r}: {error}")
                return
            yield from self._items(group)

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, group: _Group) -> None:
        if is_hidden(name):
            self.skipped += 1
        elif is_picture(name):
            item = self._picture(tar, member, name)
            group.pictures.append((name, item))
            group.held += 0 if self._in_place else item.size or 0
        elif suffix_of(name) in UNREAD_SUFFIXES:
            group.pictures.append((name, unread_format(self._member_uri(name))))
        elif suffix_of(name) in (".json", ".txt"):
            if member.size <= MAX_SIDECAR_BYTES:
                group.sidecars[name] = _bytes_of(tar, member)
        else:
            self.skipped += 1

    def _member_uri(self, name: str) -> str:
        return f"{self._uri}::{printable(name)}"

    def _picture(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> SourceItem:
        uri = self._member_uri(name)
        if member.size > self._max_bytes:
            return unreadable(uri, str(too_many_bytes(member.size, self._max_bytes)), PictureFault.TOO_MANY_BYTES)
        fingerprint = None if self._version is None else f"{self._version}@{member.offset_data}+{member.size}"
        if self._in_place and not member.issparse():
            read = partial(
                local.read,
                self._files.root,
                max_bytes=self._max_bytes,
                start=member.offset_data,
                length=member.size,
            )
            return SourceItem(uri=uri, fingerprint=fingerprint, read=read, size=member.size)
        data = _bytes_of(tar, member)
        return SourceItem(uri=uri, fingerprint=fingerprint, read=lambda: data, size=member.size)

    def _items(self, group: _Group) -> Iterator[SourceItem]:
        for name, item in group.pictures:
            yield with_sidecars(item, _sidecars_of(name, group))


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise ReadError where the file just stops: a complete archive ends with blocks of zeros."""
    if tar.fileobj.tell() - tar.offset < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends in the middle")


def _bytes_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    data = b"" if content is None else content.read()
    if len(data) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _key_of(name: str) -> str:
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.partition(".")[0])


def _sidecars_of(name: str, group: _Group) -> dict[str, bytes]:
    """Pick the sidecars of a picture: those of its full name, of its name without suffix, of the group's key."""
    found: dict[str, bytes] = {}
    for base in (group.key, os.path.splitext(name)[0], name):  # noqa: PTH122  names in an archive are no paths
        for suffix in (".json", ".txt"):
            if (data := group.sidecars.get(base + suffix)) is not None:
                found[suffix] = data
    return found


def with_sidecars(item: SourceItem, sidecars: dict[str, bytes]) -> SourceItem:
    """Add what `.json` and `.txt` beside a picture say; a sidecar that can't be read puts the picture in quarantine."""
    try:
        described = describe_sidecars(sidecars)
    except ValueError as error:
        return unreadable(item.uri, str(error), PictureFault.BAD_METADATA)
    return with_description(item, described)


def with_description(item: SourceItem, described: Described) -> SourceItem:
    """Add a description, which holds over what the item says already."""
    whole = joined(described, Described(title=item.title, metadata=item.metadata))
    return replace(item, title=whole.title, metadata=whole.metadata)


def describe_sidecars(sidecars: dict[str, bytes]) -> Described:
    """Read the sidecars of one picture by their suffixes; JSON holds over text. Raises ValueError with the reason."""
    said = NOTHING_SAID
    if (data := sidecars.get(".json")) is not None:
        try:
            source = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its .json file is not JSON: {error}") from error
        if not isinstance(source, dict):
            raise ValueError('its .json file holds no object like {"title": …}')  # fmt: skip
        said = describe(source)
    if (data := sidecars.get(".txt")) is not None:
        said = joined(said, describe_caption(data.decode("utf-8", "replace")))
    return said
