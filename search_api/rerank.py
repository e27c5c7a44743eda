"""A deployment's own reranking: a function that looks at the best hits once more and says which are better.

PHOSPHENE_RERANK names it as "module:function". It is called with a RerankQuestion and a list of up to RERANKED
Candidates, best first, and gives a number for each, more for better. It may be called from several threads. One that
raises, answers nonsense or takes too long leaves the order as it was, and the answer says so.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from phosphene.hooks import load_hook
from phosphene.settings import Settings
from phosphene.types import AssetId, Float32, TenantId
from phosphene.vectors.base import PayloadValue, ScoredPoint, asset_of

RERANKED = 100  # hits; those behind stay behind
_AT_ONCE = 8  # calls, those that were given up and still run included

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class RerankQuestion:
    """What was asked. `text` is None where it was not one text alone; `vector` is (d,) float32 of length 1."""

    tenant: TenantId
    text: str | None
    vector: Float32


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hit to be judged: `score` is what it came with, `fields` what filters may name, and its title."""

    asset_id: AssetId
    score: float
    fields: Mapping[str, PayloadValue]


@dataclass(frozen=True, slots=True)
class Reranked:
    """Hits in their new order, with a worth for each, more for better; `note` says why the order was left."""

    points: list[ScoredPoint]
    worth: list[float]
    note: str | None = None


class Reranker:
    """Calls the hook, for so long and not longer."""

    def __init__(self, hook: Callable[..., Any], *, name: str, timeout_s: float) -> None:
        self._hook, self._name, self._timeout_s = hook, name, timeout_s
        self._free = threading.Semaphore(_AT_ONCE)

    def __call__(self, question: RerankQuestion, points: Sequence[ScoredPoint], before: Sequence[float]) -> Reranked:
        """Put the first RERANKED hits in the hook's order; the rest follow as they are.

        `before` is the worth, at most 1, that each point had.
        """
        head, rest = list(points[:RERANKED]), list(points[RERANKED:])
        if not head:
            return Reranked([], [])
        said = self._asked(question, [Candidate(asset_of(one), one.score, dict(one.payload)) for one in head])
        if isinstance(said, str):
            log.warning("the order was left as it is: %s", said)
            return Reranked([*head, *rest], list(before), f"the order was left as it is: {said}")
        order = sorted(range(len(head)), key=lambda place: -said[place])
        low, high = min(said, default=0.0), max(said, default=0.0)
        worth = [1 + (said[place] - low) / max(high - low, 1e-9) for place in order]
        return Reranked([*(head[place] for place in order), *rest], [*worth, *(one / 2 for one in before[len(head) :])])

    def _asked(self, question: RerankQuestion, candidates: list[Candidate]) -> list[float] | str:
        """Give a number for each candidate, or why there are none. A call that is given up runs on by itself."""
        if not self._free.acquire(blocking=False):
            return f"{self._name} is busy with {_AT_ONCE} searches"
        answers: list[object] = []

        def call() -> None:
            try:
                answers.append(self._hook(question, candidates))
            except Exception as error:
                log.warning("the rerank hook %s raised", self._name, exc_info=True)
                answers.append(error)
            finally:
                self._free.release()

        thread = threading.Thread(target=call, name="rerank", daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if not answers:
            return f"{self._name} took longer than {self._timeout_s:g} s"
        if isinstance(answers[0], Exception):
            return f"{self._name} raised {type(answers[0]).__name__}"
        return _numbers(answers[0], len(candidates)) or f"{self._name} gave no list of {len(candidates)} finite numbers"


def _numbers(answer: object, count: int) -> list[float] | None:
    try:
        numbers = [float(one) for one in answer]  # type: ignore[attr-defined]  # what it is shows now
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def reranker_of(settings: Settings) -> Reranker | None:
    """Give the reranking that the settings name, loaded once; None for none. Raises InvalidSettings."""
    return None if settings.rerank is None else _loaded(settings.rerank, settings.rerank_timeout_s)


@lru_cache(maxsize=8)
def _loaded(name: str, timeout_s: float) -> Reranker:
    return Reranker(load_hook(name, setting="PHOSPHENE_RERANK"), name=name, timeout_s=timeout_s)
