"""Pictures from the command line: what is asked for, how far the drawing is, and where the files go."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TextIO
from uuid import UUID

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichBar

from phosphene.catalog.generation_records import GenerationState
from phosphene.cli import output
from phosphene.cli.options import first_wrong
from phosphene.errors import InvalidInput, PhospheneError
from search_api.schemas import EditIn, GenerateRequest, GenerationOut, OfferOut, PartIn, SamplingIn, SearchResponse

POLL_S = 0.3
PLAIN_EVERY_S = 5.0
STAGES = {
    "prior": "finding what it looks like",
    "decoder": "drawing",
    "super_resolution": "adding detail",
}
WAITING = "waiting for its turn"
_FORMATS: dict[str, Literal["png", "webp"]] = {".png": "png", ".webp": "webp"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture as the command line was asked for it; sources are ids of assets or files."""

    text: str | None
    variation_of: str | None
    blend: tuple[str, ...]
    weights: tuple[float, ...]  # of the text, if any, and of what is blended
    edit: tuple[str, str] | None
    theta: float
    images: int
    seed: int | None
    size: str | None
    negative: str | None
    steps: int | None
    guidance: float | None
    format: str | None
    withhold_prompt: bool
    output: Path | None

    def request(self) -> GenerateRequest:
        """Make the request. Raises InvalidInput."""
        parts = self._parts()
        try:
            return GenerateRequest(
                parts=parts,
                edit=EditIn(before=self.edit[0], after=self.edit[1], theta=self.theta) if self.edit else None,
                images=self.images,
                seed=self.seed,
                size=self.size,
                sampling=SamplingIn(
                    prior_steps=self.steps,
                    decoder_steps=self.steps,
                    prior_guidance=self.guidance,
                    decoder_guidance=self.guidance,
                ),
                negative=self.negative,
                format=self._format(),
                withhold_prompt=self.withhold_prompt,
            )
        except ValidationError as error:
            raise InvalidInput(first_wrong(error)) from error

    def _parts(self) -> list[PartIn]:
        if self.variation_of is not None:
            if self.text is not None or self.blend:
                raise InvalidInput("--variation-of stands alone: mix pictures and words with TEXT and --blend")
            return [_picture(self.variation_of, "--variation-of", 1.0)]
        base = self.text
        if base is None and self.edit is not None and not self.blend:
            base = self.edit[0]  # what the edit starts from is drawn first
        count = len(self.blend) + (base is not None)
        if not count:
            raise InvalidInput("say what to draw: TEXT, --variation-of, --blend or --edit")
        if self.blend and count == 1:
            raise InvalidInput("--blend mixes two or more: give it twice, or with TEXT")
        if self.weights and len(self.weights) != count:
            raise InvalidInput(
                f"--weights has {len(self.weights)} numbers for {count} parts: TEXT first, then each --blend"
            )
        weights = list(self.weights or [1.0] * count)
        words = [_checked(text=base, weight=weights.pop(0))] if base is not None else []
        return words + [_picture(one, "--blend", weight) for one, weight in zip(self.blend, weights, strict=True)]

    def _format(self) -> Literal["png", "webp"]:
        """Take the format named, else that of the file's name."""
        suffix = self.output.suffix.lower() if self.output is not None and not self.output.is_dir() else ""
        if suffix and suffix not in _FORMATS:
            raise InvalidInput(f"-o {self.output}: pictures are written as .png or .webp")
        named = f".{self.format.lower()}" if self.format else suffix or ".png"
        if named not in _FORMATS:
            raise InvalidInput(f"--format is png or webp, not {self.format}")
        if suffix and named != suffix:
            raise InvalidInput(f"-o {self.output} and --format {self.format} contradict each other")
        return _FORMATS[named]


def _picture(source: str, option: str, weight: float) -> PartIn:
    """Take an asset's id or a file."""
    try:
        return _checked(asset_id=UUID(source), weight=weight)
    except ValueError:
        pass
    try:
        return _checked(image=Path(source).expanduser().read_bytes(), weight=weight)
    except OSError as error:
        raise InvalidInput(f"{option} {source}: no id of an asset, and no file: {error.strerror}") from error


def _checked(
    *, text: str | None = None, image: bytes | None = None, asset_id: UUID | None = None, weight: float
) -> PartIn:
    try:
        return PartIn(text=text, image=image, asset_id=asset_id, weight=weight)
    except ValidationError as error:
        raise InvalidInput(first_wrong(error)) from error


class Artist(Protocol):
    """The part of a backend that draws."""

    def await_generation(self, generation: UUID) -> GenerationOut:
        """Wait for the end of a generation, showing progress on stderr."""
        ...

    def generated_picture(self, generation: UUID, index: int) -> bytes:
        """Give a picture's file."""
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """An ended generation, and where its pictures were written."""

    generation: GenerationOut
    files: tuple[Path, ...]


def check_output(target: Path | None) -> None:
    """Refuse a place that can't be written to, before anything is drawn for it. Raises InvalidInput."""
    if target is not None and not target.is_dir() and not target.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {target.absolute().parent} for -o")


def save(generation: GenerationOut, artist: Artist, *, target: Path | None) -> Drawn:
    """Write the pictures of a generation, if it came to any. Raises InvalidInput where a file can't be written."""
    files = []
    for picture, path in zip(generation.pictures, file_names(generation, target), strict=True):
        try:
            path.write_bytes(artist.generated_picture(generation.id, picture.index))
        except OSError as error:
            raise InvalidInput(f"{path} can't be written: {error.strerror}") from error
        files.append(path)
    return Drawn(generation, tuple(files))


def draw_offered(artist: Artist, offer: OfferOut | None, *, target: Path | None) -> Drawn | None:
    """Wait for what a search had drawn, and write it."""
    if offer is None or offer.id is None:
        return None
    return save(artist.await_generation(offer.id), artist, target=target)


def file_names(generation: GenerationOut, target: Path | None) -> list[Path]:
    """Name a file for each picture: `target`, or phosphene-ID in it or here; numbered where there are several."""
    own = Path(f"phosphene-{str(generation.id)[:8]}.{generation.pictures[0].format}" if generation.pictures else "")
    path = own if target is None else target / own if target.is_dir() else target
    if len(generation.pictures) == 1:
        return [path]
    suffix = path.suffix or own.suffix
    return [path.with_name(f"{path.stem}-{picture.index}{suffix}") for picture in generation.pictures]


class StepBar:
    """How far a drawing is, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._next = time.monotonic() + PLAIN_EVERY_S
        self._bar: RichBar | None = None
        if self._stream.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = RichBar(*columns, console=Console(file=self._stream), transient=True)
            self._task = self._bar.add_task(WAITING, total=None)
            self._bar.start()

    def report(self, stage: str | None, step: int = 0, of: int | None = None) -> None:
        """Show a step; stage None: it has not begun."""
        said = WAITING if stage is None else STAGES.get(stage, stage)
        if self._bar is not None:
            self._bar.update(self._task, description=said, completed=step, total=of)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY_S
            output.note(f"{said}: step {step} of {of}" if of else said)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def follow(
    generation: UUID, *, read: Callable[[UUID], GenerationOut], cancel: Callable[[UUID], object]
) -> GenerationOut:
    """Watch a generation that another process draws; Ctrl-C cancels it."""
    bar = StepBar()
    try:
        while not (now := read(generation)).ended:
            done = now.progress
            bar.report(done.stage if done else None, done.step if done else 0, done.of if done else None)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        bar.close()
        told_cancelled(generation, cancel)
        raise
    finally:
        bar.close()
    return now


def told_cancelled(generation: UUID, cancel: Callable[[UUID], object]) -> None:
    """Cancel and say so; that it can't be cancelled is said too, and hides nothing."""
    try:
        cancel(generation)
    except PhospheneError as error:
        output.warn(f"generation {generation} could not be cancelled: {error}")
    else:
        output.note(f"generation {generation} is cancelled")


def weights_of(text: str | None) -> tuple[float, ...]:
    """Read "2,1". Raises InvalidInput."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise InvalidInput(f"--weights {text!r}: write numbers separated by commas, as 2,1") from error


def print_drawn(drawn: Drawn, *, as_json: bool) -> bool:
    """Say where the pictures are, or why there are none; tell whether there are."""
    if as_json:
        output.line(
            json.dumps({**drawn.generation.model_dump(mode="json"), "files": [str(one) for one in drawn.files]})
        )
    else:
        for picture, path in zip(drawn.generation.pictures, drawn.files, strict=True):
            output.line(f"{path}  seed {picture.seed}  generation {drawn.generation.id}")
    reason = _why_not(drawn.generation)
    if reason is not None:
        output.note(f"phosphene: {reason}")
    return reason is None


def print_generations(found: Sequence[GenerationOut], *, as_json: bool) -> None:
    """List generations: id, when, how it stands, how many of its pictures are in the catalogue, and what of."""
    if as_json:
        output.line(json.dumps({"generations": [one.model_dump(mode="json") for one in found]}))
        return
    for one in found:
        accepted = sum(picture.asset_id is not None for picture in one.pictures)
        kept = f"{accepted} of {len(one.pictures)} accepted" if one.pictures else ""
        about = one.prompt or f"from {len(one.parents)} pictures" * bool(one.parents)
        output.line(f"{one.id}  {one.queued_at:%Y-%m-%d %H:%M}  {one.status:9}  {kept:17}  {about}".rstrip())


def search_json(response: SearchResponse, drawn: Drawn | None) -> str:
    """Write an answer with what came of its picture."""
    shown = response.model_dump(mode="json")
    if drawn is not None:
        offer = OfferOut(
            id=drawn.generation.id, status=drawn.generation.status.value, detail=_why_not(drawn.generation)
        )
        shown["generation"] = offer.model_dump(mode="json")
        shown["files"] = [str(path) for path in drawn.files]
    return json.dumps(shown)


def print_offered(response: SearchResponse, drawn: Drawn | None, *, quiet: bool) -> bool:
    """Say what came of the picture that a search was to have drawn; tell whether nothing went wrong."""
    if drawn is not None:
        for path in () if quiet else drawn.files:
            output.line(f"imagined: {path}  (a model drew it; phosphene search finds it only once it is accepted)")
        if drawn.files and not quiet:
            output.note(f"to let searches find it: phosphene accept {drawn.generation.id}")
        reason = _why_not(drawn.generation)
    elif response.generation is not None:
        reason = response.generation.detail
    else:
        output.note("the catalogue has a match, so nothing was drawn")
        return True
    if reason is not None:
        output.note(f"phosphene: no picture was drawn: {reason}")
    return reason is None


def _why_not(generation: GenerationOut) -> str | None:
    if generation.status is GenerationState.FINISHED:
        return None
    return generation.error or f"generation {generation.id} is {generation.status}"
