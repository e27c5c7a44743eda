"""Colours as the eye tells them apart: OKLab, names of colours, and the steps that palettes are kept in.

OKLab is Björn Ottosson's (https://bottosson.github.io/posts/oklab/, 2020): L is lightness 0..1, a is green to red, b is
blue to yellow, and the distance of two colours is plain Euclidean; the eye just sees 0.02. Formulas, matrices: his.
"""

from __future__ import annotations

import itertools
import math
import re
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phosphene.types import Float32

STEP = 0.04  # of the grid that palettes are kept in; a colour lies within 0.035 of its step
MAX_TOLERANCE = 0.2  # some 500 steps

_HEX = re.compile(r"#?([0-9a-fA-F]{6}|[0-9a-fA-F]{3})")

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_FROM_LAB = np.linalg.inv(_TO_LAB)
_FROM_LMS = np.linalg.inv(_TO_LMS)


def _linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Undo the sRGB transfer curve (IEC 61966-2-1), of values in 0..1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear(np.arange(256) / 255)


def to_oklab(rgb: ArrayLike) -> Float32:
    """Give the OKLab of sRGB colours: (…, 3) uint8 to (…, 3) float32."""
    lms = _LINEAR[np.asarray(rgb, dtype=np.uint8)] @ _TO_LMS.T
    return np.asarray(np.cbrt(lms) @ _TO_LAB.T, dtype=np.float32)


def to_rgb(oklab: ArrayLike) -> tuple[int, int, int]:
    """Give the sRGB (0..255 each) of one OKLab colour (3,); what no screen can show is clipped."""
    (rgb,) = _all_to_rgb(np.asarray(oklab, dtype=np.float64)[None])
    return rgb


def _all_to_rgb(oklab: NDArray[np.float64]) -> list[tuple[int, int, int]]:
    """Give the sRGB of colours (n, 3)."""
    linear = np.clip((oklab @ _FROM_LAB.T) ** 3 @ _FROM_LMS.T, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [(red, green, blue) for red, green, blue in np.rint(255 * srgb).astype(int).tolist()]


def hex_of(rgb: tuple[int, int, int]) -> str:
    """Write a colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def rgb_of(text: str) -> tuple[int, int, int]:
    """Read #rrggbb or #rgb, with or without the #. Raises ValueError."""
    match = _HEX.fullmatch(text.strip())
    if match is None:
        msg = f"{text[:40]!r} is no colour: write it as #ff8800"
        raise ValueError(msg)
    digits = match[1] if len(match[1]) == 6 else "".join(2 * digit for digit in match[1])
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


# The nearest of these gives a colour its name; several of each name, since a name is no ball: dark red is red, a light
# red is pink, a dark orange is brown. Chosen by eye from the colour keywords of CSS (https://www.w3.org/TR/css-color-4).
_EXAMPLES = {
    "black": ("#000000", "#161616", "#0a0a14", "#140a0a"),
    "grey": ("#404040", "#606060", "#808080", "#a9a9a9", "#c8c8c8", "#708090"),
    "white": ("#ffffff", "#f5f5f5", "#fffafa", "#f0f8ff"),
    "red": ("#ff0000", "#dc143c", "#b22222", "#8b0000", "#cd3333", "#5a0808", "#ff4040"),
    "orange": ("#ff8c00", "#ffa500", "#ff7f2a", "#ff6a1a", "#e07010", "#ffb84d"),
    "yellow": ("#ffff00", "#ffd700", "#ffeb3b", "#ffff99", "#e6c619", "#c8b400"),
    "green": (
        "#008000", "#00ff00", "#32cd32", "#006400", "#90ee90", "#6b8e23", "#808000", "#2e8b57", "#9acd32", "#0a3c0a",
    ),
    "turquoise": ("#00ffff", "#40e0d0", "#008080", "#20b2aa", "#a0f0e8", "#004848"),
    "blue": ("#0000ff", "#4169e1", "#000080", "#1e90ff", "#87ceeb", "#4682b4", "#00bfff", "#00004a", "#6a8fd8"),
    "purple": ("#800080", "#8a2be2", "#4b0082", "#9370db", "#ba55d3", "#663399", "#c8a2e0", "#30104a"),
    "pink": ("#ffc0cb", "#ff69b4", "#ff1493", "#ff00ff", "#f4a0b5", "#fadadd", "#db7093"),
    "brown": ("#8b4513", "#a0522d", "#654321", "#5c3317", "#a5682a", "#3a2010", "#7b5a3c", "#b87333"),
    "beige": ("#f5f5dc", "#d2b48c", "#deb887", "#f5deb3", "#e8d5b7", "#ffe4c4", "#c8ad7f"),
}  # fmt: skip
COLOUR_NAMES = tuple(_EXAMPLES)
_EXAMPLE_NAMES = [name for name, examples in _EXAMPLES.items() for _ in examples]
_EXAMPLE_LABS = to_oklab([rgb_of(example) for examples in _EXAMPLES.values() for example in examples])

_EXAMPLES_HUELESS = np.isin(_EXAMPLE_NAMES, ("black", "grey", "white"))
_HUELESS = 0.022  # OKLab chroma


def name_of(oklab: ArrayLike) -> str:
    """Name an OKLab colour (3,) with one of COLOUR_NAMES: that of the nearest example, of greys where it has no hue."""
    colour = np.asarray(oklab, dtype=np.float32)
    distances = np.linalg.norm(_EXAMPLE_LABS - colour, axis=1)
    if np.linalg.norm(colour[1:]) < _HUELESS:
        distances = np.where(_EXAMPLES_HUELESS, distances, np.inf)
    return _EXAMPLE_NAMES[int(np.argmin(distances))]


def step_of(oklab: ArrayLike) -> str:
    """Give the step of the grid that an OKLab colour (3,) lies in, as the hex of its middle."""
    return hex_of(to_rgb(np.rint(np.asarray(oklab, dtype=np.float64) / STEP) * STEP))


@lru_cache(maxsize=256)
def steps_within(colour: str, tolerance: float) -> tuple[str, ...]:
    """List the steps whose middles lie within an OKLab distance of a colour (hex), nearest first; one at least.

    A palette colour is found if it lies within tolerance less 0.035. Raises ValueError for what is no colour, or a
    tolerance outside 0..MAX_TOLERANCE.
    """
    if not 0 <= tolerance <= MAX_TOLERANCE:  # NaN neither
        msg = f"the tolerance of a colour is an OKLab distance from 0 to {MAX_TOLERANCE}, not {tolerance}"
        raise ValueError(msg)
    wanted = np.asarray(to_oklab(rgb_of(colour)), dtype=np.float64)
    middle = np.rint(wanted / STEP)
    reach = math.ceil(tolerance / STEP) + 1
    around = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3)))
    places = (middle + around) * STEP
    distances = np.linalg.norm(places - wanted, axis=1)
    near = np.argsort(distances, kind="stable")[: np.count_nonzero(distances <= tolerance)]
    names = [step_of(wanted), *map(hex_of, _all_to_rgb(places[near]))]
    return tuple(dict.fromkeys(names))
