"""Filters in the normal form that both engines take: an allow-list of seven conditions, each mapped one to one.

Whatever is not in this list can't reach an engine. Values are checked here, so that both refuse the same ones:
bools are asked as the 0 and 1 they are stored as, dates as UTC, and keys are plain names, never JSON paths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from phosphene.errors import InvalidFilter
from phosphene.filters import And, AnyOf, Equals, Exists, Filter, Inside, Not, Or, Range, Scalar, Within
from phosphene.types import FIELD_NAME, Place

WORDS = "_words"  # a picture's words with spaces between them: no name of a field, so that none can be in its way
_GENERATED = "generated"
INT64 = range(-(2**63), 2**63)
_POLE = 89.9999999  # 1 cm from it: the geo index of the engines loses the poles themselves


@dataclass(frozen=True, slots=True)
class Match:
    """The field, or one element of it, is one of these values; there is at least one."""

    key: str
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """The field is a number within bounds."""

    key: str
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None


@dataclass(frozen=True, slots=True)
class During:
    """The field is a date within bounds, which are RFC 3339 in UTC."""

    key: str
    gte: str | None = None
    gt: str | None = None
    lte: str | None = None
    lt: str | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """The field is a place at most so many metres away."""

    key: str
    lat: float
    lon: float
    radius_m: float


@dataclass(frozen=True, slots=True)
class Empty:
    """The field is missing, null or an empty list."""

    key: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No point at all: engines read an empty `should` as 'all', so that nothing has to be said."""


@dataclass(frozen=True, slots=True)
class Group:
    """All of `must`, one of `should` if there are any, none of `must_not`; never all three empty."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()


Condition = Match | Between | During | Around | Empty | Nowhere | Group

_ALL = Group(must_not=(Nowhere(),))


def conditions_of(source: Filter) -> Group:
    """Bring a filter into the normal form. Raises InvalidFilter on a key or value that no engine can take."""
    condition = _condition(source)
    return condition if isinstance(condition, Group) else Group(must=(condition,))


def utc_text(value: str) -> str:
    """Write an ISO 8601 date as RFC 3339 in UTC, which both engines read; without an offset it is taken as UTC.

    Raises ValueError where it is no date.
    """
    moment = datetime.fromisoformat(value)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat().replace("+00:00", "Z")


def stored_place(place: Place) -> Place:
    """Give a place as engines keep it: never on a pole, which is moved by 1 cm."""
    return Place(lat=max(-_POLE, min(_POLE, place["lat"])), lon=place["lon"])


def _condition(source: Filter) -> Condition:  # noqa: PLR0911  one for each kind
    match source:
        case Equals():
            return _any_of(_key(source.field), (source.value,))
        case AnyOf():
            return _any_of(_key(source.field), source.values)
        case Range():
            return _range(source)
        case Exists():
            return _ALL if source.field == _GENERATED else Group(must_not=(Empty(_key(source.field)),))
        case Within():
            return _around(source)
        case Inside():
            return _inside(source)
        case And():
            return Group(must=tuple(map(_condition, source.parts))) if source.parts else _ALL
        case Or():
            return Group(should=tuple(map(_condition, source.parts))) if source.parts else Nowhere()
        case Not():
            return Group(must_not=(_condition(source.part),))


def _key(name: str) -> str:
    if FIELD_NAME.fullmatch(name) is None and name != WORDS:
        raise InvalidFilter(f"{name!r} is not the name of a field: names match {FIELD_NAME.pattern}")
    return name


def _any_of(key: str, values: Sequence[Scalar]) -> Condition:
    if key == _GENERATED:
        return _is_generated(values)
    words = tuple(_encodable(value) for value in values if isinstance(value, str))
    whole = tuple(_int64(int(value)) for value in values if isinstance(value, int))
    parts: list[Condition] = [Match(key, part) for part in (words, whole) if part]
    parts += [Between(key, gte=_finite(value), lte=value) for value in values if isinstance(value, float)]
    if not parts:
        return Nowhere()
    return parts[0] if len(parts) == 1 else Group(should=tuple(parts))


def _is_generated(values: Sequence[Scalar]) -> Condition:
    """Take a point that does not say for one that is not: points are older than the field."""
    yes = Match(_GENERATED, (1,))
    match (1 in values, 0 in values):  # True is 1
        case (True, True):
            return _ALL
        case (True, False):
            return yes
        case (False, True):
            return Group(must_not=(yes,))
        case _:
            return Nowhere()


def _range(source: Range) -> Condition:
    key = _key(source.field)
    named = {"gte": source.gte, "gt": source.gt, "lte": source.lte, "lt": source.lt}
    bounds = {name: bound for name, bound in named.items() if bound is not None}
    if not bounds:
        raise InvalidFilter(f"the range on {key!r} has no bound: give gte, gt, lte or lt")
    dates = {name: bound for name, bound in bounds.items() if isinstance(bound, str)}
    if not dates:
        return Between(key, **{name: _finite(bound) for name, bound in bounds.items() if not isinstance(bound, str)})
    if len(dates) < len(bounds):
        raise InvalidFilter(f"the range on {key!r} mixes dates and numbers: {bounds}")
    try:
        return During(key, **{name: utc_text(bound) for name, bound in dates.items()})
    except (ValueError, OverflowError) as error:
        raise InvalidFilter(f"the range on {key!r} has a bound that is no date: {dates}") from error


def _around(source: Within) -> Condition:
    centre = stored_place(Place(lat=_finite(source.lat), lon=_finite(source.lon)))
    return Around(_key(source.field), centre["lat"], centre["lon"], _finite(source.radius_m))


def _inside(source: Inside) -> Condition:
    """Bound latitude and longitude each: boxes of engines leave out their edges, and the index all of the 180th."""
    key = _key(source.field)
    south, north = (stored_place(Place(lat=_finite(side), lon=0.0))["lat"] for side in (source.south, source.north))
    west, east = _finite(source.west), _finite(source.east)
    across = Between(f"{key}.lat", gte=south, lte=north)
    if west <= east:
        return Group(must=(across, Between(f"{key}.lon", gte=west, lte=east)))
    return Group(must=(across, Group(should=(Between(f"{key}.lon", gte=west), Between(f"{key}.lon", lte=east)))))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise InvalidFilter(f"{value} can't be compared with: give a finite number")
    return float(value)


def _int64(value: int) -> int:
    if value not in INT64:
        raise InvalidFilter(f"{value} is beyond 64 bits")
    return value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidFilter(f"{value!r} is not valid Unicode") from error
    return value
