"""Pictures that need no pixels: the catalogue keeps only facts about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from phosphene.catalog.records import NewAsset, Orientation
from phosphene.types import DEFAULT_TENANT, AssetId, Metadata, PixelSpec, Sha256, Space, asset_id, sha256_of

SPACE = Space("starter", 8, Sha256("1" * 64), PixelSpec(size=32))
OTHER_SPACE = Space("ViT-B-32/laion2b", 16, Sha256("2" * 64), PixelSpec(size=224))
NEVER = Space("never recorded", 8, Sha256("3" * 64), PixelSpec(size=32))


@dataclass(frozen=True, slots=True)
class Facts:
    """What decoding would have found out."""

    sha256: Sha256
    width: int = 640
    height: int = 480
    orientation: Orientation = "landscape"
    format: str = "jpeg"
    bytes: int = 12345
    phash: str = "00ff00ff00ff00ff"


@dataclass(frozen=True, slots=True)
class Picture:
    """Says what a test is about: content and place."""

    content: str
    place: str
    title: str | None = None
    metadata: Metadata = field(default_factory=dict)
    fingerprint: str | None = "1-1"

    def new(self) -> NewAsset:
        sha256 = sha256_of(self.content.encode())
        return NewAsset(Facts(sha256), f"file:///{self.place}", self.fingerprint, self.title, self.metadata)


def new(content: str, place: str | None = None, title: str | None = None, **metadata: object) -> NewAsset:
    """Make a picture of some content at a place."""
    return Picture(content, place or f"{content}.jpg", title, metadata).new()  # type: ignore[arg-type]  # values of tests


def id_of(content: str) -> AssetId:
    return asset_id(DEFAULT_TENANT, sha256_of(content.encode()))
