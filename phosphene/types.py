"""The words of the house: ids, spaces, embeddings, fields."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Literal, NewType
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict  # that of typing can't be read by Pydantic before Python 3.12

from phosphene.errors import InvalidInput, SpaceMismatch

AssetId = NewType("AssetId", UUID)
PointId = NewType("PointId", UUID)
IngestId = NewType("IngestId", UUID)
GenerationId = NewType("GenerationId", UUID)
ReindexId = NewType("ReindexId", UUID)
CollectionId = NewType("CollectionId", UUID)
ShareId = NewType("ShareId", UUID)
TenantId = NewType("TenantId", str)
Sha256 = NewType("Sha256", str)  # 64 lower-case hex digits
SpaceId = NewType("SpaceId", str)

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]  # (height, width, 3) or (n, height, width, 3), RGB

DEFAULT_TENANT = TenantId("default")

_NAMESPACE = UUID("6f6d1c9e-5d0b-5c7a-9a53-3f1d5a7e2b10")
_UNIT_TOLERANCE = 1e-3


def asset_id(tenant: TenantId, sha256: Sha256) -> AssetId:
    """Give the id of a picture of a tenant: the same bytes are always the same asset."""
    return AssetId(uuid5(_NAMESPACE, f"asset/{tenant}/{sha256}"))


def point_id(asset: AssetId, space: SpaceId) -> PointId:
    """Give the id of an asset's point in a space, so that a retry overwrites and never duplicates."""
    return PointId(uuid5(_NAMESPACE, f"point/{asset}/{space}"))


def sha256_of(data: bytes) -> Sha256:
    """Hash bytes."""
    return Sha256(hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """How an encoder wants its pictures: what open_clip's own preprocessing would do to an RGB picture.

    `mean` and `std` are per channel, for pixels in 0..1.
    """

    size: int  # both sides, pixels
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill: int = 0  # 0..255, the padding of "longest"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Space:
    """One encoder with exact weights. Embeddings of two spaces can't be compared."""

    model: str  # what the user asked for, e.g. "starter" or "ViT-B-32/laion2b_s34b_b79k"
    dimension: int
    weights_sha256: Sha256
    pixels: PixelSpec

    @property
    def id(self) -> SpaceId:
        """A name fit for a collection or a folder: the model and 12 digits that fix weights and preprocessing."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.model.lower()).strip("-")[:40].strip("-") or "model"
        exact = json.dumps([self.weights_sha256, self.dimension, asdict(self.pixels)], sort_keys=True)
        return SpaceId(f"{slug}-{hashlib.sha256(exact.encode()).hexdigest()[:12]}")


def _check_rows(rows: Float32, space: Space) -> None:
    if rows.ndim != 2 or rows.shape[1] != space.dimension:
        msg = f"embeddings of {space.id} have shape (n, {space.dimension}), not {rows.shape}"
        raise InvalidInput(msg)
    if rows.dtype != np.float32:
        msg = f"embeddings are float32, not {rows.dtype}"
        raise InvalidInput(msg)
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))[:5].tolist()
        msg = f"embeddings must be finite; rows {bad} are not"
        raise InvalidInput(msg)


@dataclass(frozen=True, slots=True, eq=False)
class RawEmbeddings:
    """Embeddings as the model gives them: rows (n, d) float32 of any length. unCLIP wants these."""

    space: Space
    rows: Float32

    def __post_init__(self) -> None:
        """Refuse what is not (n, d) finite float32."""
        _check_rows(self.rows, self.space)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def norms(self) -> Float32:
        """Lengths of the rows, (n,) float32, > 0 for any real model."""
        return np.asarray(np.linalg.norm(self.rows, axis=1), dtype=np.float32)

    def unit(self) -> UnitEmbeddings:
        """Scale each row to length 1. Raises InvalidInput where a row has no direction (length 0)."""
        norms = self.norms
        if (norms == 0).any():
            msg = f"rows {np.flatnonzero(norms == 0)[:5].tolist()} have length 0 and so no direction"
            raise InvalidInput(msg)
        return UnitEmbeddings(self.space, np.asarray(self.rows / norms[:, None], dtype=np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class UnitEmbeddings:
    """Embeddings of length 1: rows (n, d) float32. Vector indexes hold these."""

    space: Space
    rows: Float32

    def __post_init__(self) -> None:
        """Refuse what is not (n, d) finite float32 of length 1."""
        _check_rows(self.rows, self.space)
        if len(self.rows) and np.abs(np.linalg.norm(self.rows, axis=1) - 1).max() > _UNIT_TOLERANCE:
            msg = "unit embeddings have rows of length 1; call RawEmbeddings.unit() first"
            raise InvalidInput(msg)

    def __len__(self) -> int:
        return len(self.rows)

    def cosines(self, other: UnitEmbeddings) -> Float32:
        """Cosine of each row with each row of other: (n, m) float32, -1..1. Raises SpaceMismatch."""
        if self.space.id != other.space.id:
            msg = f"embeddings of {self.space.id} and {other.space.id} can't be compared: embed both with one model"
            raise SpaceMismatch(msg)
        return np.asarray(self.rows @ other.rows.T, dtype=np.float32)

    def raw(self, norms: Float32) -> RawEmbeddings:
        """Undo `RawEmbeddings.unit`: norms is (n,)."""
        return RawEmbeddings(self.space, np.asarray(self.rows * norms[:, None], dtype=np.float32))


class Modality(StrEnum):
    """What a question is made of: decisions about matches are calibrated for each, since their cosines differ."""

    TEXT = "text"
    IMAGE = "image"


class GenerateMode(StrEnum):
    """When a search has a picture made."""

    NEVER = "never"
    WHEN_UNMATCHED = "when_unmatched"
    ALWAYS = "always"


class FieldKind(StrEnum):
    """What values a metadata field holds. Dates are ISO 8601 strings; keyword fields may hold lists."""

    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    TEXT = "text"  # stored and shown, not filterable but by `exists`
    GEO = "geo"  # a place on earth


class Place(TypedDict):
    """A point on earth in degrees (WGS 84): lat -90..90, lon -180..180."""

    lat: float
    lon: float


FieldValue = str | int | float | bool | list[str] | Place | None
Metadata = dict[str, FieldValue]

FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Field:
    """A field that filters may name."""

    name: str
    kind: FieldKind
    description: str | None = field(default=None, compare=False)
    facet: bool | None = field(default=None, compare=False)  # whether it is offered for counting; None: as its kind is

    @property
    def is_facet(self) -> bool:
        """Whether its values are counted where that is asked for."""
        return self.kind not in _UNCOUNTED and self.facet is not False


_UNCOUNTED = (FieldKind.TEXT, FieldKind.GEO)

# Known of the picture itself; a manifest can't set them.
SYSTEM_FIELDS = (
    Field("width", FieldKind.INTEGER),
    Field("height", FieldKind.INTEGER),
    Field("megapixels", FieldKind.FLOAT),
    Field("orientation", FieldKind.KEYWORD),  # landscape, portrait, square
    Field("aspect", FieldKind.FLOAT),  # width over height
    Field("colours", FieldKind.KEYWORD),  # names; these and what follows to sharpness: phosphene.attributes
    Field("main_colour", FieldKind.KEYWORD),
    Field("palette", FieldKind.KEYWORD, facet=False),  # phosphene.oklab.step_of; asked for as {"colour": "#ff8800"}
    Field("isolated", FieldKind.BOOL),
    Field("copy_space", FieldKind.KEYWORD),  # left, right, top, bottom, centre
    Field("black_and_white", FieldKind.BOOL),
    Field("transparent", FieldKind.BOOL),
    Field("sharpness", FieldKind.FLOAT),  # 0..1
    Field("format", FieldKind.KEYWORD),  # jpeg, png, webp, gif, tiff, bmp, avif
    Field("bytes", FieldKind.INTEGER),
    Field("added_at", FieldKind.DATETIME),
    Field("generated", FieldKind.BOOL),  # imagined, and accepted into the catalogue
    Field("auto_keywords", FieldKind.KEYWORD),  # words that the model says of it
    Field("probe_labels", FieldKind.KEYWORD),  # labels learned from examples
    Field("moderation", FieldKind.KEYWORD),  # flagged, approved, rejected
)
# Keys of a point's payload that only code sets.
RESERVED_NAMES = frozenset({field.name for field in SYSTEM_FIELDS} | {"tenant", "asset_id", "title"})
