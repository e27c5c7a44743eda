"""What a picture says: its title, its fields that hold words or whole numbers, and the names of its files."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from phosphene.catalog.records import Asset
from phosphene.words.tokens import words_in

MOST_WORDS = 1000  # of one picture
MOST_NAMES = 20  # of its files
_NAMELESS = ("upload:", "generation:")


def words_of(asset: Asset, uris: Sequence[str]) -> str:
    """Give the words that a picture is found by, with spaces between them; empty where it has none.

    Of the metadata text, lists and whole numbers count; `uris` are the places where it lies.
    """
    said: list[str] = [] if asset.title is None else [asset.title]
    for _, value in sorted(asset.metadata.items()):
        if isinstance(value, list):
            said += value
        elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            said.append(str(value))
    names = sorted({stem for uri in uris if (stem := file_stem(uri))})
    found: list[str] = []
    for text in [*said, *names[:MOST_NAMES]]:
        if len(found) < MOST_WORDS:
            found += words_in(text)
    return " ".join(found[:MOST_WORDS])


def file_stem(uri: str) -> str:
    """Give the name of a file without its suffix; empty where the place says none."""
    if uri.startswith(_NAMELESS):
        return ""
    # zip://member::archive names the member first, archive.tar::member last.
    path = uri.partition("::")[0].partition("?")[0] if "://" in uri else uri.rpartition("::")[2]
    name = posixpath.basename(path.rstrip("/"))
    return posixpath.splitext(name)[0] or name
