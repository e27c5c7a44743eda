"""What every engine checks before it writes or asks anything, so that all refuse the same input in the same words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from phosphene.errors import InvalidInput, InvalidQuery, SpaceMismatch
from phosphene.places import place_of
from phosphene.types import Field, FieldKind, Float32, Place, PointId, Space, UnitEmbeddings
from phosphene.vectors.base import Payload, PayloadValue, VectorQuery, WordQuery
from phosphene.vectors.conditions import INT64, stored_place

TENANT = "tenant"
# Reserved keys that code filters on; they are indexed in every collection, the tenant as such.
RESERVED_FIELDS = (Field("asset_id", FieldKind.KEYWORD), Field("generated", FieldKind.BOOL))

_UNIT_TOLERANCE = 1e-3

CheckedPoint = tuple[PointId, Float32, dict[str, PayloadValue]]


def indexed_fields(fields: Sequence[Field]) -> list[Field]:
    """List the payload indexes that filters on fields need: a place has two more, of its degrees, for boxes."""
    degrees = [
        Field(f"{field.name}.{side}", FieldKind.FLOAT)
        for field in fields
        if field.kind is FieldKind.GEO
        for side in ("lat", "lon")
    ]
    return [*fields, *degrees]


def checked_points(
    space: Space, ids: Sequence[PointId], embeddings: UnitEmbeddings, payloads: Sequence[Payload]
) -> list[CheckedPoint]:
    """Pair ids, rows and payloads; of two points with one id the later stays.

    Raises SpaceMismatch or InvalidInput.
    """
    if embeddings.space.id != space.id:
        raise SpaceMismatch(
            f"embeddings of {embeddings.space.id} can't go into the index of {space.id}: embed with {space.model!r}"
        )
    if not len(ids) == len(embeddings) == len(payloads):
        raise InvalidInput(
            f"{len(ids)} ids, {len(embeddings)} embeddings and {len(payloads)} payloads: give as many of each"
        )
    points = zip(ids, np.ascontiguousarray(embeddings.rows), map(checked_payload, payloads), strict=True)
    return list({point[0]: point for point in points}.values())


def checked_payload(payload: Payload) -> dict[str, PayloadValue]:
    """Copy a payload with bools as 0 and 1. Raises InvalidInput on what can't be stored and found again."""
    return {key: _checked_value(key, value) for key, value in payload.items()}


def _checked_value(key: str, value: PayloadValue) -> PayloadValue:
    if isinstance(value, dict):
        return _checked_place(key, value)
    if isinstance(value, list):
        for element in value:
            if not isinstance(element, str):
                raise InvalidInput(f"payload key {key!r} has a list with {element!r}: lists hold text only")
            _check_text(key, element)
        return value
    if isinstance(value, str):
        return _check_text(key, value)
    if isinstance(value, int):  # bool too: the embedded engine finds no bools
        if int(value) not in INT64:
            raise InvalidInput(f"payload key {key!r} has {value}, which is beyond 64 bits")
        return int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"payload key {key!r} has {value}, which is not a finite number")
    return value


def _checked_place(key: str, value: object) -> Place:
    try:
        place = place_of(value)
    except ValueError as error:
        raise InvalidInput(f"payload key {key!r}: {error}") from error
    if place is None:
        raise InvalidInput(f"payload key {key!r} has {value!r}: the only objects are places with lat and lon")
    return stored_place(place)


def _check_text(key: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"payload key {key!r} has {value!r}, which is not valid Unicode") from error
    return value


def check_query(space: Space, query: VectorQuery) -> None:
    """Raise SpaceMismatch on another dimension, InvalidQuery on no unit vector or a limit below 1."""
    vector = query.vector
    if vector.ndim != 1 or len(vector) != space.dimension:
        raise SpaceMismatch(f"queries of {space.id} have shape ({space.dimension},), not {vector.shape}")
    if vector.dtype != np.float32:
        raise InvalidQuery(f"queries are float32, not {vector.dtype}")
    if not abs(float(np.linalg.norm(vector)) - 1) <= _UNIT_TOLERANCE:  # false for NaN too
        raise InvalidQuery("a query is a finite vector of length 1; call RawEmbeddings.unit() first")
    if query.limit < 1:
        raise InvalidQuery(f"limit is at least 1, not {query.limit}")


def check_words(query: WordQuery) -> None:
    """Raise InvalidQuery where no words are asked for, what is asked is no single word, or on a limit below 1."""
    if not query.words:
        raise InvalidQuery("there are no words to look up")
    for word in query.words:
        if not word or word.split() != [word]:
            raise InvalidQuery(f"{word!r} is not one word")
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise InvalidQuery(f"{word!r} is not valid Unicode") from error
    if query.limit < 1:
        raise InvalidQuery(f"limit is at least 1, not {query.limit}")
