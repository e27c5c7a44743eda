"""Any mode Pillow decodes to -> 8-bit sRGB: deep pixels rescaled, alpha over white, ICC profiles applied."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_FULL_16_BIT = 65535.0
_WHITE = (255, 255, 255)


def to_srgb(picture: Image.Image) -> Image.Image:
    """Give a picture of any mode as 8-bit RGB in sRGB. A broken or unfitting ICC profile is ignored."""
    profile = picture.info.get("icc_profile")
    if picture.mode in _DEEP_MODES:
        picture = _from_deep(picture)
    elif picture.mode == "LAB":
        return _from_lab(picture)
    if picture.has_transparency_data:
        picture = _over_white(picture)
    if picture.mode not in ("RGB", "CMYK", "L"):
        picture = picture.convert("RGB")
    if isinstance(profile, bytes) and profile:
        picture = _through_profile(picture, profile)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_deep(picture: Image.Image) -> Image.Image:
    """Rescale 16-bit, 32-bit and float grey to 8 bits; Pillow's own convert would clip at 255.

    16-bit pixels span 0..65535 by definition. 32-bit integers and floats have no such definition: the smallest of
    the usual ranges (0..1 for floats, 0..255, 0..65535) that holds them all is taken, else their own.
    """
    pixels = np.asarray(picture, dtype=np.float32)
    finite = np.isfinite(pixels)
    if not finite.all():
        pixels = np.where(finite, pixels, 0.0)
    low, high = 0.0, _FULL_16_BIT
    if picture.mode in ("I", "F"):
        low, high = _range_of(pixels, floats=picture.mode == "F")
    scaled = (pixels - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _range_of(pixels: NDArray[np.floating], *, floats: bool) -> tuple[float, float]:
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0:
        for usual in (1.0, 255.0, _FULL_16_BIT) if floats else (255.0, _FULL_16_BIT):
            if high <= usual:
                return 0.0, usual
    return low, high


def _over_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, (*_WHITE, 255))
    ground.alpha_composite(rgba)
    return ground.convert("RGB")


def _from_lab(picture: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")
    converted = ImageCms.applyTransform(picture, transform)
    if converted is None:  # only with inPlace=True
        raise ValueError("the Lab picture could not be converted")
    return converted


def _through_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    transform = _transform(profile, picture.mode)
    if transform is None:
        return picture
    try:
        return ImageCms.applyTransform(picture, transform) or picture
    except (ImageCms.PyCMSError, ValueError):
        return picture


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=16)  # a library's pictures share a few profiles; building one for CMYK takes some 10 ms
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the way from a profile to sRGB; None where it is sRGB already, is broken, or is not for this mode."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            return None
        return ImageCms.buildTransform(
            source,
            _srgb(),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
