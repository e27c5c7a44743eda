"""Pictures, and changes to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phosphene.attributes import PLACES, Attributes
from phosphene.catalog.records import Asset, AssetState
from phosphene.oklab import COLOUR_NAMES
from search_api.schemas.values import Body, MetadataIn, Title


class PaletteColourOut(BaseModel):
    """One colour of a picture."""

    name: str = Field(description=f"one of {', '.join(COLOUR_NAMES)}", examples=["orange"])
    hex: str = Field(examples=["#ff8800"])
    share: float = Field(description="of the picture's pixels, 0..1")


class AttributesOut(BaseModel):
    """What was told from the pixels, and can be filtered by: see GET /v1/fields."""

    palette: list[PaletteColourOut] = Field(description="at most six colours, by share")
    colours: list[str] = Field(description="their names, by share", examples=[["white", "orange"]])
    main_colour: str | None = Field(description="of these; plain ground is left out", examples=["orange"])
    isolated: bool = Field(description="a subject on plain ground")
    ground: str | None = Field(description="colour of that ground", examples=["#ffffff"])
    copy_space: list[str] = Field(description=f"where there is room for text: {', '.join(PLACES)}")
    black_and_white: bool
    transparent: bool
    sharpness: float = Field(description="0..1, of the sharpest part; photographs out of focus are below 0.4 or so")


class AssetOut(BaseModel):
    """A picture and what is known about it."""

    asset_id: UUID
    title: str | None
    metadata: dict[str, Any] = Field(description="the fields that its source gave", examples=[{"year": 2008}])
    width: int = Field(description="pixels, as one looks at it")
    height: int
    orientation: Literal["landscape", "portrait", "square"]
    format: str = Field(examples=["jpeg"])
    bytes: int
    added_at: datetime
    generated: bool = Field(description="drawn by a model, and accepted by somebody")
    attributes: AttributesOut | None = Field(
        None, description="null: ingested by an older Phosphene; `phosphene verify --repair` fills it in"
    )
    auto_keywords: dict[str, float | None] = Field(
        default_factory=dict,
        description="words that the model gave it (POST /v1/keywords) -> probability; null: not calibrated",
        examples=[{"fruit": 0.81, "food": 0.64}],
    )
    probe_labels: dict[str, float] = Field(
        default_factory=dict, description="labels learned from examples (POST /v1/probes) -> probability"
    )
    state: AssetState = Field(description="registered: waiting for its embedding; indexed: searchable; failed")
    image_url: str = Field(description="a preview of at most 1024 pixels a side")
    thumbnail_url: str = Field(description="at most 256 pixels a side")
    original_url: str = Field(description="the file as it came in, as a download")

    @classmethod
    def of(cls, asset: Asset) -> Self:
        """Show an asset."""
        return cls(**asset_fields(asset))


class AssetList(BaseModel):
    """Pictures of the catalogue."""

    assets: list[AssetOut]
    next_after: UUID | None = Field(description="pass it as `after` for more; null at the end")


class AssetChange(Body):
    """New title or metadata; what is left out stays. Metadata is replaced as a whole."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"title": "Sleeping cat", "metadata": {"category": "animals"}}]}
    )

    title: Title | None = None
    metadata: MetadataIn | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            msg = "name a title or metadata to change"
            raise ValueError(msg)
        return self


def picture_url(asset: UUID, size: str) -> str:
    """Give the address of a picture."""
    return f"/v1/assets/{asset}/image?size={size}"


def asset_fields(asset: Asset) -> dict[str, Any]:
    """Give what AssetOut shows."""
    return {
        "asset_id": asset.id,
        "title": asset.title,
        "metadata": asset.metadata,
        "width": asset.width,
        "height": asset.height,
        "orientation": asset.orientation,
        "format": asset.format,
        "bytes": asset.bytes,
        "added_at": asset.added_at,
        "generated": asset.generated,
        "attributes": None if asset.attributes is None else _attribute_fields(asset.attributes),
        "auto_keywords": dict(asset.labels.keywords),
        "probe_labels": dict(asset.labels.probes),
        "state": asset.state,
        "image_url": picture_url(asset.id, "preview"),
        "thumbnail_url": picture_url(asset.id, "thumbnail"),
        "original_url": picture_url(asset.id, "original"),
    }


def _attribute_fields(attributes: Attributes) -> dict[str, Any]:
    return {
        **attributes.as_json(),
        "colours": attributes.colours,
        "main_colour": attributes.main_colour,
        "isolated": attributes.isolated,
    }
