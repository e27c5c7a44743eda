"""What a point carries beside its vector: all that filters may name."""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.attributes import Attributes
from phosphene.catalog.records import Asset
from phosphene.types import FieldValue
from phosphene.vectors.base import Payload, PayloadValue
from phosphene.vectors.conditions import WORDS, utc_text
from phosphene.words.said import words_of


def payload_of(asset: Asset, uris: Sequence[str]) -> Payload:
    """Give the payload of an asset's point; `uris` are the places of its files.

    The catalogue is the truth; this is derived from it and nothing else.
    """
    computed: dict[str, PayloadValue] = {
        "tenant": asset.tenant,
        "asset_id": str(asset.id),
        "title": asset.title,
        "width": asset.width,
        "height": asset.height,
        "megapixels": round(asset.width * asset.height / 1e6, 3),
        "orientation": asset.orientation,
        "aspect": round(asset.width / asset.height, 3),
        "format": asset.format,
        "bytes": asset.bytes,
        "added_at": utc_text(asset.added_at.isoformat()),
        "generated": int(asset.generated),
        WORDS: words_of(asset, uris),
    }
    if asset.labels.keywords:
        computed["auto_keywords"] = list(asset.labels.keywords)
    if asset.labels.probes:
        computed["probe_labels"] = sorted(asset.labels.probes)
    if asset.labels.moderation:
        computed["moderation"] = str(asset.labels.moderation["state"])
    said = {name: _stored(value) for name, value in asset.metadata.items() if value is not None}
    return {**said, **computed, **_attributes(asset.attributes)}


def _attributes(attributes: Attributes | None) -> dict[str, PayloadValue]:
    if attributes is None:
        return {}
    return {
        "colours": list(attributes.colours),
        "main_colour": attributes.main_colour,
        "palette": list(attributes.steps),
        "isolated": int(attributes.isolated),
        "copy_space": list(attributes.copy_space),
        "black_and_white": int(attributes.black_and_white),
        "transparent": int(attributes.transparent),
        "sharpness": attributes.sharpness,
    }


def _stored(value: FieldValue) -> PayloadValue:
    return int(value) if isinstance(value, bool) else value
