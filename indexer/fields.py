"""What kind of values a metadata field holds: found out from the values, then held to.

A kind is inferred once, from all rows of a manifest or from the first pictures that carry the field, and declared in
the catalogue. From then on values are brought to that kind, and one that can't be is refused with its reason.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from phosphene.places import LATITUDE_NAMES, LONGITUDE_NAMES, place_at, place_of, place_text
from phosphene.types import FIELD_NAME, RESERVED_NAMES, Field, FieldKind, FieldValue, Metadata, Place
from phosphene.vectors.conditions import utc_text

MAX_FIELDS = 256  # a tenant; each is an index in the vector engine
MAX_VALUES = 1000  # strings in one list
LONG_TEXT = 120  # characters: a longer string, or one of several lines, is text to read and not a word to filter by
TEXT_NAMES = frozenset({"description", "caption", "comment", "comments", "abstract", "notes", "exif", "alt", "prompt"})
LIST_NAMES = frozenset({"keywords", "keyword", "tags", "tag", "labels", "subjects"})

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")  # 01234 is a code, not a number
_FLOAT = re.compile(r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.,]{4,15}(Z|[+-][0-9]{2}:?[0-9]{2})?)?")
_BOOLS = {"true": True, "yes": True, "false": False, "no": False}
_INT64 = 2**63


def field_name(name: str) -> str:
    """Make a name that filters can use: "Creator Name" -> "creator_name"; "width", ours alone -> "source_width".

    Raises ValueError where nothing is left of it.
    """
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:55]
    if not plain:
        raise ValueError(f"{name!r} makes no field name: use letters a to z and digits")
    if plain[0].isdigit():
        plain = f"field_{plain}"
    if plain in RESERVED_NAMES:
        plain = f"source_{plain}"
    if FIELD_NAME.fullmatch(plain) is None:
        raise ValueError(f"{name!r} makes no field name")
    return plain


def flatten(source: Mapping[str, object], prefix: str = "", depth: int = 0) -> dict[str, object]:
    """Spread nested objects: {"camera": {"make": "X"}} -> {"camera make": "X"}, three levels deep at most.

    An object of `lat` and `lon` is a place and stays one. Raises ValueError where there is no such place.
    """
    flat: dict[str, object] = {}
    for key, value in source.items():
        name = f"{prefix} {key}".strip()
        if isinstance(value, Mapping) and depth < 2 and place_of(value) is None:
            flat.update(flatten(value, name, depth + 1))
        else:
            flat[name] = value
    return flat


def plain_value(value: object, *, split: bool = False) -> FieldValue:
    """Bring a value of JSON, CSV or Parquet to one the catalogue takes; what says nothing becomes None.

    With `split`, "cat; dog" and "cat, dog" become lists: for columns that hold keywords.
    """
    if isinstance(value, str):
        return _plain_text(value.strip(), split=split)
    if value is None or isinstance(value, bool | int | float):
        return _plain_number(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return place_of(value) or (json.dumps(value, ensure_ascii=False, default=str) if value else None)
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return _strings(value)
    return None if isinstance(value, bytes) else str(value)


def _plain_number(value: FieldValue) -> FieldValue:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return str(value)
    return value


def _plain_text(text: str, *, split: bool) -> FieldValue:
    if text.startswith("[") and text.endswith("]"):
        try:
            return _strings(json.loads(text))
        except (ValueError, RecursionError):
            pass
    if split:
        return _strings(re.split(";" if ";" in text else ",", text))
    return text or None


def _strings(values: Iterable[object]) -> list[str] | None:
    said = (str(value).strip() for value in values if value is not None)
    return [text for text in dict.fromkeys(said) if text][:MAX_VALUES] or None


# bool before int: a bool is an int to Python.
_NATIVE = (
    (FieldKind.BOOL, bool),
    (FieldKind.INTEGER, int),
    (FieldKind.FLOAT, float),
    (FieldKind.KEYWORD, list),
    (FieldKind.GEO, dict),
)


class KindOfColumn:
    """Watches values go by and tells which kind holds them all. Bounded memory, any order gives the same answer."""

    def __init__(self, name: str, *, textual: bool) -> None:
        """`textual`: numbers, dates and truth come as words, as in CSV."""
        self._name = name
        self._textual = textual
        self._kinds: set[FieldKind] = set()

    def see(self, value: FieldValue) -> None:
        """Take one more value into account."""
        if value is not None:
            self._kinds.add(self._kind_of(value))

    def _kind_of(self, value: FieldValue) -> FieldKind:
        for kind, holds in _NATIVE:
            if isinstance(value, holds):
                return kind
        text = str(value)
        if self._textual:
            # INTEGER before BOOL: a column of 0 and 1 counts.
            for kind in (FieldKind.INTEGER, FieldKind.FLOAT, FieldKind.BOOL):
                if _CONVERTERS[kind](text) is not None:
                    return kind
        if _iso(text) is not None:
            return FieldKind.DATETIME
        return FieldKind.TEXT if len(text) > LONG_TEXT or "\n" in text else FieldKind.KEYWORD

    @property
    def kind(self) -> FieldKind | None:
        """The kind of all values so far; None where there was none."""
        if not self._kinds:
            return None
        if len(self._kinds) == 1:
            (kind,) = self._kinds
        elif self._kinds == {FieldKind.INTEGER, FieldKind.FLOAT}:
            kind = FieldKind.FLOAT
        else:
            kind = FieldKind.TEXT if FieldKind.TEXT in self._kinds else FieldKind.KEYWORD
        return FieldKind.TEXT if kind is FieldKind.KEYWORD and self._name in TEXT_NAMES else kind


def _is_float(text: str) -> bool:
    return (
        any(digit in text for digit in "0123456789")
        and _FLOAT.fullmatch(text) is not None
        and math.isfinite(float(text))
    )


def _iso(text: str) -> str | None:
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return utc_text(text)
    except (ValueError, OverflowError):
        return None


def brought_to(value: FieldValue, field: Field) -> FieldValue:
    """Bring a value to a field's kind without losing anything. Raises ValueError that says what can't be."""
    if value is None:
        return None
    if field.kind is FieldKind.KEYWORD:
        return value if isinstance(value, list) else _text(value)
    if field.kind is FieldKind.TEXT:
        return ", ".join(value) if isinstance(value, list) else _text(value)
    if field.kind is FieldKind.GEO:
        return _to_place(value, field)
    converted = _CONVERTERS[field.kind](value)
    if converted is None:
        shown = json.dumps(value, ensure_ascii=False)
        raise ValueError(f"field {field.name!r} holds {field.kind} values, not {shown[:80]}")
    return converted


def _to_place(value: FieldValue, field: Field) -> Place:
    try:
        place = place_of(value)
    except ValueError as error:
        raise ValueError(f"field {field.name!r}: {error}") from error
    if place is None:
        shown = json.dumps(value, ensure_ascii=False)
        raise ValueError(f"field {field.name!r} holds places like 52.52,13.405 (latitude, longitude), not {shown[:80]}")
    return place


def _text(value: FieldValue) -> str:
    if isinstance(value, dict):
        return place_text(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _to_integer(value: FieldValue) -> int | None:
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _INT64 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _to_float(value: FieldValue) -> float | None:
    if isinstance(value, str):
        return float(value) if _is_float(value) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _to_bool(value: FieldValue) -> bool | None:
    if isinstance(value, str):
        return {**_BOOLS, "1": True, "0": False}.get(value.lower())
    return bool(value) if isinstance(value, bool | int) and value in (0, 1) else None


def _to_datetime(value: FieldValue) -> str | None:
    return _iso(value) if isinstance(value, str) else None


_CONVERTERS = {
    FieldKind.INTEGER: _to_integer,
    FieldKind.FLOAT: _to_float,
    FieldKind.BOOL: _to_bool,
    FieldKind.DATETIME: _to_datetime,
}


@dataclass(frozen=True, slots=True)
class Described:
    """What a source said about a picture, not yet held to the declared kinds."""

    title: str | None
    metadata: Metadata


NOTHING_SAID = Described(title=None, metadata={})
MAX_TITLE = 300  # characters
_TITLE_NAMES = ("title", "headline", "caption")


def describe(source: Mapping[str, object], column_map: Mapping[str, str] | None = None) -> Described:
    """Read a JSON object about a picture: its title, and all else as fields.

    `column_map` names the key for "title" and for fields. Raises ValueError where names clash.
    """
    mapped = dict(column_map or {})
    flat = flatten(source)
    title_name = mapped.pop("title", None) or next((name for name in _TITLE_NAMES if flat.get(name)), None)
    title = plain_value(flat.get(title_name)) if title_name else None
    named = {column: name for name, column in mapped.items()}
    shown = None if title is None else " ".join(_text_of(title).split())[:MAX_TITLE]
    left = {column: raw for column, raw in flat.items() if column != title_name or column == "caption"}
    return Described(title=shown or None, metadata=described_fields(left, named))


def described_fields(source: Mapping[str, object], named: Mapping[str, str] | None = None) -> Metadata:
    """Bring names and values to those of fields; `named` gives the field for some names.

    Columns of latitude and longitude (`lat` and `lon`, `latitude` and `longitude` …) together make the field `place`,
    unless there is one. Raises ValueError where a name makes no field, two make the same, or a place is none.
    """
    metadata: Metadata = {}
    for column, raw in source.items():
        name = (named or {}).get(column) or field_name(column)
        value = plain_value(raw, split=name in LIST_NAMES)
        if value is None:
            continue
        if name in metadata:
            raise ValueError(f"{column!r} and another name both make the field {name!r}")
        metadata[name] = value
    return _with_place(metadata)


PLACE = "place"  # what latitude and longitude make


def _with_place(metadata: Metadata) -> Metadata:
    latitude = next((name for name in LATITUDE_NAMES if name in metadata), None)
    longitude = next((name for name in LONGITUDE_NAMES if name in metadata), None)
    if latitude is None or longitude is None or PLACE in metadata:
        return metadata
    rest = {name: value for name, value in metadata.items() if name not in (latitude, longitude)}
    return {**rest, PLACE: place_at(metadata[latitude], metadata[longitude])}


def _text_of(value: FieldValue) -> str:
    return ", ".join(value) if isinstance(value, list) else _text(value) if isinstance(value, dict) else str(value)


def describe_caption(text: str) -> Described:
    """Read a text file beside a picture: its caption, whose first line is the title."""
    caption = text.replace("\ufeff", "").strip()
    if not caption:
        return NOTHING_SAID
    return Described(title=caption.splitlines()[0].strip()[:MAX_TITLE], metadata={"caption": caption})


def joined(first: Described, second: Described) -> Described:
    """Put two descriptions together; where both say something, the first one holds."""
    return Described(title=first.title or second.title, metadata={**second.metadata, **first.metadata})
