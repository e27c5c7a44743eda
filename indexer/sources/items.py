"""What every source yields, and the suffixes that decide what a file is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NoReturn

from phosphene.addresses import kept, told
from phosphene.errors import PictureError, PictureFault
from phosphene.types import Field, Metadata

PICTURE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .tif .tiff .bmp .avif".split()  # noqa: SIM905  a list of 11 strings reads worse
)
# Pictures by name that no decoder here reads: listed in quarantine with what to do, not passed over in silence.
UNREAD_SUFFIXES = frozenset(".heic .heif .jxl .jp2 .psd .svg .eps".split())  # noqa: SIM905  the same
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
URL_LIST_SUFFIX = ".txt"
WEB_SCHEMES = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source gives that was asked for a picture: its bytes, None where they are still those of last time."""

    data: bytes | None
    fingerprint: str | None  # of what is there now


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One picture to be: where it is, how to get its bytes, what was said about it.

    Equal fingerprints mean surely the same bytes. `title` is None and `metadata` is empty where nothing was said; what
    the catalogue knows already then stays. `read` raises PictureError where this one picture can't be had, and may be
    called from any thread. `size` is in bytes, as far as known before reading.

    `ask` is there where a fingerprint comes only with the bytes: it takes the one of last time, if any, and spares the
    bytes where that still holds. It raises as `read` does.
    """

    uri: str
    fingerprint: str | None
    read: Callable[[], bytes]
    title: str | None = None
    metadata: Metadata = field(default_factory=dict)
    size: int | None = None
    ask: Callable[[str | None], Answer] | None = None


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are read.

    `metadata` is a manifest joined to a folder by file name. `column_map` gives the manifest column for "file",
    "title" or a field name. `fields` are those declared already: values that contradict them are refused.
    """

    metadata: str | None = None
    column_map: Mapping[str, str] = field(default_factory=dict)
    fetch_urls: bool = False
    local_files: bool = True  # False: http(s) addresses only, for callers who may not read this machine's files
    max_bytes: int = 64 * 2**20
    max_download_bytes: int = 4 * 2**30  # of all manifests, lists and archives on the web that are kept at a time
    fields: Sequence[Field] = ()


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file in a folder. `path` opens it, `uri` names it for people and the catalogue."""

    path: str
    uri: str
    relative: str  # to the folder that was asked for, with slashes
    size: int | None
    fingerprint: str | None


def suffix_of(name: str) -> str:
    """Give the last suffix in lower case, with its dot: ".jpg"; "" where there is none."""
    return PurePosixPath(name).suffix.lower()


def is_picture(name: str) -> bool:
    """Tell by its name whether a file is a picture that can be read."""
    return suffix_of(name) in PICTURE_SUFFIXES


def is_hidden(relative: str) -> bool:
    """Tell whether a name or a folder on the way starts with a dot, or is what macOS leaves in archives."""
    return any(
        part.startswith(".") or part == "__MACOSX" for part in relative.split("/") if part not in ("", ".", "..")
    )


def printable(path: str) -> str:
    """Make a path fit for a database and a terminal: bytes that are no UTF-8 become backslash escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\x00", "\\x00")


def printable_url(url: str) -> str:
    """Make a web address fit for the same, as the catalogue keeps it."""
    return kept(printable(url))


def told_spec(spec: str) -> str:
    """Make what was named as a source fit for an error."""
    return told(printable(spec))


def unreadable(uri: str, reason: str, fault: PictureFault = PictureFault.UNREADABLE) -> SourceItem:
    """Make an item whose bytes can't be had, so that it ends in quarantine with its reason."""

    def read() -> NoReturn:
        raise PictureError(fault, reason)

    return SourceItem(uri=uri, fingerprint=None, read=read)


def unread_format(uri: str) -> SourceItem:
    """Make the item for a picture of a format that is not read here."""
    kind = suffix_of(uri).removeprefix(".").upper()
    return unreadable(uri, f"{kind} is not read; convert it to JPEG or PNG", PictureFault.UNSUPPORTED_FORMAT)
