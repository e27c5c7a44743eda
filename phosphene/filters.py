"""Filters on metadata: one small language for HTTP, the command line and both vector engines.

As JSON: {"field": "year", "gte": 1990}, {"field": "category", "equals": "animals"}, {"field": "keywords", "any_of":
["cat", "dog"]}, {"field": "creator", "exists": true}; {"colour": "#ff8800", "tolerance": 0.1} of palettes; of places
{"field": "place", "within": {"lat": 52.52, "lon": 13.4, "radius_m": 5000}},
{"field": "place", "box": {"south": 47.2, "west": 5.8, "north": 55.1, "east": 15.1}};
and {"and": [...]}, {"or": [...]}, {"not": {...}} around them.
Terms of the command line are read by phosphene.filter_terms.

A field that is a list (keywords) matches when one of its values does.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from phosphene.errors import InvalidFilter
from phosphene.oklab import COLOUR_NAMES, MAX_TOLERANCE, hex_of, rgb_of, steps_within
from phosphene.places import HALF_ROUND_M, place_at
from phosphene.types import Field, FieldKind, Place, TenantId

Scalar = str | int | float | bool

MAX_DEPTH = 8
MAX_CONDITIONS = 256
MAX_VALUES = 1000
MAX_VALUES_IN_ALL = 10_000
MAX_LENGTH = 10_000  # characters of a value: fields hold no longer ones
COLOUR_TOLERANCE = 0.1  # OKLab distance, where none is said: other shades of the same colour, not its neighbours


@dataclass(frozen=True, slots=True)
class Equals:
    """The field has this value."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class NearColour:
    """A colour, and how far others may be from it."""

    colour: str  # "#ff8800"
    tolerance: float  # OKLab distance


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field has one of these values. `colour` is what was asked for, where they are the steps around a colour."""

    field: str
    values: tuple[Scalar, ...]
    colour: NearColour | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """The field lies between bounds: numbers, or ISO 8601 dates."""

    field: str
    gte: float | str | None = None
    gt: float | str | None = None
    lte: float | str | None = None
    lt: float | str | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has a value that is not null and not an empty list."""

    field: str


@dataclass(frozen=True, slots=True)
class Within:
    """The place is at most so many metres away, over the ground (phosphene.places.great_circle_m)."""

    field: str
    lat: float  # degrees
    lon: float
    radius_m: float  # > 0


@dataclass(frozen=True, slots=True)
class Inside:
    """The place is in a box of degrees, its edges included; one with west > east goes over the 180th meridian."""

    field: str
    south: float
    west: float
    north: float
    east: float


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of them at least."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Not this."""

    part: Filter


Filter = Equals | AnyOf | Range | Exists | Within | Inside | And | Or | Not

_LOOKED_AT = 100  # characters of a name that is unknown
_BOUNDS = ("gte", "gt", "lte", "lt")
SIDES = ("south", "west", "north", "east")
_CIRCLE = ("lat", "lon", "radius_m")
_GRAMMAR = (
    'write {"field": NAME, "equals" | "any_of" | "gte" | "gt" | "lte" | "lt" | "exists" | "within" | "box": …} '
    'or {"colour": "#ff8800", "tolerance": 0.1} or {"and" | "or" | "not": …}'
)


def tenant_filter(tenant: TenantId, asked: Filter | None) -> Filter:
    """Restrict a filter to a tenant's pictures. Every query of the index gets its filter here."""
    own = Equals("tenant", tenant)
    return own if asked is None else And((own, asked))


def fields_of(parsed: Filter) -> frozenset[str]:
    """Name the fields that a filter asks about."""
    match parsed:
        case And(parts) | Or(parts):
            return frozenset().union(*map(fields_of, parts))
        case Not(part):
            return fields_of(part)
        case _:
            return frozenset((parsed.field,))


def without_field(parsed: Filter | None, name: str) -> Filter | None:
    """Leave out those conditions, of all that must hold, that ask about this field alone."""
    if parsed is None or fields_of(parsed) == {name}:
        return None
    if not isinstance(parsed, And):
        return parsed
    kept = [part for part in (without_field(one, name) for one in parsed.parts) if part is not None]
    return And(tuple(kept)) if kept else None


def parse_filter(source: object, fields: Sequence[Field]) -> Filter:
    """Read a filter from its JSON form and check it against the declared fields.

    Raises InvalidFilter, which names the part that is wrong and the fields there are.
    """
    parsed = _parse(source, {field.name: field for field in fields}, 0, [MAX_CONDITIONS])
    if (values := _values_in(parsed)) > MAX_VALUES_IN_ALL:
        msg = f"a filter has at most {MAX_VALUES_IN_ALL:,} values in all, not {values:,}"
        raise InvalidFilter(msg)
    return parsed


def _values_in(parsed: Filter) -> int:
    match parsed:
        case And(parts) | Or(parts):
            return sum(map(_values_in, parts))
        case Not(part):
            return _values_in(part)
        case AnyOf(_, values):
            return len(values)
        case _:
            return 1


def _parse(source: object, fields: Mapping[str, Field], depth: int, budget: list[int]) -> Filter:
    if depth > MAX_DEPTH:
        msg = f"filters nest at most {MAX_DEPTH} deep"
        raise InvalidFilter(msg)
    budget[0] -= 1
    if budget[0] < 0:
        msg = f"a filter has at most {MAX_CONDITIONS} conditions"
        raise InvalidFilter(msg)
    if not isinstance(source, Mapping):
        msg = f"a filter is an object, not {_show(source)}: {_GRAMMAR}"
        raise InvalidFilter(msg)
    keys = set(source)
    if keys in ({"and"}, {"or"}):
        word = next(iter(keys))
        parts = source[word]
        if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
            msg = f'"{word}" takes a list of filters, not {_show(parts)}'
            raise InvalidFilter(msg)
        parsed = tuple(_parse(part, fields, depth + 1, budget) for part in parts)
        return And(parsed) if word == "and" else Or(parsed)
    if keys == {"not"}:
        return Not(_parse(source["not"], fields, depth + 1, budget))
    if "colour" in keys and keys <= {"colour", "tolerance"}:
        return _parse_colour(source, fields)
    return _parse_condition(source, fields)


def _parse_colour(source: Mapping[str, object], fields: Mapping[str, Field]) -> Filter:
    """Ask for pictures with a colour near this one among those of their palette."""
    field = declared("palette", fields)
    colour, tolerance = source["colour"], source.get("tolerance", COLOUR_TOLERANCE)
    if not isinstance(colour, str):
        msg = f'"colour" is written like "#ff8800", not {_show(colour)}'
        raise InvalidFilter(msg)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float):
        msg = f'"tolerance" is a number from 0 to {MAX_TOLERANCE}, not {_show(tolerance)}'
        raise InvalidFilter(msg)
    try:
        asked = NearColour(hex_of(rgb_of(colour)), float(tolerance))
        return AnyOf(field.name, steps_within(asked.colour, asked.tolerance), asked)
    except (ValueError, OverflowError) as error:
        named = f'; by name ask {{"field": "colours", "equals": {_show(colour)}}}' if colour in COLOUR_NAMES else ""
        msg = f"{error}{named}"
        raise InvalidFilter(msg) from error


def _parse_condition(source: Mapping[str, object], fields: Mapping[str, Field]) -> Filter:
    name = source.get("field")
    if not isinstance(name, str):
        msg = f"{_show(dict(source))} is not a filter: {_GRAMMAR}"
        raise InvalidFilter(msg)
    field = declared(name, fields)
    operators = {key: value for key, value in source.items() if key != "field"}
    names = set(operators)
    if names == {"equals"}:
        return Equals(name, _scalar(operators["equals"], field))
    if names == {"any_of"}:
        values = operators["any_of"]
        if not isinstance(values, list) or not 0 < len(values) <= MAX_VALUES:
            msg = f'"any_of" takes a list of 1 to {MAX_VALUES} values, not {_show(values)}'
            raise InvalidFilter(msg)
        return AnyOf(name, tuple(_scalar(value, field) for value in values))
    if names == {"exists"} and isinstance(operators["exists"], bool):
        return Exists(name) if operators["exists"] else Not(Exists(name))
    if names in ({"within"}, {"box"}):
        return _area(field, operators)
    if names and names <= set(_BOUNDS):
        return Range(name, **{key: _bound(value, field) for key, value in operators.items()})
    msg = f"the condition on {name!r} has {sorted(names) or 'no operator'}: {_GRAMMAR}"
    raise InvalidFilter(msg)


def _area(field: Field, operators: Mapping[str, object]) -> Filter:
    """Read a circle or a box. Raises InvalidFilter."""
    ((operator, source),) = operators.items()
    if field.kind is not FieldKind.GEO:
        msg = f"{field.name!r} holds {field.kind} values, not places: {operator!r} asks for places"
        raise InvalidFilter(msg)
    wanted = _CIRCLE if operator == "within" else SIDES
    if not isinstance(source, Mapping) or set(source) != set(wanted):
        msg = f'"{operator}" takes an object of {", ".join(wanted)}, not {_show(source)}'
        raise InvalidFilter(msg)
    if operator == "within":
        radius = source["radius_m"]
        if isinstance(radius, bool) or not isinstance(radius, int | float) or not 0 < radius <= HALF_ROUND_M:
            msg = f"radius_m is a number of metres above 0 and up to {HALF_ROUND_M:,}, not {_show(radius)}"
            raise InvalidFilter(msg)
        place = _corner(source["lat"], source["lon"], field)
        return Within(field.name, place["lat"], place["lon"], float(radius))
    lower, upper = (_corner(source[one], source[two], field) for one, two in (("south", "west"), ("north", "east")))
    if lower["lat"] > upper["lat"]:
        msg = f"the box of {field.name!r} has its south ({lower['lat']}) north of its north ({upper['lat']})"
        raise InvalidFilter(msg)
    return Inside(field.name, lower["lat"], lower["lon"], upper["lat"], upper["lon"])


def _corner(latitude: object, longitude: object, field: Field) -> Place:
    if isinstance(latitude, str) or isinstance(longitude, str):
        msg = f"{field.name!r}: degrees are numbers, not {_show([latitude, longitude])}"
        raise InvalidFilter(msg)
    try:
        return place_at(latitude, longitude)
    except ValueError as error:
        msg = f"{field.name!r}: {error}"
        raise InvalidFilter(msg) from error


def declared(name: str, fields: Mapping[str, Field]) -> Field:
    """Look a field up. Raises InvalidFilter, which names a like one and those there are."""
    if name in fields:
        return fields[name]
    near = difflib.get_close_matches(name[:_LOOKED_AT], fields, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    msg = f"no field {name[:_LOOKED_AT]!r}{hint} Fields: {', '.join(sorted(fields))}"
    raise InvalidFilter(msg)


def _scalar(value: object, field: Field) -> Scalar:
    kind = field.kind
    if kind is FieldKind.TEXT:
        msg = f'{field.name!r} is free text: it can be filtered by "exists" only; search for its words instead'
        raise InvalidFilter(msg)
    if kind is FieldKind.GEO:
        msg = f'{field.name!r} holds places: ask for "within" or "box" instead of {_show(value)}'
        raise InvalidFilter(msg)
    if kind is FieldKind.BOOL and isinstance(value, bool):
        return value
    if kind is FieldKind.KEYWORD and isinstance(value, str):
        if len(value) > MAX_LENGTH:
            msg = f"a value of {field.name!r} has at most {MAX_LENGTH:,} characters, not {len(value):,}"
            raise InvalidFilter(msg)
        return value
    if kind is FieldKind.INTEGER and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is FieldKind.FLOAT or kind is FieldKind.DATETIME:
        msg = f"{field.name!r} holds {kind} values: ask for a range (gte, gt, lte, lt) instead of {_show(value)}"
        raise InvalidFilter(msg)
    msg = f"{field.name!r} holds {kind} values, not {_show(value)}"
    raise InvalidFilter(msg)


def _bound(value: object, field: Field) -> float | str:
    if field.kind in (FieldKind.INTEGER, FieldKind.FLOAT):
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return value
    elif field.kind is FieldKind.DATETIME:
        if isinstance(value, str):
            return _datetime(value, field)
    else:
        msg = f"{field.name!r} holds {field.kind} values, which have no order: use equals or any_of"
        raise InvalidFilter(msg)
    msg = f"{field.name!r} holds {field.kind} values, not {_show(value)}"
    raise InvalidFilter(msg)


def _datetime(value: str, field: Field) -> str:
    try:
        datetime.fromisoformat(value)
    except ValueError as error:
        msg = f"{field.name!r} holds dates like 2024-05-17 or 2024-05-17T12:00:00Z, not {_show(value)}"
        raise InvalidFilter(msg) from error
    return value


def _show(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def source_of(parsed: Filter) -> dict[str, object]:  # noqa: C901, PLR0911  one for each kind
    """Write a filter in its JSON form; the inverse of `parse_filter`."""
    match parsed:
        case Equals(field, value):
            return {"field": field, "equals": value}
        case AnyOf(colour=NearColour(colour, tolerance)):
            return {"colour": colour, "tolerance": tolerance}
        case AnyOf(field, values):
            return {"field": field, "any_of": list(values)}
        case Range(field):
            bounds = {name: getattr(parsed, name) for name in _BOUNDS}
            return {"field": field, **{name: bound for name, bound in bounds.items() if bound is not None}}
        case Exists(field):
            return {"field": field, "exists": True}
        case Within(field, lat, lon, radius_m):
            return {"field": field, "within": {"lat": lat, "lon": lon, "radius_m": radius_m}}
        case Inside(field):
            return {"field": field, "box": {side: getattr(parsed, side) for side in SIDES}}
        case And(parts):
            return {"and": [source_of(part) for part in parts]}
        case Or(parts):
            return {"or": [source_of(part) for part in parts]}
        case Not(part):
            return {"not": source_of(part)}
