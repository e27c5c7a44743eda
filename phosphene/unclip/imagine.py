"""What can be asked of any generator: pictures from words, from pictures, from blends of both, and edits by captions.

`compose` finds the image embedding of a request, `imagine` also draws it. The way is Ramesh et al. 2022
(arXiv 2204.06125): section 2.2 for text, 3.1 for variations, 3.2 for blends, 3.3 for edits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from phosphene.errors import InvalidQuery
from phosphene.types import Float32, Pixels, RawEmbeddings
from phosphene.unclip.base import Generator, GeneratorCard, RawRows, Sampling, Size, Watch, derived_seed
from phosphene.unclip.geometry import Direction, direction, spherical_mean, text_diff

MAX_IMAGES = 64
MAX_PARTS = 16
MAX_PIXELS = 64 * 1024 * 1024  # of all pictures of a request, which are held at once: 192 MiB
PRIOR_ROWS = 64  # embeddings that the prior works on at once: with guidance, attention holds twice that
DECODER_PIXELS = 1024 * 1024  # drawn at once, drafts too, or one larger picture: 4 of 512x512, 16 of 256x256
MAX_SEED = 2**53 - 1  # what JSON carries exactly
_NORM_FACTOR = 3.0  # raw embeddings of one model differ in length by far less


@dataclass(frozen=True, slots=True)
class Part:
    """A caption, or the embedding of a picture (one row), with its weight in a blend."""

    source: str | RawEmbeddings
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse empty captions, several rows, and weights that are not above 0."""
        if isinstance(self.source, str):
            if not self.source.strip():
                raise InvalidQuery("a caption to imagine is empty")
        elif len(self.source) != 1:
            raise InvalidQuery(f"a part of a request is one picture; its embeddings have {len(self.source)} rows")
        if not 0 < self.weight < float("inf"):
            raise InvalidQuery(f"a part's weight is above 0, not {self.weight:g}")


@dataclass(frozen=True, slots=True)
class Edit:
    """Change a picture from what `before` says to what `after` says, by theta 0..1."""

    before: str
    after: str
    theta: float = 0.35

    def __post_init__(self) -> None:
        """Refuse empty captions and angles beyond the way."""
        if not (self.before.strip() and self.after.strip()):
            raise InvalidQuery("an edit has two captions: what the picture shows, and what it shall show")
        if not 0 <= self.theta <= 1:
            raise InvalidQuery(f"theta is 0..1, not {self.theta:g}")


@dataclass(frozen=True, slots=True)
class Request:
    """What to imagine: one part is drawn as it is, several are blended, then the edit is applied."""

    parts: tuple[Part, ...]
    edit: Edit | None = None
    images: int = 1
    seed: int = 0  # image i is drawn with seed + i
    size: Size | None = None  # None: the generator's own
    sampling: Sampling | None = None  # the same
    negative: str | None = None  # what the pictures should not show

    def __post_init__(self) -> None:
        """Refuse what no generator can do."""
        if not 1 <= len(self.parts) <= MAX_PARTS:
            raise InvalidQuery(f"a request has 1..{MAX_PARTS} captions and pictures, not {len(self.parts)}")
        if not 1 <= self.images <= MAX_IMAGES:
            raise InvalidQuery(f"a request is for 1..{MAX_IMAGES} images, not {self.images}")
        if not 0 <= self.seed <= MAX_SEED - MAX_IMAGES:
            raise InvalidQuery(f"a seed is 0..{MAX_SEED - MAX_IMAGES}, not {self.seed}")
        if self.negative is not None and not self.negative.strip():
            raise InvalidQuery("the negative prompt is empty: leave it out")

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each image."""
        return tuple(range(self.seed, self.seed + self.images))

    @property
    def captions(self) -> tuple[str, ...]:
        """Those of the parts, in order: what the prior is asked for."""
        return tuple(part.source for part in self.parts if isinstance(part.source, str))


@dataclass(frozen=True, slots=True, eq=False)
class Imagined:
    """Pictures, and what they were drawn from."""

    pixels: Pixels  # (n, height, width, 3)
    embeddings: RawRows  # (n, d), in the generator's CLIP space
    seeds: tuple[int, ...]


def imagine(
    request: Request,
    *,
    generator: Generator,
    watch: Watch | None = None,
    approve: Callable[[RawRows], None] | None = None,
) -> Imagined:
    """Make the pictures of a request. `approve` sees their embeddings before they are drawn, and may raise.

    Raises InvalidQuery and InvalidInput for what this generator can't do, SpaceMismatch for embeddings of another CLIP
    model, Cancelled when the watch says so. The same request gives the same pixels on the same machine.
    """
    watch = watch or Watch()
    size = generator.card.require_size(request.size)
    if request.images * size.width * size.height > MAX_PIXELS:
        most = MAX_PIXELS // (size.width * size.height)
        raise InvalidQuery(f"{request.images} images of {size} are too many for one request: ask for at most {most}")
    embeddings = compose(request, generator=generator, watch=watch)
    if approve is not None:
        approve(embeddings)
    # A caption says nothing of a picture that was blended or changed.
    caption = request.captions[0] if len(request.parts) == 1 and request.captions and request.edit is None else ""
    sampling = request.sampling or generator.card.sampling
    batches = _batches(request.images, DECODER_PIXELS // (size.width * size.height * sampling.drafts))
    drawn = [
        generator.decode(
            RawRows(embeddings[batch]),
            captions=[caption] * len(request.seeds[batch]),
            seeds=request.seeds[batch],
            sampling=sampling,
            negative=request.negative,
            size=size,
            watch=watch.batch(at, len(batches), first=batch.start),
        )
        for at, batch in enumerate(batches)
    ]
    return Imagined(np.concatenate(drawn), embeddings, request.seeds)


def compose(request: Request, *, generator: Generator, watch: Watch | None = None) -> RawRows:
    """Give the image embeddings of a request's pictures, (images, d), without drawing them. Raises as `imagine`."""
    _check(request, generator.card)
    predicted = _predict(request, generator, watch or Watch())
    composed = [_blend(request.parts, [rows[image] for rows in predicted]) for image in range(request.images)]
    if request.edit is not None:
        before, after = (direction(row) for row in generator.embed_texts([request.edit.before, request.edit.after]))
        theta = request.edit.theta
        composed = [
            _scaled(text_diff(direction(row), before=before, after=after, theta=theta), float(np.linalg.norm(row)))
            for row in composed
        ]
    return RawRows(np.stack(composed))


def _check(request: Request, card: GeneratorCard) -> None:
    for part in request.parts:
        if isinstance(part.source, RawEmbeddings):
            card.clip.require(part.source.space)
            _require_scale(float(part.source.norms[0]), card)
    sampling = request.sampling or card.sampling
    if (sampling.drafts > 1 or sampling.refinements) and not card.drafts:
        raise InvalidQuery(f"{card.model} draws no drafts to choose from: leave drafts and refinements out")
    prior_reads = bool(request.captions) and sampling.prior_guidance > 1
    decoder_reads = card.decoder_reads_negative and sampling.decoder_guidance > 1
    if request.negative is not None and not (prior_reads or decoder_reads):
        where = "" if card.decoder_reads_negative else ", and drawing from a caption"
        raise InvalidQuery(
            f"a negative prompt has no effect here: {card.model} reads it only with guidance above 1{where}"
        )


def _require_scale(norm: float, card: GeneratorCard) -> None:
    usual = card.clip.norm
    if norm == 0:
        raise InvalidQuery("a picture's embedding has length 0 and so shows nothing")
    if usual is not None and not usual / _NORM_FACTOR < norm < usual * _NORM_FACTOR:
        raise InvalidQuery(
            f"a picture's embedding has length {norm:.3g}, where those of {card.clip.models[0]} have about "
            f"{usual:.3g}: hand in raw embeddings, not unit ones"
        )


def _predict(request: Request, generator: Generator, watch: Watch) -> list[Float32]:
    """Give what each part looks like, (images, d) raw for each: drawn by the prior for captions."""
    images = request.images
    drawn = iter(_from_captions(request, generator, watch) if request.captions else ())
    return [
        next(drawn) if isinstance(part.source, str) else np.repeat(part.source.rows, images, axis=0)
        for part in request.parts
    ]


def _from_captions(request: Request, generator: Generator, watch: Watch) -> Float32:
    """Let the prior draw candidates for every caption and image, and keep the nearest: (captions, images, d) raw."""
    sampling = request.sampling or generator.card.sampling
    captions, n = request.captions, sampling.candidates
    texts = generator.embed_texts(captions)
    wanted = [(at, seed) for at in range(len(captions)) for seed in request.seeds]
    batches = _batches(len(wanted), PRIOR_ROWS // n)
    kept: list[Float32] = []
    for number, batch in enumerate(batches):
        rows = generator.predict(
            [captions[at] for at, _ in wanted[batch] for _ in range(n)],
            seeds=[derived_seed(seed, "prior", at, candidate) for at, seed in wanted[batch] for candidate in range(n)],
            sampling=sampling,
            negative=request.negative,
            watch=watch.batch(number, len(batches), first=0),  # it has no previews
        )
        candidates = rows.reshape(len(wanted[batch]), n, -1)
        kept += [nearest(each, texts[at]) for each, (at, _) in zip(candidates, wanted[batch], strict=True)]
    return np.stack(kept).reshape(len(captions), request.images, -1)


def _batches(n: int, most: int) -> list[slice]:
    """Cut 0..n into runs of at most `most`, or of one."""
    most = max(1, most)
    return [slice(start, start + most) for start in range(0, n, most)]


def nearest(candidates: Float32, text: Float32) -> Float32:
    """Give the row of candidates (n, d) with the largest cosine to text (d,); section 2.2 keeps the better of two."""
    cosines = [float(direction(row) @ direction(text)) for row in candidates]
    return np.asarray(candidates[int(np.argmax(cosines))], dtype=np.float32)


def _blend(parts: Sequence[Part], rows: Sequence[Float32]) -> Float32:
    """Blend directions on the sphere, and lengths by their weighted mean."""
    if len(rows) == 1:
        return rows[0]
    weights = [part.weight for part in parts]
    norm = float(np.average([np.linalg.norm(row) for row in rows], weights=weights))
    return _scaled(spherical_mean([direction(row) for row in rows], weights), norm)


def _scaled(unit: Direction, norm: float) -> Float32:
    return np.asarray(unit * norm, dtype=np.float32)
