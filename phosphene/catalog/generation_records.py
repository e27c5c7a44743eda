"""What the catalogue takes and gives of generations: frozen records that know nothing of SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from phosphene.types import AssetId, GenerationId, Sha256, TenantId


class GenerationState(StrEnum):
    """How far a generation has come."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"  # its `error` says why
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self in (GenerationState.FINISHED, GenerationState.FAILED, GenerationState.CANCELLED)


@dataclass(frozen=True, slots=True)
class GenerationPicture:
    """One picture of a generation."""

    place: int  # 0..images-1
    seed: int
    sha256: Sha256  # of its file, which phosphene.blobs.generation_key names
    width: int  # pixels
    height: int
    format: Literal["png", "webp"]
    asset_id: AssetId | None = None  # what it was accepted as


@dataclass(frozen=True, slots=True)
class Parent:
    """A picture of the catalogue that a generation starts from."""

    asset_id: AssetId
    weight: float


@dataclass(frozen=True, slots=True)
class StepsDone:
    """How far the drawing is."""

    stage: str  # prior, decoder, super_resolution
    step: int
    of: int


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """A request to be kept and carried out."""

    id: GenerationId
    key: str  # the same for the same request of anyone; phosphene.generation.asked makes it
    generator: str  # the settings' name of it
    request: Mapping[str, Any]  # as it may be shown
    withheld: Mapping[str, Any] | None  # the whole request where not all of it may be shown; forgotten at the end
    prompt: str | None
    seed: int
    images: int
    parents: tuple[Parent, ...] = ()
    preparer: str | None = None  # who still has files to put in place: nobody else takes it for PREPARE_S, or until
    # `release_generation`


@dataclass(frozen=True, slots=True)
class Generation:
    """Pictures that somebody asked for, and what became of that."""

    id: GenerationId
    tenant: TenantId
    key: str | None  # None: never the answer to the same request again, since the weights are others now
    state: GenerationState
    request: Mapping[str, Any]  # a GenerationRequest as JSON, its prompts None where they are withheld
    prompt: str | None  # the captions in one line; None where withheld, or where there are none
    seed: int
    images: int
    model: str | None  # what drew it, once it is drawn
    weights_sha256: Sha256 | None
    parents: tuple[Parent, ...]
    pictures: tuple[GenerationPicture, ...]  # once it is finished
    progress: StepsDone | None
    preview: bytes | None  # WebP, longest side at most 96 pixels; while it is running
    error: str | None
    attempts: int
    cancel_asked: bool
    queued_at: datetime  # UTC
    started_at: datetime | None
    finished_at: datetime | None
