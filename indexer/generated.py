"""A generated picture that somebody wants to keep becomes an asset like any other, marked as generated."""

from __future__ import annotations

from indexer.uploads import add_asset
from phosphene.assemble import Engine
from phosphene.blobs import generation_key
from phosphene.catalog.generation_records import GenerationState
from phosphene.catalog.records import Asset
from phosphene.errors import InvalidInput, NotFound
from phosphene.jobs import Jobs
from phosphene.types import GenerationId, TenantId


def accept_picture(
    tenant: TenantId,
    id: GenerationId,  # noqa: A002  the field's word for it
    place: int,
    *,
    engine: Engine,
    title: str | None = None,
    jobs: Jobs | None = None,
) -> Asset:
    """Take a generated picture into the catalogue, where searches find it; its title is the prompt if none is given.

    Accepting it again changes nothing. Raises NotFound, and InvalidInput for a generation without pictures.
    """
    generation = engine.catalog.generations.one(tenant, id)
    if generation.state is not GenerationState.FINISHED:
        raise InvalidInput(f"generation {id} is {generation.state}: there is nothing to accept")
    if not 0 <= place < len(generation.pictures):
        raise NotFound(f"generation {id} has pictures 0..{len(generation.pictures) - 1}, not {place}")
    picture = generation.pictures[place]
    if picture.asset_id is not None:
        known = engine.catalog.assets(tenant, [picture.asset_id])
        if known:
            return known[picture.asset_id]
    data = engine.blobs.get(generation_key(id, picture.sha256, picture.format))
    registered = add_asset(
        data,
        engine=engine,
        tenant=tenant,
        uri=f"generation:{id}/{place}",
        title=title or generation.prompt,
        generated=True,
        jobs=jobs,
    )
    engine.catalog.generations.accept(tenant, id, place, registered.asset_id)
    return engine.catalog.asset(tenant, registered.asset_id)
