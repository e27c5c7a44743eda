"""Every error that Phosphene raises on purpose.

PhospheneError
├── InvalidInput            the caller can mend it
│   ├── InvalidQuery          empty text, wrong vector size, nothing to ask for
│   ├── InvalidFilter         unknown field, wrong type of value
│   ├── InvalidCursor         not ours, or of another query
│   ├── InvalidManifest       a manifest, column map or archive that can't be read
│   ├── InvalidSettings       settings that contradict each other
│   └── SpaceMismatch         embeddings of two encoders were about to be compared
├── PictureError            one picture can't be used; `code` says why
├── NotFound                no such asset, ingest, blob, file or collection
├── DataFolderInUse         another process holds the embedded data folder
├── ModelError              a model can't be loaded
│   ├── ModelNotFound         not cached, and no network
│   └── UnsafeWeights         a pickle, or weights that aren't those expected
├── Forbidden               no key, a wrong key, or not for this caller
│   └── Blocked               the guard rails refuse to imagine this
├── Unavailable             a store or broker doesn't answer now; try again
│   └── Overloaded            the queue is full; try again after `retry_after_s`
├── Outdated                it was changed since the caller read it
├── Cancelled               whoever asked for the work asked to stop it
└── DamagedData             what is stored contradicts itself; `phosphene verify --repair`

A message says what was wrong, with the offending value, and what to do. No class knows of HTTP: search_api/problems.py
has the one table that maps them to a status.
"""

from __future__ import annotations

import re
from enum import StrEnum

_LONGEST = 2000  # characters of a message
_DIGITS = 20  # shown of a number that is longer than any that means something
_LONG_NUMBER = re.compile(r"\d{40,}")


def told(message: str) -> str:
    """Shorten what a message repeats of its input: numbers of forty digits and more, and what goes on for pages."""
    said = _LONG_NUMBER.sub(lambda number: f"{number[0][:_DIGITS]}… ({len(number[0]):,} digits)", message)
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…"


class PhospheneError(Exception):
    """Root of the tree."""

    def __str__(self) -> str:
        """Give the message, shortened where it repeats more than helps."""
        return told(super().__str__())


class InvalidInput(PhospheneError):
    """The caller sent something that can't be used."""


class InvalidQuery(InvalidInput):
    """A question that can't be asked."""


class InvalidFilter(InvalidInput):
    """A filter on an unknown field or with a value of the wrong type."""


class InvalidCursor(InvalidInput):
    """A cursor that we did not give out, or of another query."""


class InvalidManifest(InvalidInput):
    """A manifest, column map or archive that can't be read."""


class InvalidSettings(InvalidInput):
    """Settings that are wrong or contradict each other."""


class SpaceMismatch(InvalidInput):
    """Two embeddings of different spaces were about to be compared."""


class PictureFault(StrEnum):
    """Why a picture can't be used; stored with it in quarantine."""

    EMPTY = "empty"
    NOT_A_PICTURE = "not_a_picture"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    BROKEN = "broken"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_BYTES = "too_many_bytes"
    DECODER_DIED = "decoder_died"
    DECODER_TIMED_OUT = "decoder_timed_out"
    UNREADABLE = "unreadable"
    EMBEDDING_FAILED = "embedding_failed"
    BAD_METADATA = "bad_metadata"


class PictureError(PhospheneError):
    """One picture can't be used; its neighbours can."""

    def __init__(self, fault: PictureFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault

    def __reduce__(self) -> tuple[type[PictureError], tuple[PictureFault, str]]:
        """Cross process borders with both arguments."""
        return type(self), (self.fault, str(self))


class NotFound(PhospheneError):
    """No such thing."""


class DataFolderInUse(PhospheneError):
    """Another process holds the embedded data folder."""


class ModelError(PhospheneError):
    """A model can't be loaded."""


class ModelNotFound(ModelError):
    """A model that is neither here nor to be had."""


class UnsafeWeights(ModelError):
    """Weights that are a pickle, or not those that were expected."""


class Forbidden(PhospheneError):
    """No key, a wrong key, or not for this caller."""


class Blocked(Forbidden):
    """The guard rails refuse to imagine this."""


class Unavailable(PhospheneError):
    """A store or broker doesn't answer now; the same call may work later."""


class Overloaded(Unavailable):
    """A queue is full."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Outdated(PhospheneError):
    """Somebody changed it since the caller read it; read again and decide anew."""


class Cancelled(PhospheneError):
    """Work that was stopped because its caller asked for that."""


class DamagedData(PhospheneError):
    """What is stored contradicts itself."""
