"""Answers that are the same each time, also where equal scores stand at the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from phosphene.vectors.base import ScoredPoint, WordQuery

_MOST_TIED = 16_384
_MOST_TIED_WORDS = 1024  # pictures of equally many words tie in their thousands

_T = TypeVar("_T")


class _Limited(Protocol):
    @property
    def limit(self) -> int: ...


_Q = TypeVar("_Q", bound=_Limited)


def ranked(points: Sequence[ScoredPoint]) -> list[ScoredPoint]:
    """Order by score, best first, then by id."""
    return sorted(points, key=lambda point: (-point.score, point.id))


def by_count(counted: Iterable[tuple[str | int, int]]) -> list[tuple[str | int, int]]:
    """Order counted values: most first, then by value."""
    return sorted(counted, key=lambda one: (-one[1], isinstance(one[0], str), one[0]))


def nearest(
    queries: Sequence[_Q],
    ask: Callable[[Sequence[tuple[_Q, int]]], list[list[ScoredPoint]]],
    *,
    at_once: int,
    most_tied: int = _MOST_TIED,
) -> list[list[ScoredPoint]]:
    """Answer queries through `ask`, which takes each with a limit of its own and answers ranked.

    An engine breaks ties as it likes. One point more than asked for shows whether a tie runs on past the limit; then
    more is asked for until its end is seen, because only then is it known which of its points come first by id; but no
    more than `most_tied`, beyond which the engine's choice stands.
    """
    answers: list[list[ScoredPoint]] = [[] for _ in queries]
    limits = {number: query.limit + 1 for number, query in enumerate(queries)}
    while limits:
        for some in parts(list(limits), at_once):
            results = ask([(queries[number], limits[number]) for number in some])
            for number, result in zip(some, results, strict=True):
                limit = queries[number].limit
                tied = len(result) >= limits[number] and result[limit - 1].score == result[-1].score
                if tied and limits[number] < limit + most_tied:
                    limits[number] *= 4
                else:
                    answers[number] = result[:limit]
                    del limits[number]
    return answers


def most_tied(queries: Iterable[WordQuery]) -> int:
    """Say how far a tie of words is followed."""
    return _MOST_TIED if any(query.exact for query in queries) else _MOST_TIED_WORDS


def parts(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Cut into lists of at most `size`."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
