"""Picture files -> embeddings, for benchmarks that bring their own pictures: nothing is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phosphene.decoding import DecodedPicture, DecoderPool
from phosphene.encoders import Encoder
from phosphene.errors import PictureError, PictureFault
from phosphene.types import Float32, Pixels

_AHEAD = 64  # files that are being decoded while others are embedded


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Those files that are pictures: their places in the list (n,), and rows (n, d) float32 of length 1."""

    places: tuple[int, ...]
    rows: Float32
    failed: tuple[tuple[Path, str], ...]  # with the reason


def embed_files(
    files: Sequence[Path],
    *,
    encoder: Encoder,
    decoders: DecoderPool,
    batch_size: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Embedded:
    """Embed picture files in their order; `progress` is told how many are done."""
    parts: list[Float32] = [np.empty((0, encoder.space.dimension), dtype=np.float32)]
    places: list[int] = []
    failed: list[tuple[Path, str]] = []
    batch: list[Pixels] = []

    def embed() -> None:
        if batch:
            parts.append(encoder.encode_pixels(np.stack(batch)).unit().rows)
            batch.clear()

    for place, decoded in _decoded(files, encoder, decoders):
        if isinstance(decoded, PictureError):
            failed.append((files[place], str(decoded)))
        elif decoded.pixels is not None:
            batch.append(decoded.pixels)
            places.append(place)
        if len(batch) == batch_size:
            embed()
            progress(place + 1)
    embed()
    progress(len(files))
    return Embedded(tuple(places), np.concatenate(parts), tuple(failed))


def _decoded(
    files: Sequence[Path], encoder: Encoder, decoders: DecoderPool
) -> Iterator[tuple[int, DecodedPicture | PictureError]]:
    waiting: deque[tuple[int, Future[DecodedPicture]]] = deque()
    for place, file in enumerate(files):
        try:
            data = file.read_bytes()
        except OSError as error:
            while waiting:
                yield _finished(*waiting.popleft())
            yield place, PictureError(PictureFault.UNREADABLE, error.strerror or str(error))
            continue
        waiting.append((place, decoders.decode(data, spec=encoder.space.pixels, thumbnail=False)))
        if len(waiting) > _AHEAD:
            yield _finished(*waiting.popleft())
    while waiting:
        yield _finished(*waiting.popleft())


def _finished(place: int, future: Future[DecodedPicture]) -> tuple[int, DecodedPicture | PictureError]:
    try:
        return place, future.result()
    except PictureError as error:
        return place, error
