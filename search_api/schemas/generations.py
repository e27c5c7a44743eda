"""Pictures to be imagined, and those that were."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phosphene.catalog.generation_records import Generation, GenerationPicture, GenerationState
from phosphene.generation.asked import MAX_PROMPT, AskedPart, GenerationRequest, SamplingChoice, parse_size
from phosphene.types import AssetId
from phosphene.unclip.base import MAX_CANDIDATES, MAX_DRAFTS, MAX_GUIDANCE, MAX_REFINEMENTS, MAX_STEPS
from phosphene.unclip.imagine import MAX_IMAGES, MAX_PARTS, MAX_SEED, Edit
from search_api.schemas.values import Body, PictureBytes, Text, Title

TRAINED_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

Caption = Annotated[Text, Field(min_length=1, max_length=MAX_PROMPT, pattern=r"\S")]
Steps = Annotated[int, Field(ge=2, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=1, le=MAX_GUIDANCE)]
_SOURCES = ("text", "image", "asset_id")


class PartIn(Body):
    """One of several captions and pictures to blend: exactly one of text, image and asset_id."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"oneOf": [{"required": [name]} for name in _SOURCES]})

    text: Caption | None = None
    image: PictureBytes | None = Field(None, description="a picture file as base64, with or without a data: prefix")
    asset_id: UUID | None = None
    weight: float = Field(1.0, gt=0, le=1000, description="its share, relative to the weights of the others")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _require_one(self, _SOURCES)
        return self

    def to_part(self) -> AskedPart:
        """Make the part."""
        asset = AssetId(self.asset_id) if self.asset_id is not None else None
        return AskedPart(text=self.text, image=self.image, asset_id=asset, weight=self.weight)


class EditIn(Body):
    """A change by two captions: the text diff of Ramesh et al. 2022, section 3.3."""

    before: Caption = Field(description="what the picture shows", examples=["a house in summer"])
    after: Caption = Field(description="what it shall show", examples=["a house in the snow"])
    theta: float = Field(0.35, ge=0, le=1, description="how far to go; 0 changes nothing")

    def to_edit(self) -> Edit:
        """Make the edit."""
        return Edit(self.before, self.after, self.theta)


class SamplingIn(Body):
    """How the diffusion models are run; what is left out is as the generator does best."""

    prior_steps: Steps | None = None
    prior_guidance: Guidance | None = Field(None, description="1 is none; more follows the caption more closely")
    candidates: int | None = Field(
        None, ge=1, le=MAX_CANDIDATES, description="embeddings the prior draws; the one nearest to the caption is kept"
    )
    decoder_steps: Steps | None = None
    decoder_guidance: Guidance | None = None
    super_resolution_steps: Steps | None = None
    drafts: int | None = Field(
        None, ge=1, le=MAX_DRAFTS, description="small pictures drawn for each one, the best is kept; the starter's only"
    )
    refinements: int | None = Field(
        None,
        ge=0,
        le=MAX_REFINEMENTS,
        description="times that drafts are drawn again from the best one, noised half-way",
    )


class GenerateRequest(Body):
    """A picture to imagine: exactly one of text, image and asset_id (variations), and parts (a blend)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"text": "a red bus in the snow", "seed": 7},
                {"asset_id": "0d8d6f4c-2f0e-5c0b-9a53-3f1d5a7e2b10", "images": 4},
                {
                    "parts": [
                        {"text": "a lighthouse", "weight": 2},
                        {"asset_id": "0d8d6f4c-2f0e-5c0b-9a53-3f1d5a7e2b10"},
                    ]
                },
                {"text": "a house", "edit": {"before": "a house in summer", "after": "a house in the snow"}},
            ],
            "oneOf": [{"required": [name]} for name in (*_SOURCES, "parts")],
        },
    )

    text: Caption | None = Field(None, description="what to draw", examples=["a red bus in the snow"])
    image: PictureBytes | None = Field(None, description="draw variations of this picture file, sent as base64")
    asset_id: UUID | None = Field(None, description="draw variations of this picture of the catalogue")
    parts: list[PartIn] | None = Field(
        None, min_length=1, max_length=MAX_PARTS, description="captions and pictures to blend into one"
    )
    edit: EditIn | None = Field(None, description="change what was composed, before it is drawn")
    images: int = Field(1, ge=1, le=MAX_IMAGES, description="how many; picture i is drawn with seed + i")
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED - MAX_IMAGES,
        description="the same request and seed give the stored pictures again; null: at random",
    )
    size: str | None = Field(
        None,
        pattern=r"^[1-9]\d{0,3}x[1-9]\d{0,3}$",
        description="width x height in pixels; null: the generator's own",
        examples=["128x128"],
    )
    sampling: SamplingIn = Field(default_factory=SamplingIn)
    negative: Caption | None = Field(None, description="what the pictures should not show")
    format: Literal["png", "webp"] = Field("png", description="png keeps every bit; webp is smaller")
    withhold_prompt: bool = Field(
        default=False, description="keep the captions out of the pictures' metadata, and forget them when done"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _require_one(self, (*_SOURCES, "parts"))
        return self

    def to_asked(self) -> GenerationRequest:
        """Make the request. Raises InvalidInput for what no generator does."""
        single = PartIn(text=self.text, image=self.image, asset_id=self.asset_id) if self.parts is None else None
        parts = [single] if single is not None else self.parts or []
        return GenerationRequest(
            parts=tuple(part.to_part() for part in parts),
            edit=self.edit.to_edit() if self.edit is not None else None,
            images=self.images,
            seed=self.seed,
            size=parse_size(self.size) if self.size is not None else None,
            sampling=SamplingChoice(**self.sampling.model_dump()),
            negative=self.negative,
            format=self.format,
            withhold_prompt=self.withhold_prompt,
        )


def _require_one(body: BaseModel, names: tuple[str, ...]) -> None:
    given = [name for name in names if getattr(body, name) is not None]
    if len(given) != 1:
        said = f"{' and '.join(given)} at once" if given else "none of them"
        msg = f"give exactly one of {', '.join(names)}, not {said}"
        raise ValueError(msg)


class StepsOut(BaseModel):
    """How far the drawing is."""

    stage: str = Field(examples=["prior", "decoder", "super_resolution"])
    step: int
    of: int


class ParentOut(BaseModel):
    """A picture of the catalogue that went into it."""

    asset_id: UUID
    weight: float


class GeneratedPictureOut(BaseModel):
    """A picture that was drawn."""

    index: int
    seed: int
    width: int
    height: int
    format: Literal["png", "webp"]
    sha256: str
    image_url: str
    asset_id: UUID | None = Field(description="the asset it became when somebody accepted it")


class GenerationOut(BaseModel):
    """Pictures that a model drew, or is to draw. They are in no catalogue and found by no search unless accepted."""

    id: UUID
    status: GenerationState
    prompt: str | None = Field(description="its captions; null where it has none, or where they are withheld")
    seed: int
    images: int = Field(description="how many pictures")
    request: dict[str, Any] = Field(description="what was asked for")
    model: str | None = Field(description="what drew it; null until done")
    weights_sha256: str | None
    parents: list[ParentOut]
    pictures: list[GeneratedPictureOut] = Field(description="empty until finished")
    progress: StepsOut | None = Field(description="the last step done, while running")
    preview: str | None = Field(
        description="data: URL of a small picture of how it looks so far, while running; not in lists"
    )
    cancel_asked: bool = Field(description="it is under way, and is to stop after its next step")
    error: str | None = Field(description="why it failed")
    attempts: int = Field(description="above 1 where a worker died over it")
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    digital_source_type: str = Field(
        TRAINED_MEDIA, description="IPTC: made by a trained model; each picture's XMP says so as well"
    )

    @classmethod
    def of(cls, generation: Generation, *, preview: bool = True) -> Self:
        """Show a generation; `preview`: with how it looks so far."""
        progress = generation.progress
        return cls(
            id=generation.id,
            status=generation.state,
            prompt=generation.prompt,
            seed=generation.seed,
            images=generation.images,
            request=dict(generation.request),
            model=generation.model,
            weights_sha256=generation.weights_sha256,
            parents=[ParentOut(asset_id=parent.asset_id, weight=parent.weight) for parent in generation.parents],
            pictures=[_picture(generation, picture) for picture in generation.pictures],
            progress=StepsOut(stage=progress.stage, step=progress.step, of=progress.of) if progress else None,
            preview=_data_url(generation.preview) if preview and generation.preview else None,
            cancel_asked=generation.cancel_asked,
            error=generation.error,
            attempts=generation.attempts,
            queued_at=generation.queued_at,
            started_at=generation.started_at,
            finished_at=generation.finished_at,
        )

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status.ended


class GenerationList(BaseModel):
    """Generations, newest first."""

    generations: list[GenerationOut]
    next_before: UUID | None = Field(description="pass it as `before` for older ones; null at the end")


class AcceptRequest(Body):
    """Take a picture into the catalogue."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"index": 0, "title": "Red bus"}]})

    index: int = Field(0, ge=0, lt=MAX_IMAGES, description="which of its pictures")
    title: Title | None = Field(None, description="null: its captions")


class OfferOut(BaseModel):
    """What a search had drawn, or why it had not."""

    id: UUID | None = Field(description="of GET /v1/generations/{id}; null where it was refused")
    status: Literal["queued", "running", "finished", "failed", "cancelled", "refused"]
    detail: str | None = Field(description="why it was refused or failed")


def _picture(generation: Generation, picture: GenerationPicture) -> GeneratedPictureOut:
    return GeneratedPictureOut(
        index=picture.place,
        seed=picture.seed,
        width=picture.width,
        height=picture.height,
        format=picture.format,
        sha256=picture.sha256,
        image_url=f"/v1/generations/{generation.id}/image?index={picture.place}",
        asset_id=picture.asset_id,
    )


def _data_url(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
