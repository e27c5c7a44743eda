"""What a web server said to know a picture by, to ask it whether that changed since (RFC 9110, section 8.8).

Kept in the catalogue as the fingerprint of the place. It holds for the address at the end of the redirects and is sent
to no other: what one address calls "1" says nothing about another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Self

# Quoted, as it must be: a bare * in If-None-Match would mean any picture at all, a comma several names.
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{1,500}"')
_SURE_AFTER = timedelta(seconds=1)  # a picture may change twice within the second that Last-Modified tells


@dataclass(frozen=True, slots=True)
class Validators:
    """An ETag or, where there is none, a time of change, each as the server wrote it."""

    address: str  # sha256 of it in hex digits: addresses at the end of redirects can hold secrets
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, address: str, headers: Mapping[str, str]) -> Self | None:
        """Read an answer; None where it says nothing that can be relied on."""
        etag = headers.get("etag", "").strip()
        if _ETAG.fullmatch(etag):
            return cls(_digest(address), etag, None)
        modified = headers.get("last-modified", "").strip()
        changed, sent = _time(modified), _time(headers.get("date", ""))
        if changed is None or sent is None or sent - changed < _SURE_AFTER:
            return None
        return cls(_digest(address), None, modified)

    @classmethod
    def parse(cls, fingerprint: str | None) -> Self | None:
        """Read back what `fingerprint` wrote; None where that place was something else then."""
        try:
            return cls(**json.loads(fingerprint or ""))
        except (ValueError, TypeError):
            return None

    @property
    def fingerprint(self) -> str:
        """Write it for the catalogue."""
        return json.dumps(asdict(self))

    def conditions(self, address: str) -> dict[str, str]:
        """Give the headers that ask that address for a changed picture only; none for another address."""
        if _digest(address) != self.address:
            return {}
        # Never both: some servers look at the time alone, and one that was set back would pass for the old picture.
        if self.etag is not None:
            return {"If-None-Match": self.etag}
        return {} if self.modified is None else {"If-Modified-Since": self.modified}


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()


def _time(header: str) -> datetime | None:
    """Read an HTTP date, which always is in GMT."""
    try:
        time = parsedate_to_datetime(header)
    except ValueError:
        return None
    return None if time.tzinfo is None or not header.isascii() or len(header) > 64 else time
