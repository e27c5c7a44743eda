"""Kinds of values that several requests share."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from phosphene.places import place_of
from phosphene.types import Place

SpaceName = Annotated[
    str | None, Field(max_length=64, description="refuse (422) to answer where another space answers by now")
]
VectorSpace = Annotated[
    str | None,
    Field(
        max_length=64,
        description="beside a vector: the `space` that the answer with it has named; refused (422) where another space "
        "answers by now. Without it a vector of another model with as many numbers is compared without a word",
    ),
]
MAX_TITLE = 500
MAX_FIELDS = 200
MAX_VALUE = 10_000


def require_beside_vector(space: str | None, vector: object) -> None:
    """Refuse a space that is said of nothing. Raises ValueError."""
    if space is not None and vector is None:
        raise ValueError("space says what a vector is of: it goes beside one")


def _from_base64(value: object) -> object:
    if not isinstance(value, str):
        return value
    _, comma, data = value.partition(",") if value.startswith("data:") else ("", "", value)
    del comma
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"not base64: {error}"
        raise ValueError(msg) from error


def _no_nul(value: str) -> str:
    if "\x00" in value:
        msg = "text can't hold the character NUL"
        raise ValueError(msg)
    return value


def _place(value: object) -> Place:
    place = place_of(value) if isinstance(value, dict) else None
    if place is None:
        msg = "a place is an object of lat and lon"
        raise ValueError(msg)
    return place


PictureBytes = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(lambda data: base64.b64encode(data).decode(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "minLength": 4}),
]
Text = Annotated[str, Field(max_length=MAX_VALUE), BeforeValidator(lambda v: _no_nul(v) if isinstance(v, str) else v)]
Title = Annotated[str, Field(max_length=MAX_TITLE), BeforeValidator(lambda v: _no_nul(v) if isinstance(v, str) else v)]
PlaceIn = Annotated[
    Place,
    PlainValidator(_place),
    WithJsonSchema(
        {
            "type": "object",
            "description": "a place: degrees of latitude and longitude",
            "properties": {
                "lat": {"type": "number", "minimum": -90, "maximum": 90},
                "lon": {"type": "number", "minimum": -180, "maximum": 180},
            },
            "required": ["lat", "lon"],
            "additionalProperties": False,
            "examples": [{"lat": 52.52, "lon": 13.405}],
        }
    ),
]
MetadataValue = bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | FiniteFloat | Text | list[Text] | PlaceIn | None
MetadataIn = Annotated[dict[str, MetadataValue], Field(max_length=MAX_FIELDS)]
FilterIn = Annotated[
    dict[str, Any],
    Field(
        description='{"field": NAME, "equals" | "any_of" | "gte" | "gt" | "lte" | "lt" | "exists" | "within" | '
        '"box": …}, or "and", "or", "not" around such. GET /v1/fields lists the names',
        examples=[{"and": [{"field": "category", "equals": "animals"}, {"field": "year", "gte": 2005}]}],
    ),
]


class Body(BaseModel):
    """A request: unknown fields are refused, so that a typo is never silently ignored."""

    model_config = ConfigDict(extra="forbid")
