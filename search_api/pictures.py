"""The pictures that are served: thumbnails and previews without any metadata, and originals as they came."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from phosphene.assemble import Engine
from phosphene.blobs import generation_key, original_key, preview_key, thumbnail_key
from phosphene.catalog.generation_records import Generation, GenerationPicture
from phosphene.catalog.records import Asset
from phosphene.errors import DamagedData, NotFound
from phosphene.images import PREVIEW_SIDE, THUMBNAIL_SIDE

ORIGINAL_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "avif": "image/avif",
}
FOREVER = "private, max-age=31536000, immutable"  # Cache-Control of pictures: their addresses name what never changes
_SUFFIXES = {"jpeg": "jpg", "tiff": "tif"}
_MAX_NAME = 80


class Size(StrEnum):
    """Which form of a picture."""

    THUMBNAIL = "thumbnail"
    PREVIEW = "preview"
    ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class Served:
    """Bytes, and what a browser is told of them."""

    data: bytes
    media_type: str
    disposition: str


def etag(asset: Asset, size: Size) -> str:
    """Name the bytes: an asset's picture never changes, since its id comes from them."""
    return f'"{asset.sha256[:32]}-{size}"'


def picture_of(asset: Asset, size: Size, *, engine: Engine) -> Served:
    """Give a picture; a thumbnail or preview that isn't stored is made in the decoder pool, and stored.

    An original may carry GPS positions and comments. It is the owner's own file, so it is given out unchanged, but only
    as a download: pages show the other two, which carry no metadata. Raises DamagedData where the original is gone.
    """
    if size is Size.ORIGINAL:
        kind = ORIGINAL_TYPES.get(asset.format, "application/octet-stream")
        name = _file_name(asset, _SUFFIXES.get(asset.format, asset.format))
        return Served(_original(asset, engine), kind, f"attachment; {name}")
    key = thumbnail_key(asset.sha256) if size is Size.THUMBNAIL else preview_key(asset.sha256)
    try:
        data = engine.blobs.get(key)
    except NotFound:
        side = THUMBNAIL_SIDE if size is Size.THUMBNAIL else PREVIEW_SIDE
        data = engine.decoders.resize(_original(asset, engine), side=side).result()
        engine.blobs.put(key, data)
    return Served(data, _media_type(data), f"inline; {_file_name(asset, 'jpg')}")


def generated_picture(generation: Generation, picture: GenerationPicture, *, engine: Engine) -> Served:
    """Give a picture that a model drew. Raises DamagedData where its file is gone."""
    number = f"-{picture.place}" if len(generation.pictures) > 1 else ""
    name = f"phosphene-{generation.id}{number}.{picture.format}"
    try:
        data = engine.blobs.get(generation_key(generation.id, picture.sha256, picture.format))
    except NotFound as error:
        message = f"picture {picture.place} of generation {generation.id} is gone from the blob store"
        raise DamagedData(message) from error
    return Served(data, ORIGINAL_TYPES[picture.format], f'inline; filename="{name}"')


def _original(asset: Asset, engine: Engine) -> bytes:
    try:
        return engine.blobs.get(original_key(asset.sha256))
    except NotFound as error:
        message = f"the file of asset {asset.id} is gone from the blob store: run phosphene verify --repair"
        raise DamagedData(message) from error


def _media_type(data: bytes) -> str:
    """Tell what our own decoder wrote."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"


def _file_name(asset: Asset, suffix: str) -> str:
    """Name a download after the title, in both forms of RFC 6266."""
    title = unicodedata.normalize("NFC", asset.title or "")
    plain = re.sub(r"[^\w .,'()-]+", "_", title).strip(" ._")[:_MAX_NAME].strip(" ._") or str(asset.id)
    name = f"{plain}.{suffix}"
    ascii_name = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name)}"
