"""Turn a picture's source into pixels: SVG documents, SVG files and bitmaps alike."""

from __future__ import annotations

import io
import multiprocessing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import resvg_py
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.clip.picture import Picture

SIDE = 160  # pixels of the training cache; also the model's own size
_VISIBLE_ALPHA = 8
_MIN_VISIBLE_SHARE = 0.005


@dataclass(frozen=True)
class Renderer:
    """Renders pictures on a transparent ground."""

    root: Path
    max_side: int = SIDE * 2

    def render(self, picture: Picture) -> Image.Image:
        """Return the whole picture as RGBA; vector graphics with `max_side` pixels on the wide side."""
        source = picture.source
        if source.startswith("<svg"):
            return _from_svg(svg_string=source, width=self.max_side)
        path = self.root / source
        if path.suffix == ".svg":
            return self.render_svg(path)
        image = Image.open(path).convert("RGBA")
        image.thumbnail((self.max_side * 2, self.max_side * 2), Image.Resampling.LANCZOS)
        return image

    def render_svg(self, path: Path) -> Image.Image:
        """Draw an SVG file as RGBA."""
        return _from_svg(svg_path=str(path), width=self.max_side)

    def training_tile(self, picture: Picture) -> NDArray[np.uint8] | None:
        """Return the drawn part centred in a (SIDE, SIDE, 4) uint8 tile; None where nothing can be seen."""
        try:
            image = self.render(picture)
        except (OSError, ValueError, Image.DecompressionBombError):
            return None
        visible = image.getchannel("A").point(lambda alpha: 255 if alpha > _VISIBLE_ALPHA else 0).getbbox()
        if visible is None:
            return None
        image = image.crop(visible)
        side = max(image.size)
        square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        tile = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        return tile if (tile[..., 3] > _VISIBLE_ALPHA).mean() > _MIN_VISIBLE_SHARE else None


def on_white(image: Image.Image) -> Image.Image:
    """Flatten as the ingest does: transparent parts become white."""
    rgba = image.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, rgba).convert("RGB")


def render_tiles(pictures: Sequence[Picture], renderer: Renderer, pixels: Path, *, processes: int = 2) -> list[Picture]:
    """Write the (n, SIDE, SIDE, 4) uint8 cache and return the n pictures that could be rendered."""
    kept: list[Picture] = []
    partial = pixels.with_suffix(".partial.npy")
    shape = (len(pictures), SIDE, SIDE, 4)
    cache = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for picture, tile in zip(pictures, pool.imap(renderer.training_tile, pictures, chunksize=64), strict=True):
            if tile is not None:
                cache[len(kept)] = tile
                kept.append(picture)
    cache.flush()
    del cache
    partial.replace(pixels)
    return kept


def _from_svg(*, width: int, svg_string: str | None = None, svg_path: str | None = None) -> Image.Image:
    data = resvg_py.svg_to_bytes(svg_string=svg_string, svg_path=svg_path, width=width, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(data))).convert("RGBA")
