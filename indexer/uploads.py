"""One picture at a time: put in by upload, described anew, taken out."""

from __future__ import annotations

import numpy as np

from indexer.declared import DeclaredFields
from indexer.embedding import encode_tolerantly, renew_payloads, store
from indexer.fields import MAX_TITLE, described_fields
from phosphene.assemble import Engine
from phosphene.blobs import original_key, preview_key, thumbnail_key
from phosphene.catalog.catalog import UNSET, _Unset
from phosphene.catalog.records import Asset, NewAsset, Outcome, Registered
from phosphene.errors import InvalidInput, PictureError, PictureFault
from phosphene.images import look_in
from phosphene.jobs import JobName, Jobs, LocalJobs
from phosphene.types import AssetId, Metadata, TenantId, point_id


def add_asset(
    data: bytes,
    *,
    engine: Engine,
    tenant: TenantId,
    uri: str,
    title: str | None = None,
    metadata: Metadata | None = None,
    generated: bool = False,
    jobs: Jobs | None = None,
) -> Registered:
    """Add one picture; searchable on return, unless `jobs` reach other processes, which then embed it.

    `uri` says where it came from, e.g. upload:NAME; `generated`, that it was imagined. Raises PictureError where the
    picture can't be used or not be encoded, and InvalidInput for metadata that contradicts the declared fields.
    """
    with engine.answering() as space:
        here = jobs is None or isinstance(jobs, LocalJobs)
        decoded = engine.decoders.decode(data, spec=space.space.pixels if here else None).result()
        held = _held(engine, tenant, metadata or {})
        sha256 = decoded.info.sha256
        blobs = {original_key(sha256): data}
        if decoded.thumbnail is not None:
            blobs[thumbnail_key(sha256)] = decoded.thumbnail
        engine.blobs.put_many(blobs)
        shown = None if title is None else title[:MAX_TITLE]
        new = NewAsset(
            decoded.info,
            uri,
            None,
            shown,
            held,
            generated=generated,
            attributes=decoded.attributes,
            look=look_in(decoded.info),
        )
        (registered,) = engine.catalog.register(None, tenant, space.space.id, [new])
        id_ = registered.asset_id
        if not registered.needs_embedding:
            if registered.outcome is Outcome.UPDATED or registered.renamed:
                renew_payloads(engine, {id_: tenant}, engine.written())
        elif jobs is not None and not here:
            jobs.send(JobName.EMBED_ONLINE, {"asset_ids": [str(id_)]})
        elif decoded.pixels is not None:
            embedded = encode_tolerantly(space.encoder, decoded.pixels[np.newaxis])
            store(engine, space, {id_: tenant}, [id_], embedded)
            if embedded.failures:
                raise PictureError(PictureFault.EMBEDDING_FAILED, embedded.failures[0])
    return registered


def update_asset_metadata(
    tenant: TenantId,
    id: AssetId,  # noqa: A002  the field's word for it
    *,
    engine: Engine,
    title: str | _Unset | None = UNSET,
    metadata: Metadata | _Unset = UNSET,
) -> Asset:
    """Set title, metadata (as a whole) or both, in the catalogue and in the index; nothing is embedded again.

    Raises NotFound, and InvalidInput for values that contradict the declared fields.
    """
    engine.catalog.asset(tenant, id)  # an unknown id declares no fields
    if not isinstance(metadata, _Unset):
        metadata = _held(engine, tenant, metadata)
    asset = engine.catalog.update_asset(tenant, id, title=title, metadata=metadata)
    renew_payloads(engine, {id: tenant}, engine.written())
    return asset


def _held(engine: Engine, tenant: TenantId, metadata: Metadata) -> Metadata:
    """Bring names and values to what is declared, declaring what is new. Raises InvalidInput."""
    if not metadata:
        return {}
    fields = DeclaredFields(engine.catalog.fields(tenant), lambda new: engine.declare_fields(tenant, new))
    try:
        plain = described_fields(metadata)
        fields.learn([plain])
        return fields.hold(plain)
    except (PictureError, ValueError) as error:
        raise InvalidInput(str(error)) from error


def remove_asset(tenant: TenantId, id: AssetId, *, engine: Engine) -> Asset:  # noqa: A002  the field's word for it
    """Take a picture out: row, then point, then blobs, unless another tenant has the same picture.

    Gives what it was. Raises NotFound. Killed half-way, `phosphene verify --repair` takes the rest out.
    """
    gone = engine.catalog.delete_asset(tenant, id)
    for space in engine.written():
        with engine.spaces.while_open(space) as there:
            if there:
                space.index.delete([point_id(id, space.space.id)])
    if not engine.catalog.holders_of(gone.sha256):
        for key in (original_key(gone.sha256), thumbnail_key(gone.sha256), preview_key(gone.sha256)):
            engine.blobs.delete(key)
    return gone
