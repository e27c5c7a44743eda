"""What stock sites filter pictures by, told from the pixels: colours, plain ground, copy space, sharpness.

Everything is measured on copies of a few hundred pixels, in the decoder process where the picture is at hand; numpy
only. What each attribute means to a searcher, and where it errs: docs/attributes.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from phosphene.oklab import hex_of, name_of, rgb_of, step_of, to_oklab, to_rgb
from phosphene.types import Float32, Pixels

SMALL_SIDE = 96  # pixels of the longer side of the copy that colours and places are told from
SHARP_SIDE = 320  # of the one that sharpness is told from

Place = Literal["left", "right", "top", "bottom", "centre"]
PLACES: tuple[Place, ...] = get_args(Place)

_COLOURS = 6  # of a palette
_LEAST_SHARE = 0.02  # of a palette's colour, in what stands out from plain ground
_NAMED_SHARE = 0.06  # the same, from which on a picture has a colour
_ALIKE = 0.09  # OKLab distance within which pixels are of one colour of the palette
_EDGE_WEIGHT = 0.2  # of pixels at an edge, which are mixed from both sides of it
_FINE_STEP = 0.03  # of the histogram that palettes are made from
_BINS = 36  # along each axis of it
_OFFSETS = np.array([1, 16, 16])  # sRGB has a in -0.24..0.28 and b in -0.32..0.2
_GREY_CHROMA = 0.04  # OKLab; below, nobody calls it a colour
_COLOURED_SHARE = 0.005  # of pixels that a black and white picture may have

_PLAIN = 0.05  # OKLab distance within which pixels belong to one plain ground
_PLAIN_RIM = 0.75  # of the outermost pixels belong to it
_PLAIN_SIDE = 0.5  # and of those of each side
_SUBJECT = (0.01, 0.85)  # share of the picture that stands out from it

_DETAIL = 0.035  # OKLab distance of neighbours that is an edge
_EMPTY = 0.015  # share of edges in a part where text can stand
_EVEN = 0.1  # standard deviation of lightness there

_TRANSPARENT_SHARE = 0.005  # of the picture

_BLUR_TAPS = 9
_SHARP_LEAST = 3 * _BLUR_TAPS  # pixels of the shorter side
_EDGES = 0.5  # of 255: the mean step from pixel to pixel in a part that is not plain


@dataclass(frozen=True, slots=True)
class PaletteColour:
    """One colour of a picture, and how much of it there is."""

    name: str  # of phosphene.oklab.COLOUR_NAMES
    hex: str  # #rrggbb
    share: float  # 0..1 of the pixels


@dataclass(frozen=True, slots=True)
class Attributes:
    """What was told from the pixels of one picture."""

    palette: tuple[PaletteColour, ...]  # by share, the largest first; at most 6
    ground: str | None  # #rrggbb of the plain ground that a subject stands on, where it does
    copy_space: tuple[Place, ...]  # where there is room for text
    black_and_white: bool
    transparent: bool
    sharpness: float  # 0..1; of the sharpest part

    @property
    def isolated(self) -> bool:
        """Whether it shows a subject on plain ground."""
        return self.ground is not None

    @property
    def colours(self) -> tuple[str, ...]:
        """Names of the colours, by share: at least 6 % of the picture or, on plain ground, of what stands on it."""
        shares = _by_name(self.palette)
        least = _NAMED_SHARE * sum(colour.share for colour in self._subject)
        return tuple(name for name, share in shares.items() if share >= least)

    @property
    def main_colour(self) -> str | None:
        """The name of the largest share, plain ground apart; None for a picture of too many colours."""
        return next(iter(_by_name(self._subject)), None)

    @property
    def _subject(self) -> tuple[PaletteColour, ...]:
        if self.ground is None:
            return self.palette
        ground = to_oklab(rgb_of(self.ground))
        away = (one for one in self.palette if np.linalg.norm(to_oklab(rgb_of(one.hex)) - ground) > _PLAIN)
        return tuple(away) or self.palette

    @property
    def steps(self) -> tuple[str, ...]:
        """The palette in steps of phosphene.oklab.STEP, which filters by colour ask for."""
        return tuple(dict.fromkeys(step_of(to_oklab(rgb_of(colour.hex))) for colour in self.palette))

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON keeps it."""
        return asdict(self)

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `as_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            palette=tuple(
                PaletteColour(str(one["name"]), hex_of(rgb_of(one["hex"])), float(one["share"]))
                for one in stored["palette"]
            ),
            ground=None if stored["ground"] is None else hex_of(rgb_of(stored["ground"])),
            copy_space=tuple(place for place in PLACES if place in stored["copy_space"]),
            black_and_white=bool(stored["black_and_white"]),
            transparent=bool(stored["transparent"]),
            sharpness=float(stored["sharpness"]),
        )


def _by_name(palette: tuple[PaletteColour, ...]) -> dict[str, float]:
    """Sum up shares by name, the largest first."""
    shares: dict[str, float] = defaultdict(float)
    for colour in palette:
        shares[colour.name] += colour.share
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def attributes_of(small: Pixels, grey: NDArray[np.uint8], *, transparent_share: float) -> Attributes:
    """Tell attributes from copies of a picture.

    `small` is (h, w, 3) sRGB with sides of at most SMALL_SIDE, `grey` (h, w) luma with sides of at most SHARP_SIDE.
    """
    oklab = to_oklab(small)
    edges = edges_of(oklab)
    weights = np.where(edges, np.float32(_EDGE_WEIGHT), np.float32(1))
    ground = plain_ground(oklab)
    coloured = ((oklab[..., 1:] ** 2).sum(axis=-1) > _GREY_CHROMA**2).mean()
    return Attributes(
        palette=palette_of(oklab, weights, standing_out=1.0 if ground is None else ground[1]),
        ground=None if ground is None else hex_of(to_rgb(ground[0])),
        copy_space=copy_space_of(oklab, edges),
        black_and_white=bool(coloured <= _COLOURED_SHARE),
        transparent=transparent_share > _TRANSPARENT_SHARE,
        sharpness=round(sharpness_of(grey), 3),
    )


def palette_of(oklab: Float32, weights: Float32, *, standing_out: float = 1.0) -> tuple[PaletteColour, ...]:
    """Sum up pixels (h, w, 3) in OKLab, with weights (h, w), as at most six colours with shares, the largest first.

    The most frequent colour takes all that is within _ALIKE of it, then the most frequent of the rest does, and so on.
    `standing_out` is the share of pixels that are not plain ground: a colour must have _LEAST_SHARE of those.
    """
    pixels, weights = oklab.reshape(-1, 3), weights.reshape(-1)
    steps = np.rint(pixels / _FINE_STEP).astype(np.intp) + _OFFSETS
    keys = (steps[:, 0] * _BINS + steps[:, 1]) * _BINS + steps[:, 2]
    counts = np.bincount(keys, weights=weights, minlength=_BINS**3)
    there = np.flatnonzero(counts)
    left = counts[there] / weights.sum()
    sums = [np.bincount(keys, weights=weights * pixels[:, channel])[there] for channel in range(3)]
    middles = np.stack(sums, axis=1) / counts[there, None]
    colours = []
    for _ in range(_COLOURS):
        first = int(np.argmax(left))
        distances = np.linalg.norm(middles - middles[first], axis=1)
        alike = (distances <= _ALIKE) & (left > 0)
        share = float(left[alike].sum())
        if share < _LEAST_SHARE * standing_out or share == 0:
            break
        core = alike & (distances <= _ALIKE / 2)  # what surrounds it are mostly the soft edges of shapes
        middle = (middles[core] * left[core, None]).sum(axis=0) / left[core].sum()
        colours.append(PaletteColour(name_of(middle), hex_of(to_rgb(middle)), round(share, 4)))
        left[alike] = 0
    return tuple(sorted(colours, key=lambda colour: -colour.share))


def edges_of(oklab: Float32) -> NDArray[np.bool_]:
    """Mark the pixels (h, w, 3) that differ from one beside them: (h, w)."""
    edges = np.zeros(oklab.shape[:2], dtype=bool)
    across = ((oklab[:, 1:] - oklab[:, :-1]) ** 2).sum(axis=-1) > _DETAIL**2
    down = ((oklab[1:] - oklab[:-1]) ** 2).sum(axis=-1) > _DETAIL**2
    edges[:, :-1] |= across
    edges[:, 1:] |= across
    edges[:-1] |= down
    edges[1:] |= down
    return edges


def plain_ground(oklab: Float32) -> tuple[Float32, float] | None:
    """Give the colour (3,) of the plain ground of a picture (h, w, 3), and the share that stands out from it.

    Plain: one colour has most of the rim, and at least half of each side of it, so that a subject may touch the rim
    while the sky above a landscape is no ground. None where the ground is not plain, or nothing or nearly all is on it.
    """
    if min(oklab.shape[:2]) < 8:
        return None
    sides = [one.reshape(-1, 3) for one in (oklab[:2], oklab[-2:], oklab[:, :2], oklab[:, -2:])]
    ground = np.median(np.concatenate(sides), axis=0)
    plain = [float((np.linalg.norm(side - ground, axis=1) <= _PLAIN).mean()) for side in sides]
    if min(plain) < _PLAIN_SIDE or sum(plain) < 4 * _PLAIN_RIM:
        return None
    standing_out = float((((oklab - ground) ** 2).sum(axis=-1) > 4 * _PLAIN**2).mean())
    return (ground, standing_out) if _SUBJECT[0] <= standing_out <= _SUBJECT[1] else None


def copy_space_of(oklab: Float32, edges: NDArray[np.bool_]) -> tuple[Place, ...]:
    """Say where text could stand on (h, w, 3): which side thirds, or middle, are even and without edges."""
    height, width = edges.shape
    if min(height, width) < 12:
        return ()
    third_x, third_y = width // 3, height // 3
    parts: dict[Place, tuple[slice, slice]] = {
        "left": (slice(None), slice(0, third_x)),
        "right": (slice(None), slice(width - third_x, None)),
        "top": (slice(0, third_y), slice(None)),
        "bottom": (slice(height - third_y, None), slice(None)),
        "centre": (slice(height // 4, height - height // 4), slice(width // 4, width - width // 4)),
    }
    return tuple(
        place
        for place, part in parts.items()
        if edges[part].mean() <= _EMPTY and float(oklab[..., 0][part].std()) <= _EVEN
    )


def sharpness_of(grey: NDArray[np.uint8]) -> float:
    """Measure how sharp the sharpest part of a picture (h, w) is, 0..1: blurring changes sharp edges, not soft ones.

    The blur metric of Crété-Roffet et al. 2007 ("The blur effect: perception and estimation with a new no-reference
    perceptual blur metric", SPIE 6492), turned round, of each of 3 x 3 parts that has edges.
    """
    if min(grey.shape) < _SHARP_LEAST:
        return 0.0
    luma = grey.astype(np.int16)
    across, down = _steps(luma), _steps(luma.T).transpose(0, 2, 1)
    blur = np.maximum(across[0] / np.maximum(across[1], 1), down[0] / np.maximum(down[1], 1))
    edges = np.minimum(across[1], down[1]) > _EDGES * luma.size / 9
    return float((1 - blur)[edges].max(initial=0.0))


def _steps(luma: NDArray[np.int16]) -> NDArray[np.float64]:
    """Sum up the steps from pixel to pixel of rows (h, w) in 3 x 3 parts: what a blur leaves, and all. (2, 3, 3)."""
    width = luma.shape[1] - _BLUR_TAPS + 1
    blurred = luma[:, :width].copy()  # not divided by the number of taps: at most 9 x 255
    for tap in range(1, _BLUR_TAPS):
        blurred += luma[:, tap : tap + width]
    middle = _BLUR_TAPS // 2
    steps = np.abs(np.diff(luma[:, middle : middle + width], axis=1))
    left = np.minimum(_BLUR_TAPS * steps, np.abs(np.diff(blurred, axis=1)))
    return np.stack([_in_parts(left) / _BLUR_TAPS, _in_parts(steps)])


def _in_parts(values: NDArray[np.int16]) -> NDArray[np.float64]:
    height, width = (size // 3 for size in values.shape)
    rows = values[: 3 * height, : 3 * width].reshape(3, height, 3 * width).sum(axis=1, dtype=np.int64)
    return np.asarray(rows.reshape(3, 3, width).sum(axis=2), dtype=np.float64)
