"""Text and metadata as every database keeps them, and their digest."""

from __future__ import annotations

import hashlib
import json
import math

from phosphene.types import FieldValue, Metadata


def storable(text: str) -> str:
    """Give text that every database takes: no NUL (PostgreSQL has none), no lone surrogates (from odd file names)."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode("utf-8")


def storable_metadata(metadata: Metadata) -> Metadata:
    """Make all strings storable, and all numbers such that they come back the same from every database.

    NaN and infinity, which JSON lacks, become null; integers beyond 64 bits become floats.
    """
    return {storable(name): _storable_value(value) for name, value in metadata.items()}


def _storable_value(value: FieldValue) -> FieldValue:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [storable(part) for part in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _storable_number(value)
    return value


def _storable_number(value: float) -> float | None:
    """Take account of PostgreSQL, which has no -0.0 and writes large floats out as integers."""
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    try:
        value = float(value) + 0.0
    except OverflowError:
        return None
    if not math.isfinite(value):
        return None
    return int(value) if 2**53 <= abs(value) < 2**63 else value


def metadata_digest(title: str | None, metadata: Metadata) -> str:
    """Digest what a source says about a picture: equal digests mean nothing to update."""
    said = [None if title is None else storable(title), storable_metadata(metadata)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
