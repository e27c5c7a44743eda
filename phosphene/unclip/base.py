"""What a generator is: three operations over embeddings, what it says of itself, and how its steps are watched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NewType, Protocol

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import Cancelled, InvalidInput, SpaceMismatch
from phosphene.types import Float32, Pixels, RawEmbeddings, Sha256, Space

RawRows = NewType("RawRows", NDArray[np.float32])  # (n, d) embeddings as a generator's CLIP model gives them

MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_CANDIDATES = 64
MAX_DRAFTS = 64
MAX_REFINEMENTS = 64
MAX_SIDE = 2048  # pixels; twice what published unCLIP models were trained for, and attention needs memory as side^4


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the diffusion models are run.

    Guidance is the scale of Ho and Salimans 2022 (arXiv 2207.12598) as DALL·E 2 and Imagen write it: 1 is none, more
    follows the condition more closely. Steps are 2..1000: with a single one there is no path from noise to picture.
    """

    prior_steps: int = 25
    prior_guidance: float = 2.0
    candidates: int = 2  # embeddings that the prior draws for a caption; the one nearest to it is kept
    decoder_steps: int = 25
    decoder_guidance: float = 2.0
    super_resolution_steps: int = 7
    drafts: int = 1  # small pictures drawn for each one asked for; the best is kept. Only where the card says `drafts`
    refinements: int = 0  # times that as many drafts again are drawn from the best one, noised half-way. As drafts

    def __post_init__(self) -> None:
        """Refuse what can't be sampled."""
        for name in ("prior_steps", "decoder_steps", "super_resolution_steps"):
            if not 2 <= getattr(self, name) <= MAX_STEPS:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be 2..{MAX_STEPS}")
        for name in ("prior_guidance", "decoder_guidance"):
            if not 1 <= getattr(self, name) <= MAX_GUIDANCE:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be 1 (none) to {MAX_GUIDANCE:g}")
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise InvalidInput(f"candidates is {self.candidates}; it must be 1..{MAX_CANDIDATES}")
        if not 1 <= self.drafts <= MAX_DRAFTS:
            raise InvalidInput(f"drafts is {self.drafts}; it must be 1..{MAX_DRAFTS}")
        if not 0 <= self.refinements <= MAX_REFINEMENTS:
            raise InvalidInput(f"refinements is {self.refinements}; it must be 0..{MAX_REFINEMENTS}")


@dataclass(frozen=True, slots=True)
class ClipSpace:
    """The CLIP model whose embeddings a generator understands."""

    dimension: int
    models: tuple[str, ...]  # names of that one model, as PHOSPHENE_MODEL takes them; the first is the usual one
    space: str | None = None  # its exact id, where the weights are known
    norm: float | None = None  # about how long its raw image embeddings are; None: lengths mean nothing to the decoder

    def require(self, space: Space) -> None:
        """Raise SpaceMismatch unless embeddings of `space` are what the generator was trained on."""
        same = space.id == self.space if self.space is not None else space.model in self.models
        if not same or space.dimension != self.dimension:
            wanted = self.space or f"{self.dimension} dimensions"
            raise SpaceMismatch(
                f"this generator takes embeddings of {self.models[0]} ({wanted}), not of {space.model} ({space.id}): "
                f"embed the pictures with {self.models[0]}"
            )


@dataclass(frozen=True, slots=True)
class Size:
    """Of a picture, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class GeneratorCard:
    """What a generator says of itself."""

    layout: str  # starter, karlo, kandinsky-2.2, stable-unclip
    model: str  # the folder or hub name it was loaded from
    clip: ClipSpace
    sampling: Sampling  # what it does best with
    sizes: tuple[Size, ...]  # the default first
    size_multiple: int | None  # any size whose sides are multiples of it; None: `sizes` only
    decoder_reads_caption: bool
    decoder_reads_negative: bool  # the prior always does
    drafts: bool = False  # whether it can look at several drafts of a picture and keep the best

    def require_size(self, size: Size | None) -> Size:
        """Give the size to draw in, the default for None. Raises InvalidInput."""
        size = size or self.sizes[0]
        if max(size.width, size.height) > MAX_SIDE:
            raise InvalidInput(f"{size} pixels are too many to draw: a side is at most {MAX_SIDE}")
        step = self.size_multiple
        free = (
            step is not None and min(size.width, size.height) >= step and not (size.width % step or size.height % step)
        )
        if size not in self.sizes and not free:
            known = ", ".join(map(str, self.sizes))
            rule = f"{known}, or sides that are multiples of {step}" if step else known
            raise InvalidInput(f"{self.model} can't draw {size} pixels; it draws {rule}")
        return size


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of one stage is done."""

    stage: str  # prior, decoder, super_resolution
    step: int  # 1..of
    of: int
    preview: Pixels | None = None  # (n, h, w, 3): what the pictures look like so far, where the stage can say
    first: int = 0  # the picture of the request that the preview begins with: many pictures are drawn in batches


@dataclass(frozen=True, slots=True)
class Watch:
    """How a caller follows the steps and stops them; both functions are called in the generating thread."""

    on_step: Callable[[Progress], None] | None = None
    cancelled: Callable[[], bool] | None = None
    preview_px: int | None = None  # longest side of previews; None: no previews

    def check(self) -> None:
        """Raise Cancelled if the caller has asked to stop."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("the generation was cancelled")

    def batch(self, at: int, of: int, *, first: int) -> Watch:
        """Give the watch of one batch, at = 0..of-1, of those that go through the same stages one after the other.

        A stage's steps are counted on through all batches; first is the picture that this batch begins with.
        """
        told = self.on_step
        if told is None or of == 1:
            return self

        def tell(seen: Progress) -> None:
            told(replace(seen, step=at * seen.of + seen.step, of=of * seen.of, first=first))

        return replace(self, on_step=tell)

    def step(self, stage: str, step: int, of: int, *, preview: Callable[[int], Pixels] | None = None) -> None:
        """Tell that a step is done; preview(px) draws the pictures so far. Raises Cancelled."""
        if self.on_step is not None:
            drawn = preview(self.preview_px) if preview is not None and self.preview_px is not None else None
            self.on_step(Progress(stage, step, of, drawn))
        self.check()


def require_rows(rows: RawRows, dimension: int) -> RawRows:
    """Give embeddings back. Raises InvalidInput unless they are (n, dimension), finite, and none of length 0."""
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise InvalidInput(f"embeddings to draw have shape (n, {dimension}), not {rows.shape}")
    if not np.isfinite(rows).all() or not (np.linalg.norm(rows, axis=1) > 0).all():
        raise InvalidInput("embeddings to draw are finite and of a length above 0")
    return rows


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Make a seed (0..2^63-1) for one purpose, independent of those for others."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class TextEncoder(Protocol):
    """Embeds texts; `phosphene.encoders.Encoder` is one."""

    @property
    def space(self) -> Space:
        """Its CLIP space."""

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        """Embed texts."""


class ClipEncoder(TextEncoder, Protocol):
    """What the starter needs of the encoder of its space; `phosphene.encoders.Encoder` is one."""

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        """Embed pictures (n, s, s, 3) of the size of its space."""


class Generator(Protocol):
    """One unCLIP model. Embeddings go in and out as its CLIP model gives them: (n, d) float32, raw, of any length.

    Each implementation brings them to the scale that its own networks were trained on. Not thread-safe: one picture
    after the other, as a job queue runs them. The same arguments give the same result on the same machine.
    """

    @property
    def card(self) -> GeneratorCard:
        """What it is and can do."""

    def weights_sha256(self) -> Sha256:
        """Hash all of its weights: reads them from disk, the first time."""

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        """Embed texts into its CLIP space: (n, d) raw."""

    def predict(
        self, captions: Sequence[str], *, seeds: Sequence[int], sampling: Sampling, negative: str | None, watch: Watch
    ) -> RawRows:
        """Run the prior: an image embedding for each caption and its seed, (n, d) raw.

        `negative` says what the pictures should not show; None: nothing. Raises Cancelled.
        """

    def decode(
        self,
        embeddings: RawRows,
        *,
        captions: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
        negative: str | None,
        size: Size,
        watch: Watch,
    ) -> Pixels:
        """Draw a picture for each raw image embedding, caption ("" for none) and seed: (n, height, width, 3).

        Captions and the negative are ignored where the card says that the decoder does not read them. Raises Cancelled.
        """
