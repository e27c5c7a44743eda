"""Asking for pictures: check, keep, hand to a worker. And changing one's mind."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

from phosphene.assemble import Engine
from phosphene.blobs import GENERATION_INPUTS, GENERATIONS, generation_input_key, generation_key
from phosphene.catalog.generation_records import Generation, GenerationState, NewGeneration
from phosphene.errors import NotFound, PhospheneError
from phosphene.generation.asked import GenerationRequest, key_of, to_json, without_prompts
from phosphene.generation.guard import prompt_hash
from phosphene.jobs import JobName, Jobs
from phosphene.types import GenerationId, TenantId

_SEEDS = 2**32  # drawn at random; short enough to be read out

log = logging.getLogger(__name__)


def request_generation(
    request: GenerationRequest, *, engine: Engine, tenant: TenantId, jobs: Jobs | None
) -> Generation:
    """Have pictures imagined by a worker; without `jobs` the caller runs `run_generation`.

    The same request with the same seed gives the generation that is kept already, finished or not, as long as its
    generator has the same weights.

    Raises Blocked by the guard rails, NotFound for parents, PictureError for uploads, ModelNotFound where the generator
    is not here, Overloaded by the budget or a queue, Unavailable. Then nothing is kept.
    """
    engine.guard.check_prompts(request.prompts)
    identity = engine.generator_identity()
    _require_parents(request, engine, tenant)
    _require_pictures(request, engine)
    request = replace(request, seed=secrets.randbelow(_SEEDS) if request.seed is None else request.seed)
    written = to_json(request)
    id_ = GenerationId(uuid4())
    new = NewGeneration(
        id=id_,
        key=key_of(written, generator=identity),
        generator=engine.generator_name,
        request=without_prompts(written) if request.withhold_prompt else written,
        withheld=written if request.withhold_prompt else None,
        prompt=request.prompt,
        seed=request.seed or 0,
        images=request.images,
        parents=request.parents,
        preparer=f"{engine.owner}/preparing/{id_}" if request.uploads else None,
    )
    generation, is_new = _keep(new, engine, tenant)
    if is_new:
        hashed = "withheld" if request.withhold_prompt else prompt_hash(request.whole_prompt or "")
        log.info("generation %s of %d pictures asked for, prompt %s", id_, request.images, hashed)
        _hand_on(generation, request, new.preparer, engine, jobs)
    return generation


def _require_parents(request: GenerationRequest, engine: Engine, tenant: TenantId) -> None:
    ids = [parent.asset_id for parent in request.parents]
    known = engine.catalog.assets(tenant, ids) if ids else {}
    missing = [str(id_) for id_ in ids if id_ not in known]
    if missing:
        raise NotFound(f"no asset {', '.join(missing)}")


def _require_pictures(request: GenerationRequest, engine: Engine) -> None:
    for one in [engine.decoders.decode(data, spec=None, thumbnail=False) for data in request.uploads.values()]:
        one.result()


def _keep(new: NewGeneration, engine: Engine, tenant: TenantId) -> tuple[Generation, bool]:
    """Write the row; a finished one whose pictures are gone from the blob store makes way."""
    per_day, queue = engine.settings.generations_per_day, engine.settings.generation_queue
    generation, is_new = engine.catalog.generations.add(tenant, new, per_day=per_day, queue=queue)
    if not is_new and not _has_pictures(generation, engine):
        engine.catalog.generations.forget(generation.id)
        generation, is_new = engine.catalog.generations.add(tenant, new, per_day=per_day, queue=queue)
    return generation, is_new


def _has_pictures(generation: Generation, engine: Engine) -> bool:
    keys = [generation_key(generation.id, one.sha256, one.format) for one in generation.pictures]
    return all(engine.blobs.exists(key) for key in keys)


def _hand_on(
    generation: Generation, request: GenerationRequest, preparer: str | None, engine: Engine, jobs: Jobs | None
) -> None:
    """Put the uploads in place and tell a worker; whatever fails, nothing is left behind."""
    owner = preparer
    try:
        if preparer is not None:
            uploads = {generation_input_key(generation.id, number): data for number, data in request.uploads.items()}
            engine.blobs.put_many(uploads)
            engine.catalog.generations.release(generation.id, owner=preparer)
            owner = None
        if jobs is not None:
            jobs.send(JobName.GENERATE, {"generation_id": str(generation.id)})
    except BaseException as error:
        reason = str(error) if isinstance(error, PhospheneError) else type(error).__name__
        try:
            engine.catalog.generations.fail(generation.id, owner=owner, error=f"it could not be queued: {reason}")
            clear_away([generation.id], engine)
        except PhospheneError as trouble:  # what went wrong first is told; the sweep ends the row
            log.warning("generation %s can't be cleared away now: %s", generation.id, trouble)
        raise


def cancel_generation(id: GenerationId, *, engine: Engine, tenant: TenantId) -> Generation:  # noqa: A002  the field's word for it
    """Cancel what waits; ask who draws it to stop, which takes a step or two. Raises NotFound."""
    generation = engine.catalog.generations.cancel(tenant, id)
    if generation.state is GenerationState.CANCELLED:
        clear_away([id], engine)
    return generation


def clear_away(ids: Sequence[GenerationId], engine: Engine) -> None:
    """Remove what ended generations left in the blob store beside their pictures; those under way are left alone."""
    unfinished = engine.catalog.generations.unfinished(ids)
    ended = [id_ for id_ in ids if id_ not in unfinished]
    shown = engine.catalog.generations.pictures(ended)
    for id_ in ended:
        kept = {generation_key(id_, picture.sha256, picture.format) for picture in shown.get(id_, ())}
        engine.blobs.delete_below(f"{GENERATIONS}/{id_}", but=kept)
        engine.blobs.delete_below(f"{GENERATION_INPUTS}/{id_}")


def clear_inputs_away(engine: Engine) -> None:
    """Remove uploads whose generation has ended: what a process left that was killed just then."""
    ids = {GenerationId(UUID(key.split("/")[1])) for key in engine.blobs.keys(GENERATION_INPUTS)}
    if ids:
        clear_away(sorted(ids), engine)
