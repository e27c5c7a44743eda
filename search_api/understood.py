"""How a question was understood, told back: what the pictures shall show, what not, and what is filtered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from phosphene.errors import InvalidQuery
from phosphene.filters import Filter, source_of
from phosphene.query_language import write_filter
from phosphene.types import AssetId
from search_api.question import Part, SearchQuery, Strategy

_MOST_SAID = 200  # characters of a filter; all of it is beside the note


@dataclass(frozen=True, slots=True)
class UnderstoodPart:
    """A part; a picture or a vector that was sent is not sent back."""

    kind: str  # text, image, asset_id, vector
    text: str | None
    asset_id: AssetId | None
    weight: float


@dataclass(frozen=True, slots=True)
class Understood:
    """A question as it was asked; `plain`: it is one text, picture, asset or vector and no more."""

    plain: bool
    parts: tuple[UnderstoodPart, ...]
    excluded: tuple[UnderstoodPart, ...]
    context: tuple[tuple[UnderstoodPart, UnderstoodPart], ...]
    filter: Filter | None
    note: str  # the same in words


def understood(query: SearchQuery) -> Understood:
    """Tell how a question was understood."""
    parts = _told(query.all_parts)
    excluded = _told(query.exclude)
    context = tuple((_tell(pair.positive), _tell(pair.negative)) for pair in query.context)
    return Understood(
        plain=query.single is not None and not query.exclude and query.filter is None,
        parts=parts,
        excluded=excluded,
        context=context,
        filter=query.filter,
        note=_note(query, parts, excluded, context),
    )


def _note(
    query: SearchQuery,
    parts: Sequence[UnderstoodPart],
    excluded: Sequence[UnderstoodPart],
    context: Sequence[tuple[UnderstoodPart, UnderstoodPart]],
) -> str:
    joined = " or " if query.strategy is Strategy.BEST_SCORE else " and "
    near = joined.join(_named(part) for part in parts if part.weight > 0)
    far = " and ".join(_named(part) for part in parts if part.weight < 0)
    said = [f"like {near}"] if near else []
    if far:
        said.append(f"away from {far}")
    if query.edit is not None:
        said.append(f"turned from {_quoted(query.edit.before)} to {_quoted(query.edit.after)}")
    said += [f"rather {_named(positive)} than {_named(negative)}" for positive, negative in context]
    if excluded:
        said.append(f"without what shows {' or '.join(_named(part) for part in excluded)}")
    if query.filter is not None:
        said.append(f"only {_filter_in_words(query.filter)}")
    return ", ".join(said)


def _named(part: UnderstoodPart) -> str:
    names = {"image": "the picture sent", "vector": "the vector sent", "asset_id": f"asset {part.asset_id}"}
    name = _quoted(part.text) if part.text is not None else names[part.kind]
    return name if abs(part.weight) == 1 else f"{name} ({abs(part.weight):g})"


def _quoted(text: str) -> str:
    return f"“{text}”"


def _filter_in_words(filter: Filter) -> str:  # noqa: A002  the field's word for it
    try:
        said = write_filter(filter)
    except InvalidQuery:
        said = json.dumps(source_of(filter), ensure_ascii=False)
    return said if len(said) <= _MOST_SAID else said[: _MOST_SAID - 1] + "…"


def _told(parts: Sequence[Part]) -> tuple[UnderstoodPart, ...]:
    return tuple(_tell(part) for part in parts)


def _tell(part: Part) -> UnderstoodPart:
    return UnderstoodPart(kind=part.kind, text=part.text, asset_id=part.asset_id, weight=part.weight)
