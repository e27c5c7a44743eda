"""Golden queries: questions with the pictures that answer them, and how well a search finds these.

A file has one JSON object a line. `relevant` names pictures by file name, by more of their place (`2024/dog.jpg`,
`catalogue.tar::dog.webp`), by asset id or by the sha256 of their bytes; as an object it also says how good each is:

    {"query": "a dog", "relevant": ["dog.jpg", "2024/puppy.jpg"]}
    {"query": "a red car", "relevant": {"ferrari.jpg": 2, "orange-van.jpg": 1}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import numpy as np
from pydantic import BaseModel, Field, ValidationError, field_validator

from phosphene.errors import InvalidInput
from phosphene.evaluation.ranking import DEPTHS, coverage, first_right, mean_interval, ndcg
from phosphene.nomatch.curves import Interval
from phosphene.types import AssetId, Sha256, TenantId, asset_id

HITS = 100  # that a search is asked for: a right one behind them counts as not found
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GoldenQuery:
    """A question, and the pictures that answer it: name -> how good, above 0."""

    text: str
    relevant: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A golden query with its pictures looked up in a catalogue; those not there count as not found."""

    text: str
    gains: Mapping[AssetId, float]
    missing: Mapping[str, float]

    @property
    def all_gains(self) -> dict[AssetId | str, float]:
        """Give what a perfect search would find, missing pictures under their names."""
        gains: dict[AssetId | str, float] = dict(self.gains.items())
        return gains | dict(self.missing)


@dataclass(frozen=True, slots=True)
class QueryScore:
    """How one question went."""

    text: str
    first_right: int | None  # rank from 1, None: not among those looked at
    coverage: float  # share of the right pictures among the first 10, of as many as fit
    ndcg: float  # of the first 10


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """Means over the questions with 95 % intervals: recall@1, @5, @10, coverage@10, mrr, ndcg@10, each 0..1."""

    metrics: Mapping[str, Interval]
    queries: tuple[QueryScore, ...]
    missing: tuple[str, ...]  # pictures that questions name and the catalogue lacks


def read_golden(path: Path) -> list[GoldenQuery]:
    """Read a file of golden queries. Raises InvalidInput, which names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"golden queries {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_golden(lines, name=str(path))


def parse_golden(lines: Sequence[str], *, name: str) -> list[GoldenQuery]:
    """Read golden queries, one a line; empty lines are skipped. Raises InvalidInput, which names the line."""
    queries = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                parsed = _Line.model_validate_json(line)
            except ValidationError as error:
                wrong = error.errors()[0]
                place = ".".join(str(part) for part in wrong["loc"])
                said = wrong["msg"].removeprefix("Value error, ")
                raise InvalidInput(f"{name}, line {number}: {f'{place}: ' if place else ''}{said}") from error
            queries.append(GoldenQuery(parsed.query, parsed.relevant))
    if not queries:
        raise InvalidInput(f'{name} holds no golden queries: write {{"query": "a dog", "relevant": ["dog.jpg"]}} lines')
    return queries


class _Line(BaseModel):
    query: Annotated[str, Field(min_length=1)]
    relevant: Annotated[dict[str, Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]], Field(min_length=1)]

    @field_validator("relevant", mode="before")
    @classmethod
    def _ungraded(cls, value: Any) -> Any:  # noqa: ANN401  JSON
        if isinstance(value, list):
            if not all(isinstance(name, str) for name in value):
                raise ValueError("names of pictures are text")
            return dict.fromkeys(value, 1.0)
        return value


def look_up(
    queries: Sequence[GoldenQuery],
    *,
    tenant: TenantId,
    named: Callable[[Collection[str]], Mapping[str, Collection[AssetId]]],
) -> list[JudgedQuery]:
    """Turn names of pictures into assets; `named` finds them by the ends of their places.

    A name that several pictures have stands for each of them. Raises InvalidInput where nothing at all is found.
    """
    names = {name for query in queries for name in query.relevant}
    known = {name: id_ for name in names if (id_ := _id_in(name, tenant)) is not None}
    found = named(names - known.keys())
    judged = []
    for query in queries:
        gains: dict[AssetId, float] = {}
        missing = {}
        for name, gain in query.relevant.items():
            ids = [known[name]] if name in known else found.get(name, ())
            for id_ in ids:
                gains[id_] = max(gain, gains.get(id_, 0.0))
            if not ids:
                missing[name] = gain
        judged.append(JudgedQuery(query.text, gains, missing))
    if not any(query.gains for query in judged):
        raise InvalidInput(
            f"none of the {len(names)} pictures that the golden queries name is in the catalogue, "
            f"not even {min(names)!r}: are they of another one?"
        )
    return judged


def _id_in(name: str, tenant: TenantId) -> AssetId | None:
    if _SHA256.fullmatch(name):
        return asset_id(tenant, Sha256(name))
    try:
        return AssetId(UUID(name))
    except ValueError:
        return None


def score_golden(queries: Sequence[JudgedQuery], *, search: Callable[[str], Sequence[AssetId]]) -> GoldenReport:
    """Ask each question, and compare what `search` gives, best first (HITS are enough), with what it should.

    Raises InvalidInput where there are no questions.
    """
    if not queries:
        raise InvalidInput("there are no golden queries to ask")
    scores = [_score(query, search(query.text)) for query in queries]
    firsts = np.array([score.first_right or np.inf for score in scores])
    values = {f"recall@{depth}": (firsts <= depth).astype(np.float64) for depth in DEPTHS}
    values["coverage@10"] = np.array([score.coverage for score in scores])
    values["mrr"] = 1 / firsts
    values["ndcg@10"] = np.array([score.ndcg for score in scores])
    return GoldenReport(
        metrics={name: mean_interval(value) for name, value in values.items()},
        queries=tuple(scores),
        missing=tuple(sorted({name for query in queries for name in query.missing})),
    )


def _score(query: JudgedQuery, ranked: Sequence[AssetId]) -> QueryScore:
    gains = query.all_gains
    return QueryScore(query.text, first_right(ranked, gains), coverage(ranked, gains, 10), ndcg(ranked, gains, 10))
