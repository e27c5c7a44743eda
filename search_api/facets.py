"""How many pictures have which values: counted over all that the question lets through, and over the best hits.

A condition on a field does not narrow that field's own counts, so that a second value can be chosen beside the first.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Protocol

from phosphene.errors import InvalidQuery
from phosphene.filters import And, Equals, Exists, Filter, Range, Scalar, tenant_filter, without_field
from phosphene.types import Field, FieldKind, TenantId
from phosphene.vectors.base import ScoredPoint, VectorIndex
from phosphene.vectors.conditions import utc_text

BEST = 1000  # hits that `among_best` counts
MAX_FACETS = 16
DEFAULT_VALUES = 12
MAX_VALUES = 100
MAX_RANGES = 200  # of all fields of a request: each is a count of its own over all pictures
_MOST = 1e300  # the ranges end there, below what floats can't add up
_FINEST = 1e-12  # width of a range, over the numbers in it
_WIDE = 50  # greatest by least value: from here on ranges grow, 1 2 5 10 …
_SPARE = 50  # values asked for beyond those shown: how many there are is then known, and ties are cut by name

_LISTED = (FieldKind.KEYWORD, FieldKind.BOOL)  # value by value; others in ranges


class Counted(Protocol):
    """A question, as far as counting needs it."""

    def best_hits(self, within: Filter | None) -> Sequence[ScoredPoint]:
        """Give its best BEST hits under another filter."""
        ...

    def let_in(self, within: Filter | None) -> tuple[Filter | None, bool]:
        """Narrow a filter to what can be a hit under it, and say whether nothing else is left in."""
        ...


@dataclass(frozen=True, slots=True)
class FacetAsked:
    """A field whose values are to be counted; `limit` values, or ranges, at most."""

    field: str
    limit: int = DEFAULT_VALUES


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value; `count` pictures that the question lets through have it, `among_best` of the best hits."""

    value: Scalar
    count: int
    among_best: int


@dataclass(frozen=True, slots=True)
class FacetRange:
    """Numbers, or dates (RFC 3339, UTC), from `gte` on and below `lt`."""

    gte: float | str
    lt: float | str
    count: int
    among_best: int


@dataclass(frozen=True, slots=True)
class Facet:
    """How the values of a field are spread. Words and truths have `values`, numbers and dates `ranges`."""

    field: str
    kind: FieldKind
    pictures: int  # that the question lets through, conditions on this field apart
    missing: int  # of these, without a value
    best: int  # hits that `among_best` is of
    more: bool  # there are values beyond those listed
    values: tuple[FacetValue, ...] = ()
    ranges: tuple[FacetRange, ...] = ()
    exact: bool = True  # else some that the question keeps out are counted still


def checked_facets(asked: Sequence[FacetAsked], fields: Sequence[Field]) -> list[tuple[Field, int]]:
    """Look up the fields to count.

    Raises InvalidQuery for one that is unknown, is no facet, or is named twice, and for more than MAX_RANGES ranges.
    """
    known = {field.name: field for field in fields}
    offered = ", ".join(sorted(field.name for field in fields if field.is_facet))
    for one in asked:
        field = known.get(one.field)
        if field is None:
            raise InvalidQuery(f"facets: there is no field {one.field!r}. Facets: {offered}")
        if not field.is_facet:
            why = "declared as no facet" if field.facet is False else f"of kind {field.kind}"
            raise InvalidQuery(f"facets: {one.field!r} is {why}. Facets: {offered}")
    if len({one.field for one in asked}) < len(asked):
        raise InvalidQuery("facets: a field is named twice")
    ranges = sum(one.limit for one in asked if known[one.field].kind not in _LISTED)
    if ranges > MAX_RANGES:
        raise InvalidQuery(
            f"facets: {ranges:,} ranges of numbers and dates are asked for, {MAX_RANGES} in one request are counted: "
            "name fewer fields, or give them a smaller limit"
        )
    return [(known[one.field], one.limit) for one in asked]


def count_facets(
    wanted: Sequence[tuple[Field, int]],
    *,
    within: Filter | None,
    tenant: TenantId,
    index: VectorIndex,
    of: Counted,
) -> tuple[Facet, ...]:
    """Count the values of fields under the filter `within`, and what else the question is. Raises Unavailable."""
    hits: dict[Filter | None, Sequence[ScoredPoint]] = {}
    passing: dict[Filter | None, tuple[Filter | None, bool]] = {}
    counted = []
    for field, limit in wanted:
        rest = without_field(within, field.name)
        if rest not in hits:
            hits[rest], passing[rest] = of.best_hits(rest), of.let_in(rest)
        kept, exact = passing[rest]
        counted.append(replace(_counted(field, limit, tenant_filter(tenant, kept), index, hits[rest]), exact=exact))
    return tuple(counted)


def _counted(field: Field, limit: int, within: Filter, index: VectorIndex, best: Sequence[ScoredPoint]) -> Facet:
    pictures = index.count(within)
    missing = pictures - index.count(And((within, Exists(field.name))))
    found = {"field": field.name, "kind": field.kind, "pictures": pictures, "missing": missing, "best": len(best)}
    if field.kind in _LISTED:
        among = Counter(value for point in best for value in _values_of(point, field))
        counts = _bools(field, within, index) if field.kind is FieldKind.BOOL else None
        counts = index.facet(field.name, limit=limit + _SPARE, filter=within) if counts is None else counts
        values = tuple(FacetValue(_shown(value, field), count, among[value]) for value, count in counts[:limit])
        return Facet(**found, more=len(counts) > limit, values=values)  # type: ignore[arg-type]  # the dict above
    ranges = tuple(_ranges(field, limit, within, index, best))
    return Facet(**found, more=False, ranges=ranges)  # type: ignore[arg-type]  # the same


def _bools(field: Field, within: Filter, index: VectorIndex) -> list[tuple[str | int, int]]:
    """Count both by filters, which know that old points without `generated` are not."""
    counts = [(value, index.count(And((within, Equals(field.name, bool(value)))))) for value in (1, 0)]
    return sorted(((value, count) for value, count in counts if count), key=lambda one: -one[1])


def _values_of(point: ScoredPoint, field: Field) -> set[str | int]:
    value = point.payload.get(field.name, 0 if field.name == "generated" else None)
    values = value if isinstance(value, list) else [value]
    return {one for one in values if isinstance(one, str | int)}


def _shown(value: str | int, field: Field) -> Scalar:
    return bool(value) if field.kind is FieldKind.BOOL else value


def _ranges(
    field: Field, limit: int, within: Filter, index: VectorIndex, best: Sequence[ScoredPoint]
) -> Iterator[FacetRange]:
    """Count in ranges of round numbers that hold all values, each beginning where the one before ends."""
    ends = index.extremes(field.name, filter=within)
    if ends is None:
        return
    dates = field.kind is FieldKind.DATETIME
    low, high = map(_number, ends)
    if dates:
        edges = date_edges(low, high, limit)
    else:
        edges = number_edges(low, high, limit, whole=field.kind is FieldKind.INTEGER)
    numbers = [
        _number(value) for point in best if isinstance(value := point.payload.get(field.name), int | float | str)
    ]
    among = Counter(bisect_right(edges, number) - 1 for number in numbers)
    for place, (start, end) in enumerate(pairwise(edges)):
        gte, lt = (_date(start), _date(end)) if dates else (start, end)
        count = index.count(And((within, Range(field.name, gte=gte, lt=lt))))
        yield FacetRange(gte, lt, count, among[place])


def number_edges(low: float, high: float, limit: int, *, whole: bool) -> list[float]:
    """Give edges of at most `limit` ranges, all of them [edge, next edge), that hold low..high.

    Round numbers, evenly spaced; where the greatest is more than 50 times the least, they grow like 1 2 5 10.
    """
    low, high = (max(-_MOST, min(_MOST, end)) for end in (low, high))
    if low > 0 and high / low > _WIDE and limit > 1:
        for digits in ((1, 2, 5), (1,)):
            first, last = math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1
            series = [float(digit) * 10.0**power for power in range(first, last + 1) for digit in digits]
            edges = _holding(series, low, high)
            if len(edges) - 1 <= limit:
                return [int(edge) if whole and edge >= 1 else edge for edge in edges]
    finest = _FINEST * max(abs(low), abs(high))  # below it edges are rounded into each other
    step = _round_step(max((high - low) / limit, finest), whole=whole)
    while True:
        first, last = math.floor(low / step), math.floor(high / step) + 1
        if last - first <= limit or limit == 1:
            break
        step = _round_step(step * 1.01, whole=whole)
    if limit == 1:
        first, last, step = 0, 1, 1
        return [math.floor(low), math.floor(high) + 1]
    edges = [number * step for number in range(first, last + 1)]
    return edges if edges[-1] > high else [*edges[:-1], math.nextafter(high, math.inf)]


def _holding(series: Sequence[float], low: float, high: float) -> list[float]:
    first = max(place for place, edge in enumerate(series) if edge <= low)
    last = min(place for place, edge in enumerate(series) if edge > high)
    return list(series[first : last + 1])


def _round_step(least: float, *, whole: bool) -> float:
    """Give the least of 1, 2, 5 times a power of ten that is not below `least`."""
    if whole and least <= 1:
        return 1
    if least <= 1 / _MOST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least)
    return round(step) if whole else step


_DAY = 86_400
_SECONDS = (60, 600, 3600, 6 * 3600, _DAY, 7 * _DAY)
_MONTHS = (1, 3, 12, 24, 60, 120, 240, 600, 1200, 12_000)


def date_edges(low: float, high: float, limit: int) -> list[float]:
    """Give edges, in seconds since 1970, of at most `limit` ranges that hold low..high.

    Minutes, hours, days, weeks (from Monday on), months, quarters, years, decades …, all of UTC.
    """
    for step in _SECONDS:
        if (high - low) / step < limit:
            monday = 4 * _DAY if step == 7 * _DAY else 0  # 1970 began on a Thursday
            first = math.floor((low - monday) / step)
            last = math.floor((high - monday) / step) + 1
            if last - first <= limit:
                return [float(number * step + monday) for number in range(first, last + 1)]
    for months in _MONTHS:
        first, last = _month(low) // months, _month(high) // months + 1
        if last - first <= limit:
            return [_month_start(number * months) for number in range(first, last + 1)]
    return [_month_start(_month(low)), _month_start(_month(high) + 1)]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MONTH = 9999 * 12 + 11
_LAST_SECOND = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds()


def _month(seconds: float) -> int:
    """Count the months since the year 0."""
    moment = _EPOCH + timedelta(seconds=seconds)
    return moment.year * 12 + moment.month - 1


def _month_start(month: int) -> float:
    if month > _LAST_MONTH:
        return _LAST_SECOND + 1
    return (datetime(max(1, month // 12), month % 12 + 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()


def _number(value: float | str) -> float:
    if isinstance(value, str):
        return (datetime.fromisoformat(utc_text(value)) - _EPOCH).total_seconds()
    return value


def _date(seconds: float) -> str:
    return utc_text((_EPOCH + timedelta(seconds=min(seconds, _LAST_SECOND))).isoformat())
