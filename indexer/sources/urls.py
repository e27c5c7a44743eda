"""Lists of addresses: a text file with one http(s) address a line; blank lines and # comments are passed over."""

from __future__ import annotations

import io
from collections.abc import Iterator

from indexer.sources.items import WEB_SCHEMES
from indexer.sources.manifest import Listing
from phosphene.addresses import told
from phosphene.errors import InvalidManifest

_MAX_LINE = 64 * 1024  # characters


class UrlList:
    """A list that was checked line by line. Iterates over the file, so its length does not matter."""

    def __init__(self, files: Listing) -> None:
        """Raise InvalidManifest with the line that is no address."""
        self._files = files
        self._length = sum(1 for _ in self)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        """Yield the addresses."""
        name = told(self._files.uri(self._files.root))
        with self._files.open(self._files.root) as binary:
            lines = io.TextIOWrapper(binary, encoding="utf-8-sig")
            number = 0
            try:
                while line := lines.readline(_MAX_LINE + 1):
                    number += 1
                    if len(line) > _MAX_LINE:
                        raise InvalidManifest(f"{name}: line {number} is longer than {_MAX_LINE:,} characters")
                    url = line.strip()
                    if not url or url.startswith("#"):
                        continue
                    if not url.startswith(WEB_SCHEMES):
                        raise InvalidManifest(f"{name}: line {number}: {told(url)[:100]!r} is no http or https address")
                    yield url
            except UnicodeDecodeError as error:
                raise InvalidManifest(f"{name}: line {number + 1}: is not UTF-8: {error}") from error
