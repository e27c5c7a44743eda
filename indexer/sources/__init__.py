"""Where pictures come from: folders, files, patterns, manifests, archives, lists of addresses.

`open_sources` checks everything that can be checked before the first picture is touched, then streams.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from indexer.sources.archive import Archive, is_archive, with_description
from indexer.sources.fetch import Fetcher
from indexer.sources.folder import Folder, count_pictures, item_of
from indexer.sources.items import (
    UNREAD_SUFFIXES,
    URL_LIST_SUFFIX,
    WEB_SCHEMES,
    SourceItem,
    SourceOptions,
    is_picture,
    printable_url,
    suffix_of,
    told_spec,
    unread_format,
    unreadable,
)
from indexer.sources.join import KEY_COLUMNS, MetadataTable
from indexer.sources.local import LocalFiles
from indexer.sources.local import has_glob as has_local_glob
from indexer.sources.manifest import (
    Files,
    Listing,
    Manifest,
    is_address,
    is_manifest,
    open_files,
    parse_column_map,
    require_manifest,
)
from indexer.sources.remote import RemoteFiles
from indexer.sources.remote import has_glob as has_remote_glob
from indexer.sources.urls import UrlList
from indexer.sources.web import Room, WebFiles, name_of
from phosphene.errors import InvalidInput
from phosphene.types import Field

__all__ = ["SourceItem", "SourceOptions", "Sources", "open_sources", "parse_column_map"]


def open_sources(specs: Sequence[str], options: SourceOptions) -> Sources:
    """Open what was named. Raises InvalidInput and InvalidManifest before anything is read from the pictures."""
    if not specs:
        raise InvalidInput("name at least one source: a folder, file, pattern, manifest, archive or list of addresses")
    return Sources(specs, options)


class _Part(Protocol):
    """The pictures of one spec, each with its path below that spec."""

    def __iter__(self) -> Iterator[tuple[str, SourceItem]]: ...

    @property
    def skipped(self) -> int: ...  # files that are no pictures by name

    def count(self) -> int | None: ...  # pictures, where that is cheap to know


@dataclass(slots=True)
class _FolderPart:
    folder: Folder

    def __iter__(self) -> Iterator[tuple[str, SourceItem]]:
        return iter(self.folder)

    @property
    def skipped(self) -> int:
        return self.folder.skipped

    def count(self) -> int | None:
        return count_pictures(self.folder.files)


@dataclass(slots=True)
class _Listed:
    """Items of a list whose length is known: a manifest, a URL list, one file."""

    items: Callable[[], Iterator[SourceItem]]
    length: int
    skipped: int = 0
    close: Callable[[], None] | None = None  # once it was read

    def __iter__(self) -> Iterator[tuple[str, SourceItem]]:
        for item in self.items():
            yield "", item
        if self.close is not None:
            self.close()

    def count(self) -> int | None:
        return self.length


def _closing(files: Listing) -> Callable[[], None] | None:
    return files.close if isinstance(files, WebFiles) else None


@dataclass(slots=True)
class _ArchivePart:
    archive: Archive

    def __iter__(self) -> Iterator[tuple[str, SourceItem]]:
        return ((item.uri.rpartition("::")[2], item) for item in self.archive)

    @property
    def skipped(self) -> int:
        return self.archive.skipped

    def count(self) -> int | None:
        return None


@dataclass(slots=True)
class _WebArchivePart:
    """An archive on the web: fetched when it is its turn, gone when it was read."""

    files: WebFiles
    max_bytes: int
    skipped: int = 0

    def __iter__(self) -> Iterator[tuple[str, SourceItem]]:
        try:
            part = _ArchivePart(Archive(self.files, max_bytes=self.max_bytes))
        except InvalidInput as error:
            yield "", unreadable(self.files.uri(self.files.root), str(error))
            return
        yield from part
        self.skipped = part.skipped
        self.files.close()

    def count(self) -> int | None:
        return None


@dataclass(slots=True)
class _GlobPart:
    """What a pattern matches: pictures, and archives and manifests one after the other."""

    files: Files
    open_part: Callable[[str], _Part]
    max_bytes: int
    skipped: int = 0

    def __iter__(self) -> Iterator[tuple[str, SourceItem]]:
        self.skipped = 0
        folder = Folder(self.files, self.max_bytes)
        for found in self.files.matches():
            name = found.relative
            if is_picture(name):
                yield name, folder.single(found)
            elif is_archive(name) or is_manifest(name):
                part = self.open_part(found.path if isinstance(self.files, LocalFiles) else found.uri)
                yield from part
                self.skipped += part.skipped
            elif suffix_of(name) in UNREAD_SUFFIXES:
                yield name, unread_format(found.uri)
            else:
                self.skipped += 1

    def count(self) -> int | None:
        names = [found.relative for found in self.files.matches()]
        return None if any(is_archive(name) or is_manifest(name) for name in names) else sum(map(is_picture, names))


class Sources:
    """All pictures of some specs, one after the other. `fields` are those that manifests are known to hold."""

    def __init__(self, specs: Sequence[str], options: SourceOptions) -> None:
        """Raise InvalidInput and InvalidManifest where a spec can't be read."""
        self._options = options
        self._fetcher: Fetcher | None = None
        self._web_files: list[WebFiles] = []
        self._room = Room(options.max_download_bytes)
        self._table: MetadataTable | None = None
        self.fields: tuple[Field, ...] = ()
        try:
            if options.metadata is not None:
                self._table = self._open_metadata(options.metadata)
            self._parts = [self._open(spec) for spec in specs]
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[SourceItem]:
        """Yield the pictures. Bounded memory, however many there are."""
        for part in self._parts:
            for relative, item in part:
                yield self._table.describe(item, relative) if self._table and relative else item

    @property
    def skipped(self) -> int:
        """Count the files passed over so far because they are no pictures by name."""
        return sum(part.skipped for part in self._parts)

    def count(self) -> int | None:
        """Count all pictures, by listing names at most; None where that would mean to read everything."""
        total = 0
        for part in self._parts:
            length = part.count()
            if length is None:
                return None
            total += length
        return total

    def close(self) -> None:
        """Stop fetches that wait and delete temporary files."""
        if self._fetcher is not None:
            self._fetcher.close()
        if self._table is not None:
            self._table.close()
        for files in self._web_files:
            files.close()

    def _open_metadata(self, spec: str) -> MetadataTable:
        manifest = Manifest(
            require_manifest(spec, self._listing(spec)),
            column_map=self._options.column_map,
            declared=self._options.fields,
            file_columns=KEY_COLUMNS,
        )
        self._add_fields(manifest)
        return MetadataTable(manifest)

    def _open(self, spec: str) -> _Part:
        if spec.startswith(WEB_SCHEMES):
            return self._open_web(spec)
        self._require_local_files(spec)
        if "\x00" in spec or not spec.strip():
            raise InvalidInput(f"{told_spec(spec)!r} is no source: name a folder, a file, a pattern or an address")
        if has_remote_glob(spec) if is_address(spec) else has_local_glob(spec):
            return self._open_glob(spec)
        files = open_files(spec)
        if not is_address(spec) and spec.lower().endswith(".zip"):
            files.is_folder()
            files = RemoteFiles(f"zip://::{os.path.abspath(files.root)}")  # noqa: PTH100  links stay as they are named
        if files.is_folder():
            return _FolderPart(Folder(files, self._options.max_bytes))
        return self._open_file(files)

    def _open_web(self, url: str) -> _Part:
        self._require_fetching(url)
        name = name_of(url)
        if is_archive(name):
            return _WebArchivePart(self._on_web(url), self._options.max_bytes)
        return self._open_list(self._on_web(url)) or _Listed(partial(self._from_web, [url]), 1)

    def _open_glob(self, spec: str) -> _Part:
        files = open_files(spec)
        if next(iter(files.matches()), None) is None:
            raise InvalidInput(f"the pattern {told_spec(spec)!r} matches no file")
        return _GlobPart(files, self._open, self._options.max_bytes)

    def _open_file(self, files: Files) -> _Part:
        if is_archive(files.root):
            return _ArchivePart(Archive(files, max_bytes=self._options.max_bytes))
        if (part := self._open_list(files)) is not None:
            return part
        folder = Folder(files, self._options.max_bytes)
        entry = files.found(files.root, suffix_of(files.root))
        return _Listed(lambda: iter([folder.single(entry)]), 1)

    def _open_list(self, files: Listing) -> _Part | None:
        """Open a manifest or a list of addresses; None where it is neither by name."""
        name = files.root
        if is_manifest(name):
            manifest = Manifest(
                files,
                column_map=self._options.column_map,
                declared=(*self._options.fields, *self.fields),
                web=self._options.fetch_urls,
            )
            self._add_fields(manifest)
            return _Listed(partial(self._rows, manifest), manifest.rows, close=_closing(files))
        if suffix_of(name) == URL_LIST_SUFFIX:
            urls = UrlList(files)
            self._require_fetching(next(iter(urls), files.uri(name)))
            return _Listed(partial(self._from_web, urls), len(urls), close=_closing(files))
        return None

    def _add_fields(self, manifest: Manifest) -> None:
        known = {field.name for field in self.fields}
        self.fields += tuple(field for field in manifest.fields if field.name not in known)

    def _rows(self, manifest: Manifest) -> Iterator[SourceItem]:
        for row in manifest:
            yield with_description(self._file_of(row.file, manifest.files), row.described)

    def _file_of(self, file: str, manifest_files: Listing) -> SourceItem:
        if file.startswith(WEB_SCHEMES):
            return self._web_item(file)
        if isinstance(manifest_files, WebFiles):  # it may not name files of this machine: the fetcher refuses them
            return self._web_item(manifest_files.beside(file))
        files: Files = RemoteFiles(file) if is_address(file) else manifest_files
        path = files.root if is_address(file) else files.beside(file.removeprefix("file://"))
        return item_of(files.found(path, file), files, self._options.max_bytes)

    def _from_web(self, urls: Sequence[str] | UrlList) -> Iterator[SourceItem]:
        return map(self._web_item, urls)

    def _web_item(self, url: str) -> SourceItem:
        fetcher = self._fetching(url)
        return SourceItem(
            uri=printable_url(url),
            fingerprint=None,
            read=partial(fetcher.fetch, url),
            ask=partial(fetcher.ask, url),
        )

    def _fetching(self, url: str) -> Fetcher:
        if self._fetcher is None:
            self._require_fetching(url)
            self._fetcher = Fetcher(max_bytes=self._options.max_bytes)
        return self._fetcher

    def _on_web(self, url: str) -> WebFiles:
        files = WebFiles(url, fetcher=self._fetching(url), room=self._room)
        self._web_files.append(files)
        return files

    def _listing(self, spec: str) -> Listing:
        if spec.startswith(WEB_SCHEMES):
            return self._on_web(spec)
        self._require_local_files(spec)
        return open_files(spec)

    def _require_local_files(self, spec: str) -> None:
        if not self._options.local_files:
            raise InvalidInput(f"{told_spec(spec)!r} is no http or https address; only those are taken here")

    def _require_fetching(self, url: str) -> None:
        if not self._options.fetch_urls:
            raise InvalidInput(
                f"{told_spec(url)[:200]!r}: addresses on the web are fetched only with --fetch-urls or "
                "PHOSPHENE_FETCH_URLS=true"
            )
