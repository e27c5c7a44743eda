"""Embedding as a service: texts, pictures, assets and vectors of callers become unit embeddings of one space.

Nothing of it is kept. Vectors go out as numbers or, a quarter of the size, as base64 of little-endian float32.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from phosphene.assemble import Engine
from phosphene.decoding import DecodedPicture
from phosphene.errors import InvalidInput, InvalidQuery, PictureError, SpaceMismatch
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, Float32, TenantId, UnitEmbeddings, point_id
from search_api.compose import checked_vector
from search_api.question import Numbers, normalised_text

MAX_MEGAPIXELS = 400  # that the pictures of a request have together: a minute of a core
_AT_ONCE = 8  # pictures


class Encoding(StrEnum):
    """How vectors and scores are written."""

    FLOAT = "float"
    BASE64 = "base64"  # of little-endian float32, row by row


@dataclass(frozen=True, slots=True, eq=False)
class Embeddable:
    """One thing to embed: exactly one of text, image (a picture file), asset_id and vector (d,).

    `name` says which one it is when something is wrong with it, as `left.3`.
    """

    name: str
    text: str | None = None
    image: bytes | None = None
    asset_id: AssetId | None = None
    vector: Numbers | None = None
    space: str | None = None  # that the vector is of, as far as its owner says

    def __post_init__(self) -> None:
        """Refuse what is not one thing. Raises InvalidQuery."""
        if sum(part is not None for part in (self.text, self.image, self.asset_id, self.vector)) != 1:
            raise InvalidQuery(f"{self.name}: give exactly one of text, image, asset_id and vector")


def embed_all(asked: Sequence[Embeddable], space: OpenSpace, *, engine: Engine, tenant: TenantId) -> UnitEmbeddings:
    """Embed things of any kind, in their order: (n, d). Each kind takes one batch, each asset once.

    Raises InvalidInput (more than MAX_MEGAPIXELS among them), InvalidQuery, SpaceMismatch, PictureError and NotFound
    (asset_id), all of which say which one it was.
    """
    rows = np.empty((len(asked), space.space.dimension), dtype=np.float32)
    texts = [(at, _text(one)) for at, one in enumerate(asked) if one.text is not None]
    images = [(at, one) for at, one in enumerate(asked) if one.image is not None]
    assets = [(at, one) for at, one in enumerate(asked) if one.asset_id is not None]
    if texts:
        rows[[at for at, _ in texts]] = space.encoder.encode_texts([text for _, text in texts]).unit().rows
    if images:
        rows[[at for at, _ in images]] = _pictures([one for _, one in images], space, engine=engine).rows
    if assets:
        rows[[at for at, _ in assets]] = _assets([one for _, one in assets], space, engine=engine, tenant=tenant)
    for at, one in enumerate(asked):
        if one.vector is not None:
            rows[at] = _vector(one, space)
    return UnitEmbeddings(space.space, rows)


def written(rows: Float32, encoding: Encoding) -> list[list[float]] | list[str]:
    """Write each row of (n, d) as the caller wants it."""
    if encoding is Encoding.FLOAT:
        numbers: list[list[float]] = rows.tolist()
        return numbers
    return [to_base64(row) for row in rows]


def to_base64(numbers: Float32) -> str:
    """Write an array as base64 of little-endian float32, row by row."""
    return base64.b64encode(np.ascontiguousarray(numbers, dtype="<f4").tobytes()).decode()


def from_base64(text: str) -> Float32:
    """Read (n,) float32 that `to_base64` wrote. Raises InvalidInput."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"a vector as text is base64 of little-endian float32: {error}") from error
    if len(data) % 4 or not data:
        raise InvalidInput(f"a vector as base64 holds 4 bytes for each number, not {len(data)} bytes in all")
    numbers: Float32 = np.frombuffer(data, dtype="<f4").astype(np.float32)
    return numbers


def _text(one: Embeddable) -> str:
    try:
        return normalised_text(one.text or "")
    except InvalidQuery as error:
        raise InvalidQuery(f"{one.name}: {error}") from error


def _pictures(asked: Sequence[Embeddable], space: OpenSpace, *, engine: Engine) -> UnitEmbeddings:
    pixels, large = [], 0
    for start in range(0, len(asked), _AT_ONCE):
        for one, decoded in _decoded(asked[start : start + _AT_ONCE], space, engine=engine):
            large += decoded.info.width * decoded.info.height
            if large > MAX_MEGAPIXELS * 1_000_000:
                raise InvalidInput(
                    f"{one.name}: the pictures up to here have more than {MAX_MEGAPIXELS} megapixels, the most of one "
                    "request: send fewer at a time, or smaller ones"
                )
            if decoded.pixels is not None:
                pixels.append(decoded.pixels)
    return space.encoder.encode_pixels(np.stack(pixels)).unit()


def _decoded(
    asked: Sequence[Embeddable], space: OpenSpace, *, engine: Engine
) -> Iterator[tuple[Embeddable, DecodedPicture]]:
    spec = space.space.pixels
    decoding = [(one, engine.decoders.decode(one.image or b"", spec=spec, thumbnail=False)) for one in asked]
    try:
        for one, future in decoding:
            try:
                decoded = future.result()
            except PictureError as error:
                raise PictureError(error.fault, f"{one.name}: {error}") from error
            yield one, decoded
    finally:
        for _, future in decoding:
            future.cancel()


def _assets(asked: Sequence[Embeddable], space: OpenSpace, *, engine: Engine, tenant: TenantId) -> Float32:
    """Read the vectors of a tenant's own pictures: (n, d)."""
    ids = [one.asset_id for one in asked if one.asset_id is not None]
    owned = engine.catalog.assets(tenant, sorted(set(ids)))
    for id_ in ids:
        if id_ not in owned:
            engine.catalog.asset(tenant, id_)  # NotFound, also where it is another tenant's
    points = {id_: point_id(id_, space.space.id) for id_ in owned}
    vectors = space.index.vectors(list(points.values()))
    for one, id_ in zip(asked, ids, strict=True):
        if id_ not in points or points[id_] not in vectors:
            raise InvalidQuery(f"{one.name}: asset {id_} has no embedding yet: try again when its ingest has finished")
    return np.stack([vectors[points[id_]] for id_ in ids])


def _vector(one: Embeddable, space: OpenSpace) -> Float32:
    try:
        row: Float32 = checked_vector(one.vector, space.space, named_space=one.space).rows[0]
    except (InvalidQuery, SpaceMismatch) as error:
        raise type(error)(f"{one.name}: {error}") from error
    return row
