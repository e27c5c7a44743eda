"""Step `embeddings`: what the starter sees in every view of the training pictures, and reads in their captions."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from phosphene.encoders import Encoder, load_encoder
from phosphene.types import Float32
from phosphene.unclip.starter_layout import to_pixels
from training.clip.picture import Picture, read_pictures
from training.clip.targets import may_be_mirrored, picture_texts
from training.unclip.captions import TEMPLATES, Captions
from training.unclip.recipe import Recipe
from training.unclip.views import draw_views, place_views
from training.unclip.workspace import UnclipWorkspace

CLIP_MODEL = "starter"
_CHUNK = 1024  # pictures a file
_BATCH = 64
_LEAST_STD = 1e-4


@dataclass(frozen=True)
class EmbeddingCache:
    """Embeddings of length 1 but for rounding, in the space of its workspace."""

    images: NDArray[np.float16]  # (views, n, d)
    texts: NDArray[np.float16]  # (templates, texts, d), in the order of `Captions.texts`
    placed: NDArray[np.float32]  # (views, n, 4), see `place_views`
    rows: NDArray[np.int64]  # (n,) of the pixel cache

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `embed_training_set` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["images"], arrays["texts"], arrays["placed"], arrays["rows"])

    def whitening(self) -> tuple[Float32, Float32]:
        """Mean and standard deviation of the image embeddings for each dimension, (d,) both."""
        flat = self.images.reshape(-1, self.images.shape[2]).astype(np.float32)
        return flat.mean(axis=0), np.maximum(flat.std(axis=0), _LEAST_STD)


def training_rows(pictures: list[Picture], *, every: int = 1) -> NDArray[np.int64]:
    """Rows of the split that may be trained on, or every n-th of them: nothing that the CLIP recipe holds out."""
    rows = [row for row, picture in enumerate(pictures) if picture.split == "train"]
    return np.array(rows[::every], dtype=np.int64)


def training_captions(pictures: list[Picture], rows: NDArray[np.int64]) -> Captions:
    """Names, keywords and categories, weighted as the CLIP recipe weighs them."""
    return Captions.of([picture_texts(pictures[row]) for row in rows])


def embed_training_set(workspace: UnclipWorkspace, recipe: Recipe, *, workers: int) -> None:
    """Write `workspace.embeddings`; goes on after the last chunk that an earlier run finished."""
    if workspace.embeddings.exists():
        return
    workspace.embedded_parts.mkdir(parents=True, exist_ok=True)
    pictures = read_pictures(workspace.clip.pictures)
    rows = training_rows(pictures, every=recipe.every)
    mirrored = np.array([may_be_mirrored(pictures[row]) for row in rows])
    placed = place_views(mirrored, views=recipe.views, seed=recipe.seed)
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(rows), _CHUNK)]
    parts = [workspace.embedded_parts / f"{at:05d}.npy" for at in range(len(chunks))]
    wanted = [
        _Chunk(workspace, rows[chunk], placed[:, chunk], part)
        for chunk, part in zip(chunks, parts, strict=True)
        if not part.exists()
    ]
    if workers == 1:
        _report_chunks(map(_embed_chunk, wanted), wanted)
    elif wanted:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            _report_chunks(pool.imap(_embed_chunk, wanted), wanted)
    texts = embed_captions(training_captions(pictures, rows), _encoder())
    partial = workspace.embeddings.with_suffix(".partial.npz")
    images = np.concatenate([np.load(part) for part in parts], axis=1)
    np.savez(partial, images=images, texts=texts, placed=placed, rows=rows)
    partial.replace(workspace.embeddings)


def embed_captions(captions: Captions, encoder: Encoder) -> NDArray[np.float16]:
    """Embed each text in each template: (templates, texts, d) of length 1."""
    read = [
        encoder.encode_texts([template.replace("{}", text) for text in captions.texts]).unit().rows
        for template in TEMPLATES
    ]
    return np.stack(read).astype(np.float16)


def embed_views(tiles: NDArray[np.uint8], placed: NDArray[np.float32], encoder: Encoder) -> Float32:
    """Embed one view of each RGBA tile (n, s, s, 4): (n, d) of length 1."""
    side = encoder.space.pixels.size
    parts = [slice(start, start + _BATCH) for start in range(0, len(tiles), _BATCH)]
    drawn = (to_pixels(draw_views(np.asarray(tiles[part]), placed[part], side=side)) for part in parts)
    return np.concatenate([encoder.encode_pixels(pixels).unit().rows for pixels in drawn])


@cache
def _encoder() -> Encoder:
    """Load the encoder once in each process."""
    return load_encoder(CLIP_MODEL, threads=1)


@dataclass(frozen=True)
class _Chunk:
    """Some pictures, and the file that their embeddings go to."""

    workspace: UnclipWorkspace
    rows: NDArray[np.int64]
    placed: NDArray[np.float32]  # (views, n, 4)
    part: Path


def _embed_chunk(chunk: _Chunk) -> None:
    tiles = np.load(chunk.workspace.clip.pixels, mmap_mode="r")[chunk.rows]
    seen = np.stack([embed_views(tiles, view, _encoder()) for view in chunk.placed])
    partial = chunk.part.with_suffix(".partial.npy")
    np.save(partial, seen.astype(np.float16))
    partial.replace(chunk.part)


def _report_chunks(done: Iterable[None], chunks: list[_Chunk]) -> None:
    """Print the pace while chunks get done."""
    started, views = time.monotonic(), 0
    for at, (chunk, _) in enumerate(zip(chunks, done, strict=True), start=1):
        views += chunk.placed.shape[0] * len(chunk.rows)
        pace = views / (time.monotonic() - started)
        print(f"embeddings: {at} of {len(chunks)} chunks, {pace:.0f} views/s", flush=True)
