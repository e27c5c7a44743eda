"""What is asked for, from whatever edge: checked, as JSON, and named by a key that is the same for the same request."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from uuid import UUID

from phosphene.catalog.generation_records import Parent
from phosphene.catalog.storable import storable
from phosphene.errors import InvalidInput, InvalidQuery
from phosphene.types import AssetId, Sha256, sha256_of
from phosphene.unclip.base import MAX_SIDE, Sampling, Size
from phosphene.unclip.imagine import MAX_IMAGES, MAX_PARTS, MAX_PIXELS, MAX_SEED, Edit

MAX_PROMPT = 4000  # characters; text encoders read 77 tokens of them

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AskedPart:
    """One thing to start from: words, a picture of the catalogue, or the bytes of a picture; and its weight."""

    text: str | None = None
    asset_id: AssetId | None = None
    image: bytes | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise InvalidQuery unless there is exactly one source, and a weight above 0."""
        given = [name for name in ("text", "asset_id", "image") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidQuery(
                f"a part is one of text, asset_id and image, not {' and '.join(given) or 'none of them'}"
            )
        if self.text is not None:
            _require_prompt("a text to imagine", self.text)
        if not 0 < self.weight < math.inf:
            raise InvalidQuery(f"a part's weight is above 0, not {self.weight:g}")


@dataclass(frozen=True, slots=True)
class SamplingChoice:
    """How the diffusion models are run; None: as the generator does best. Bounds are those of `Sampling`."""

    prior_steps: int | None = None
    prior_guidance: float | None = None
    candidates: int | None = None
    decoder_steps: int | None = None
    decoder_guidance: float | None = None
    super_resolution_steps: int | None = None
    drafts: int | None = None
    refinements: int | None = None

    def __post_init__(self) -> None:
        """Raise InvalidInput for what no generator can do."""
        Sampling(**self._chosen())

    def of(self, usual: Sampling) -> Sampling:
        """Give the generator's own sampling with what was chosen."""
        return replace(usual, **self._chosen())

    def _chosen(self) -> Json:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Pictures to be imagined: one part is drawn as it is, several are blended, then the edit is applied."""

    parts: tuple[AskedPart, ...]
    edit: Edit | None = None
    images: int = 1
    seed: int | None = None  # image i is drawn with seed + i; None: drawn at random, so never the same picture again
    size: Size | None = None  # None: the generator's own
    sampling: SamplingChoice = SamplingChoice()
    negative: str | None = None  # what the pictures should not show
    format: Literal["png", "webp"] = "png"
    withhold_prompt: bool = False  # kept while it is needed, shown to nobody, written into no file

    def __post_init__(self) -> None:
        """Raise InvalidQuery for what no generator can do."""
        if not 1 <= len(self.parts) <= MAX_PARTS:
            raise InvalidQuery(f"a request has 1..{MAX_PARTS} texts and pictures, not {len(self.parts)}")
        if not 1 <= self.images <= MAX_IMAGES:
            raise InvalidQuery(f"a request is for 1..{MAX_IMAGES} images, not {self.images}")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED - MAX_IMAGES:
            raise InvalidQuery(f"a seed is 0..{MAX_SEED - MAX_IMAGES}, not {self.seed}")
        if self.format not in ("png", "webp"):
            raise InvalidQuery(f"pictures come as png or webp, not {self.format}")
        if self.size is not None:
            self._require_size(self.size)
        if self.negative is not None:
            _require_prompt("the negative prompt", self.negative)
        if self.edit is not None:
            for caption in (self.edit.before, self.edit.after):
                _require_prompt("a caption of an edit", caption)

    def _require_size(self, size: Size) -> None:
        if not (1 <= size.width <= MAX_SIDE and 1 <= size.height <= MAX_SIDE):
            raise InvalidQuery(f"a side has 1..{MAX_SIDE} pixels, which {size} has not")
        if self.images * size.width * size.height > MAX_PIXELS:
            most = MAX_PIXELS // (size.width * size.height)
            raise InvalidQuery(f"{self.images} images of {size} are too many for one request: ask for at most {most}")

    @property
    def captions(self) -> tuple[str, ...]:
        """The texts of the parts, in order."""
        return tuple(part.text for part in self.parts if part.text is not None)

    @property
    def prompts(self) -> tuple[str, ...]:
        """All that says what shall be drawn: captions and those of the edit, without the negative prompt."""
        return (*self.captions, *((self.edit.before, self.edit.after) if self.edit is not None else ()))

    @property
    def prompt(self) -> str | None:
        """The prompts in one line, for showing; None where there are none, or where they are withheld."""
        return None if self.withhold_prompt else self.whole_prompt

    @property
    def whole_prompt(self) -> str | None:
        """The same, withheld or not."""
        said = [" + ".join(self.captions)] if self.captions else []
        if self.edit is not None:
            said.append(f"{self.edit.before} → {self.edit.after}")
        return "; ".join(said) or None

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The pictures of the catalogue among the parts."""
        return tuple(Parent(part.asset_id, part.weight) for part in self.parts if part.asset_id is not None)

    @property
    def uploads(self) -> dict[int, bytes]:
        """The pictures that came with the request, by the number of their part."""
        return {number: part.image for number, part in enumerate(self.parts) if part.image is not None}


def _require_prompt(what: str, text: str) -> None:
    if not text.strip():
        raise InvalidQuery(f"{what} is empty")
    if len(text) > MAX_PROMPT:
        raise InvalidQuery(f"{what} has {len(text):,} characters; at most {MAX_PROMPT:,} are read")


def to_json(request: GenerationRequest) -> Json:
    """Write a request down, with the hashes of its uploads in place of their bytes."""
    edit = request.edit
    return {
        "parts": [_part_to_json(part) for part in request.parts],
        "edit": None
        if edit is None
        else {"before": storable(edit.before), "after": storable(edit.after), "theta": float(edit.theta)},
        "images": request.images,
        "seed": request.seed,
        "size": None if request.size is None else str(request.size),
        "sampling": asdict(request.sampling),
        "negative": None if request.negative is None else storable(request.negative),
        "format": request.format,
        "withhold_prompt": request.withhold_prompt,
    }


def _part_to_json(part: AskedPart) -> Json:
    if part.text is not None:
        source: Json = {"text": storable(part.text)}
    elif part.asset_id is not None:
        source = {"asset_id": str(part.asset_id)}
    else:
        source = {"image": sha256_of(part.image or b"")}
    return {**source, "weight": float(part.weight)}


def without_prompts(written: Json) -> Json:
    """Give a written request with None in place of every prompt."""
    edit = written["edit"]
    return written | {
        "parts": [part | {"text": None} if "text" in part else part for part in written["parts"]],
        "edit": None if edit is None else edit | {"before": None, "after": None},
        "negative": None,
    }


def from_json(written: Mapping[str, Any], uploads: Mapping[int, bytes]) -> GenerationRequest:
    """Read a request back; uploads are by the number of their part. Raises InvalidInput where it can't be."""
    try:
        edit, size = written["edit"], written["size"]
        return GenerationRequest(
            parts=tuple(_part_from_json(part, uploads.get(number)) for number, part in enumerate(written["parts"])),
            edit=None if edit is None else Edit(**edit),
            images=written["images"],
            seed=written["seed"],
            size=None if size is None else parse_size(size),
            sampling=SamplingChoice(**written["sampling"]),
            negative=written["negative"],
            format=written["format"],
            withhold_prompt=written["withhold_prompt"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("the request was written by another version of Phosphene: ask again") from error


def _part_from_json(part: Mapping[str, Any], image: bytes | None) -> AskedPart:
    asset = part.get("asset_id")
    if "image" in part and image is None:
        raise InvalidInput("a picture that was uploaded for this is gone: ask again")
    return AskedPart(
        text=part.get("text"),
        asset_id=None if asset is None else AssetId(UUID(asset)),
        image=image,
        weight=part["weight"],
    )


def parse_size(text: str) -> Size:
    """Read a size like 128x128. Raises InvalidQuery."""
    width, _, height = text.lower().partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise InvalidQuery(f"a size is WIDTHxHEIGHT in pixels, like 128x128, not {text!r}")
    return Size(int(width[:9]), int(height[:9]))


def key_of(written: Json, *, generator: Mapping[str, str | None]) -> Sha256:
    """Name a written request to a generator: the same for the same pictures, whoever asks."""
    whole = json.dumps([written, dict(generator)], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return Sha256(hashlib.sha256(whole.encode()).hexdigest())
