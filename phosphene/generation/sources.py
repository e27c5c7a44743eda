"""From what is asked to embeddings in the generator's CLIP space: captions stay words, pictures become rows."""

from __future__ import annotations

import numpy as np

from phosphene.assemble import Engine
from phosphene.blobs import original_key
from phosphene.encoders import Encoder
from phosphene.errors import InvalidInput, NotFound
from phosphene.generation.asked import AskedPart, GenerationRequest
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, RawEmbeddings, TenantId, UnitEmbeddings, point_id
from phosphene.unclip.base import ClipSpace
from phosphene.unclip.imagine import Part


def parts_of(request: GenerationRequest, *, engine: Engine, tenant: TenantId, clip: ClipSpace) -> tuple[Part, ...]:
    """Give the parts of a request as a generator of that CLIP space takes them.

    Raises NotFound for a picture that is gone, PictureError for one that can't be decoded, and ModelNotFound where
    pictures need an encoder that is not here.
    """
    return tuple(Part(_source(part, engine, tenant, clip), part.weight) for part in request.parts)


def _source(part: AskedPart, engine: Engine, tenant: TenantId, clip: ClipSpace) -> str | RawEmbeddings:
    if part.text is not None:
        return part.text
    if part.asset_id is not None:
        return embedding_of_asset(part.asset_id, engine=engine, tenant=tenant, clip=clip)
    return embedding_of_picture(part.image or b"", engine=engine, encoder=engine.encoder_for(clip))


def embedding_of_asset(asset_id: AssetId, *, engine: Engine, tenant: TenantId, clip: ClipSpace) -> RawEmbeddings:
    """Give a catalogue picture's raw embedding (1, d): as the index has it, or from its original.

    The index holds it at length 1 and the catalogue its length; it is embedded anew where the generator takes those of
    another encoder, or where it is not in the index yet.
    """
    asset = engine.catalog.asset(tenant, asset_id)
    encoder = engine.encoder_for(clip)
    with engine.answering() as answering:
        indexed = _indexed(asset_id, answering, engine) if encoder is answering.encoder else None
    if indexed is not None:
        return indexed
    try:
        original = engine.blobs.get(original_key(asset.sha256))
    except NotFound as error:
        raise NotFound(f"the original of the asset {asset_id} is gone from the blob store: ingest it again") from error
    return embedding_of_picture(original, engine=engine, encoder=encoder)


def _indexed(asset_id: AssetId, opened: OpenSpace, engine: Engine) -> RawEmbeddings | None:
    space = opened.space
    point = point_id(asset_id, space.id)
    vector = opened.index.vectors([point]).get(point)
    norm = engine.catalog.embedded(space.id, [asset_id]).get(asset_id)
    if vector is None or norm is None:
        return None
    return UnitEmbeddings(space, vector[np.newaxis]).raw(np.array([norm], dtype=np.float32))


def embedding_of_picture(data: bytes, *, engine: Engine, encoder: Encoder) -> RawEmbeddings:
    """Embed the bytes of a picture: (1, d). Raises PictureError."""
    decoded = engine.decoders.decode(data, spec=encoder.space.pixels, thumbnail=False).result()
    if decoded.pixels is None:
        raise InvalidInput("the decoder gave no pixels")
    return encoder.encode_pixels(decoded.pixels[np.newaxis])
