"""Filters as the command line and the search box write them, read into the JSON form of phosphene.filters.

category=animals, year>=1990, keywords=cat|dog, creator=*, colour=#ff8800, colour=#ff8800~0.1,
place=52.52,13.4,5km (around a place), place=47.2,5.8..55.1,15.1 (from the south-western corner of a box to the
north-eastern).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from phosphene.errors import InvalidFilter
from phosphene.filters import SIDES, Filter, declared, parse_filter
from phosphene.types import Field, FieldKind

_TERM = re.compile(r"(?P<field>[a-z][a-z0-9_]*)\s*(?P<operator>!=|>=|<=|=|>|<)\s*(?P<value>.*)", re.DOTALL)
_OPERATOR_OF = {">=": "gte", ">": "gt", "<=": "lte", "<": "lt"}


def parse_terms(terms: Sequence[str], fields: Sequence[Field]) -> Filter | None:
    """Read command-line filters (`year>=1990`, `keywords=cat|dog`, `creator=*`, or JSON); all of them must hold."""
    if not terms:
        return None
    return parse_filter({"and": [_term_source(term, fields) for term in terms]}, fields)


def _term_source(term: str, fields: Sequence[Field]) -> object:
    if term.lstrip().startswith("{"):
        try:
            return json.loads(term)
        except ValueError as error:
            msg = f"--filter {term!r} is not JSON: {error}"
            raise InvalidFilter(msg) from error
    match = _TERM.fullmatch(term.strip())
    if match is None:
        msg = f"--filter {term!r} is not understood: write year>=1990, category=animals, keywords=cat|dog, creator=*"
        raise InvalidFilter(msg)
    name, operator, value = match["field"], match["operator"], match["value"].strip()
    by_name = {field.name: field for field in fields}
    if name == "colour" and operator in ("=", "!=") and (value.startswith("#") or name not in by_name):
        near = colour_source(value)
        return {"not": near} if operator == "!=" else near
    field = declared(name, by_name)
    if operator in _OPERATOR_OF:
        return {"field": name, _OPERATOR_OF[operator]: typed_value(value, field)}
    if value == "*":
        source: object = {"field": name, "exists": True}
    elif field.kind is FieldKind.GEO:
        source = area_source(value, field)
    elif "|" in value:
        source = {"field": name, "any_of": [typed_value(part.strip(), field) for part in value.split("|")]}
    else:
        source = {"field": name, "equals": typed_value(value, field)}
    return {"not": source} if operator == "!=" else source


_DEGREES = r"\s*([+-]?[0-9]{1,3}(?:\.[0-9]+)?)\s*"
_AROUND = re.compile(rf"{_DEGREES},{_DEGREES},\s*([0-9]+(?:\.[0-9]+)?)\s*(m|km)?\s*")
_BETWEEN = re.compile(rf"{_DEGREES},{_DEGREES}\.\.{_DEGREES},{_DEGREES}")


def area_source(value: str, field: Field) -> object:
    """Read a circle or a box that was written as text into the JSON form of a filter. Raises InvalidFilter."""
    if (around := _AROUND.fullmatch(value)) is not None:
        lat, lon, radius = map(float, around.groups()[:3])
        metres = radius * 1000 if around[4] == "km" else radius
        return {"field": field.name, "within": {"lat": lat, "lon": lon, "radius_m": metres}}
    if (between := _BETWEEN.fullmatch(value)) is not None:
        return {"field": field.name, "box": dict(zip(SIDES, map(float, between.groups()), strict=True))}
    msg = (
        f"{field.name!r} holds places: write {field.name}=52.52,13.4,5km or, from corner to corner, "
        f"{field.name}=47.2,5.8..55.1,15.1, not {value!r}"
    )
    raise InvalidFilter(msg)


def colour_source(value: str) -> dict[str, object]:
    """Read a colour that was written as #ff8800 or #ff8800~0.1 into the JSON form. Raises InvalidFilter."""
    colour, tilde, tolerance = value.partition("~")
    if not tilde:
        return {"colour": colour.strip()}
    try:
        return {"colour": colour.strip(), "tolerance": float(tolerance)}
    except ValueError as error:
        msg = f"--filter colour={value}: the tolerance {tolerance!r} is no number: write colour=#ff8800~0.1"
        raise InvalidFilter(msg) from error


def typed_value(text: str, field: Field) -> object:
    """Read a value that was written as text, as the field has it. Raises InvalidFilter."""
    try:
        if field.kind is FieldKind.INTEGER:
            return int(text)
        if field.kind is FieldKind.FLOAT:
            return float(text)
    except ValueError as error:
        msg = f"{field.name!r} holds {field.kind} values, not {text!r}"
        raise InvalidFilter(msg) from error
    if field.kind is FieldKind.BOOL and text.lower() in ("true", "false", "yes", "no", "1", "0"):
        return text.lower() in ("true", "yes", "1")
    return text
