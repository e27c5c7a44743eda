"""Points that the tests of the vector indexes write and ask for, and what a filter means in plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import numpy as np

from phosphene.filters import And, AnyOf, Equals, Exists, Filter, Inside, Not, Or, Range, Within
from phosphene.places import great_circle_m
from phosphene.types import (
    Field,
    FieldKind,
    Float32,
    PixelSpec,
    Place,
    PointId,
    RawEmbeddings,
    Sha256,
    Space,
    UnitEmbeddings,
)
from phosphene.vectors.base import Payload, PayloadValue, VectorQuery
from phosphene.vectors.conditions import utc_text

SPACE = Space("made-for-tests", 64, Sha256("0" * 64), PixelSpec(32))
FIELDS = (
    Field("width", FieldKind.INTEGER),
    Field("category", FieldKind.KEYWORD),
    Field("keywords", FieldKind.KEYWORD),
    Field("year", FieldKind.INTEGER),
    Field("rating", FieldKind.FLOAT),
    Field("public", FieldKind.BOOL),
    Field("taken", FieldKind.DATETIME),
    Field("notes", FieldKind.TEXT),
    Field("place", FieldKind.GEO),
)


PLACES = tuple(
    Place(lat=lat, lon=lon)
    for lat, lon in (
        (52.52, 13.405),
        (52.5, 13.4),
        (48.0, 2.0),
        (0.0, 0.0),
        (-17.7, 178.5),
        (-17.7, -179.5),
        (0.0, 180.0),
        (90.0, 10.0),
        (-90.0, -180.0),
    )
)


def embeddings(count: int, *, seed: int = 0, space: Space = SPACE) -> UnitEmbeddings:
    """(count, d) float32 in clusters, as pictures come: 20 or more to a centre."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(max(1, count // 20), space.dimension))
    rows = centres[random.integers(0, len(centres), count)] + 0.7 * random.normal(size=(count, space.dimension))
    return RawEmbeddings(space, rows.astype(np.float32)).unit()


def numbered(count: int, *, start: int = 1) -> list[PointId]:
    """Ids in ascending order."""
    return [PointId(UUID(int=number)) for number in range(start, start + count)]


def payloads(count: int, *, seed: int = 0) -> list[Payload]:
    """Payloads in which each key is at times missing, null, empty, or a list."""
    random = np.random.default_rng(seed)
    return [_payload(number, random) for number in range(count)]


def _payload(number: int, random: np.random.Generator) -> Payload:
    payload: dict[str, PayloadValue] = {
        "tenant": f"t{number % 3}",
        "asset_id": str(UUID(int=number)),
        "title": f"picture {number % 10}",
        "generated": bool(number % 7 == 0),
        "width": int(random.integers(1, 5000)),
    }
    optional: dict[str, list[PayloadValue]] = {
        "category": ["animals", "people", "", None, []],
        "keywords": [["cat", "dog"], ["cat"], [], None, "cat", ["łódź", "a b"]],
        "year": [1990, 1991, 2024, -5, 0, None],
        "rating": [0.5, 3.25, -1.5, 4, None],
        "public": [True, False, None],
        "taken": ["2024-05-17T12:00:00Z", "2024-05-17", "1999-12-31T23:59:59.5Z", "2024-05-17T12:00:00+02:00", None],
        "notes": ["some words", "", None],
        "place": [*PLACES, None],
    }
    for key, values in optional.items():
        if random.random() < 0.8:
            payload[key] = values[int(random.integers(len(values)))]
    return payload


def matches(source: Filter, payload: Payload) -> bool:
    """Say what a filter means."""
    match source:
        case And():
            return all(matches(part, payload) for part in source.parts)
        case Or():
            return any(matches(part, payload) for part in source.parts)
        case Not():
            return not matches(source.part, payload)
        case Exists():
            return payload.get(source.field) not in (None, [])
        case Equals():
            return any(_same(value, source.value) for value in _values(payload, source.field))
        case AnyOf():
            return any(_same(value, asked) for value in _values(payload, source.field) for asked in source.values)
        case Range():
            return any(_within(value, source) for value in _values(payload, source.field))
        case Within() | Inside():
            place = payload.get(source.field)
            return isinstance(place, dict) and _there(place, source)


def _there(place: Place, source: Within | Inside) -> bool:
    if isinstance(source, Within):
        return great_circle_m(place, Place(lat=source.lat, lon=source.lon)) <= source.radius_m
    if not source.south <= place["lat"] <= source.north:
        return False
    west, east, lon = source.west, source.east, place["lon"]
    return west <= lon <= east if west <= east else lon >= west or lon <= east


def _values(payload: Payload, field: str) -> Sequence[PayloadValue]:
    value = payload.get(field, False if field == "generated" else None)  # points from before that field lack it
    return value if isinstance(value, list) else [value]


def _same(value: PayloadValue, asked: str | float) -> bool:
    return value is not None and isinstance(value, str) == isinstance(asked, str) and value == asked


def _within(value: PayloadValue, source: Range) -> bool:
    bounds: Mapping[str, float | str | None] = {name: getattr(source, name) for name in ("gte", "gt", "lte", "lt")}
    asked = {name: comparable(bound) for name, bound in bounds.items() if bound is not None}
    if not isinstance(value, str | int | float) or (
        any(isinstance(value, str) != isinstance(b, str) for b in bounds.values() if b is not None)
    ):
        return False
    own = comparable(value)
    return (
        own >= asked.get("gte", own)
        and own <= asked.get("lte", own)
        and ("gt" not in asked or own > asked["gt"])
        and ("lt" not in asked or own < asked["lt"])
    )


def comparable(value: float | str) -> float:
    """Give a number, or the seconds of a date."""
    return datetime.fromisoformat(utc_text(value)).timestamp() if isinstance(value, str) else value


def ask(vector: Float32, limit: int = 10, *, where: Filter | None = None, exact: bool = False) -> VectorQuery:
    """Make a query."""
    return VectorQuery(vector, limit, filter=where, exact=exact)


def nearest_by_numpy(rows: Float32, vector: Float32, limit: int) -> list[int]:
    """Row numbers by cosine, best first, ties by number."""
    return [int(number) for number in np.argsort(-(rows @ vector), kind="stable")[:limit]]
