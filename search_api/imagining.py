"""A picture for a question that the catalogue does not answer: asked for beside the search, never in its way."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from phosphene.assemble import Engine
from phosphene.catalog.generation_records import GenerationState
from phosphene.errors import InvalidQuery, PhospheneError
from phosphene.generation.asked import AskedPart, GenerationRequest
from phosphene.generation.request import request_generation
from phosphene.jobs import Jobs
from phosphene.types import GenerateMode, GenerationId, TenantId
from search_api.question import Part, SearchQuery
from search_api.search import SearchAnswer

log = logging.getLogger(__name__)

SEED = 0  # always the same, so that the same question finds the stored picture


@dataclass(frozen=True, slots=True)
class Offer:
    """A generation that goes with an answer, or why there is none."""

    id: GenerationId | None
    status: GenerationState | Literal["refused"]
    detail: str | None = None


def offered(
    query: SearchQuery,
    answer: SearchAnswer,
    mode: GenerateMode | None,
    *,
    engine: Engine,
    tenant: TenantId,
    jobs: Jobs | None,
) -> Offer | None:
    """Ask for a picture where the mode says so; None where it does not, and on all pages but the first.

    `mode` None is the deployment's. A text is drawn as it was asked, a picture becomes a variation. Whatever refuses
    the picture (a budget, a queue, the guard rails, missing weights) is told in the offer: the hits are good all the
    same. With jobs None nothing is sent: the caller runs it.
    """
    mode = engine.settings.generate if mode is None else mode
    if query.cursor is not None or mode is GenerateMode.NEVER:
        return None
    if mode is GenerateMode.WHEN_UNMATCHED and answer.match.matched:
        return None
    try:
        asked = _request(query)
        generation = request_generation(asked, engine=engine, tenant=tenant, jobs=jobs)
    except PhospheneError as error:
        log.info("a picture for a search was refused: %s", type(error).__name__)  # a message may quote the prompt
        return Offer(None, "refused", str(error))
    return Offer(generation.id, generation.state, generation.error)


def _request(query: SearchQuery) -> GenerationRequest:
    """Draw what the question is like; texts that it leads away from, or takes out, go with its own as a negative."""
    parts = [part for part in query.all_parts if part.weight > 0]
    if not parts:
        raise InvalidQuery("a question that only says what is not wanted can't be drawn: say also what is")
    unwanted = [part for part in query.all_parts if part.weight < 0] + list(query.exclude)
    words = [part.text for part in unwanted if part.text is not None]
    in_words = any(part.text is not None for part in parts)
    return GenerationRequest(
        tuple(_part(part) for part in parts),
        edit=query.edit,
        seed=SEED,
        negative=", ".join(words) if words and in_words else None,
    )


def _part(part: Part) -> AskedPart:
    if part.vector is not None:
        raise InvalidQuery("a bare vector can't be drawn: ask with a text, a picture or an asset")
    return AskedPart(text=part.text, image=part.image, asset_id=part.asset_id, weight=part.weight)
