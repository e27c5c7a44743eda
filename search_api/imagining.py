"""A picture for a question that the catalogue does not answer: asked for beside the search, never in its way."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from phosphene.assemble import Engine
from phosphene.catalog.records import GenerationState
from phosphene.errors import InvalidQuery, PhospheneError
from phosphene.generation.asked import AskedPart, GenerationRequest
from phosphene.generation.request import request_generation
from phosphene.jobs import Jobs
from phosphene.types import GenerateMode, GenerationId, TenantId
from search_api.question import SearchQuery, normalised_text
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
        asked = GenerationRequest((_part(query),), seed=SEED)
        generation = request_generation(asked, engine=engine, tenant=tenant, jobs=jobs)
    except PhospheneError as error:
        log.info("a picture for a search was refused: %s", type(error).__name__)  # a message may quote the prompt
        return Offer(None, "refused", str(error))
    return Offer(generation.id, generation.state, generation.error)


def _part(query: SearchQuery) -> AskedPart:
    if query.text is not None:
        return AskedPart(text=normalised_text(query.text))
    if query.image is not None:
        return AskedPart(image=query.image)
    if query.asset_id is not None:
        return AskedPart(asset_id=query.asset_id)
    raise InvalidQuery("a bare vector can't be drawn: ask with a text, a picture or an asset")
