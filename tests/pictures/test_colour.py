from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from phosphene.colour import to_srgb
from phosphene.images import open_picture
from tests.pictures.samples import LIMITS, cmyk_profile, encoded, picture


def seen(image: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray[Any, np.dtype[np.int64]]:  # noqa: ANN401
    return np.asarray(open_picture(encoded(image, kind, **options), LIMITS)[0], dtype=np.int64)


def half(mode: str, left: Any, right: Any) -> Image.Image:  # noqa: ANN401  # a colour of any mode
    image = Image.new(mode, (20, 10), right)
    image.paste(left, (0, 0, 10, 10))
    return image


RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_rescaled_and_not_clipped(kind: str) -> None:
    shown = seen(Image.fromarray(RAMP), kind)
    assert np.abs(shown[..., 0].ravel() - np.arange(256)).max() <= 1
    assert (shown[..., 0] == shown[..., 2]).all()


def test_sixteen_bit_grey_of_either_byte_order_is_rescaled() -> None:
    for order in ("<u2", ">u2"):
        shown = np.asarray(to_srgb(Image.fromarray(RAMP.astype(order))), dtype=int)
        assert np.abs(shown[..., 0].ravel() - np.arange(256)).max() <= 1


def test_sixteen_bit_colour_png_keeps_its_colours() -> None:
    # Pillow writes no 16-bit RGB, so the file is made by hand.
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixel = struct.pack(">3H", 40000, 20000, 65535)
    rows = (b"\0" + pixel * 4) * 4
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    colour = np.asarray(open_picture(data, LIMITS)[0])[2, 2].astype(int)
    assert np.abs(colour - [156, 78, 255]).max() <= 1


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.linspace(0, 1, 256), np.float32),
        (np.linspace(0, 255, 256), np.float32),
        (np.linspace(-3, 7, 256), np.float32),
        (np.arange(256) * 257, np.int32),
        (np.arange(256), np.int32),
        (np.arange(256) * 1_000_000 - 5, np.int32),
    ],
)
def test_floats_and_long_integers_are_brought_into_range(values: Any, dtype: Any) -> None:  # noqa: ANN401
    shown = seen(Image.fromarray(values.astype(dtype).reshape(16, 16)), "TIFF")
    assert np.abs(shown[..., 1].ravel() - np.arange(256)).max() <= 1


def test_floats_that_are_no_numbers_do_no_harm() -> None:
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0], values[1, 1] = np.nan, np.inf
    shown = seen(Image.fromarray(values), "TIFF")
    assert shown[3, 3, 0] == 128
    assert shown[0, 0, 0] == 0


def test_transparent_pixels_are_white() -> None:
    rgba = half("RGBA", (255, 0, 0, 255), (0, 0, 0, 0))
    for kind in ("PNG", "WEBP", "TIFF"):
        shown = seen(rgba, kind, **({"lossless": True} if kind == "WEBP" else {}))
        assert tuple(shown[5, 3]) == (255, 0, 0)
        assert tuple(shown[5, 16]) == (255, 255, 255)
    assert tuple(seen(half("RGBA", (0, 0, 0, 128), (0, 0, 0, 0)))[5, 3]) == (127, 127, 127)
    assert tuple(seen(half("LA", (10, 255), (0, 0)))[5, 16]) == (255, 255, 255)
    assert tuple(seen(half("RGB", (1, 2, 3), (9, 9, 9)), transparency=(9, 9, 9))[5, 16]) == (255, 255, 255)
    assert tuple(seen(half("L", 10, 0), transparency=0)[5, 16]) == (255, 255, 255)


def test_palettes_with_and_without_a_transparent_entry() -> None:
    palette = half("RGB", (200, 10, 20), (0, 90, 0)).quantize(4)
    assert tuple(seen(palette)[5, 3]) == (200, 10, 20)
    index = palette.getpixel((16, 5))
    for kind in ("PNG", "GIF"):
        shown = seen(palette, kind, transparency=index)
        assert tuple(shown[5, 3]) == (200, 10, 20)
        assert tuple(shown[5, 16]) == (255, 255, 255)


def test_one_bit_pictures() -> None:
    for kind in ("PNG", "TIFF", "BMP"):
        shown = seen(half("1", 1, 0), kind)
        assert tuple(shown[5, 3]) == (255, 255, 255)
        assert tuple(shown[5, 16]) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(kind: str) -> None:
    ink = half("CMYK", (255, 0, 0, 0), (0, 0, 0, 0))
    options = {"quality": 95} if kind == "JPEG" else {}
    red = seen(ink, kind, icc_profile=cmyk_profile(), **options)
    assert np.abs(red[5, 3] - [251, 0, 8]).max() <= 6  # the profile makes any ink red
    assert np.abs(red[5, 16] - [255, 255, 255]).max() <= 6


@pytest.mark.parametrize("profile", [None, b"no profile at all" * 20, cmyk_profile()[:400]])
def test_cmyk_without_a_good_profile_is_converted_plainly(profile: bytes | None) -> None:
    options = {"icc_profile": profile} if profile else {}
    cyan = seen(half("CMYK", (255, 0, 0, 0), (0, 0, 0, 0)), "TIFF", **options)
    assert tuple(cyan[5, 3]) == (0, 255, 255)
    assert tuple(cyan[5, 16]) == (255, 255, 255)


def test_a_profile_of_another_kind_of_picture_is_ignored() -> None:
    assert np.array_equal(seen(picture(30, 20), icc_profile=cmyk_profile()), np.asarray(picture(30, 20)))


def test_srgb_pictures_are_left_alone_and_other_profiles_converted() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(seen(picture(30, 20), icc_profile=srgb), np.asarray(picture(30, 20)))
    # The same profile under another name and with red and green primaries exchanged.
    swapped = srgb.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "GRBs".encode("utf-16-be")).replace(b"sRGB b", b"GRBs b")
    shown = seen(half("RGB", (255, 0, 0), (0, 255, 0)), icc_profile=swapped)
    assert np.abs(shown[5, 3] - [0, 255, 0]).max() <= 3
    assert np.abs(shown[5, 16] - [255, 0, 0]).max() <= 3


def test_lab_tiff_is_converted() -> None:
    shown = seen(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF")
    assert np.abs(shown[4, 4] - 255).max() <= 3


def test_ycck_jpeg_is_decoded_as_ink() -> None:
    data = bytearray(encoded(half("CMYK", (255, 0, 0, 0), (0, 0, 0, 0)), "JPEG", quality=95))
    at = data.index(b"Adobe") + 11
    data[at] = 2  # its four channels are YCCK now
    opened, info = open_picture(bytes(data), LIMITS)
    assert (info.format, opened.mode) == ("jpeg", "RGB")
    left, right = np.asarray(opened, int)[5, 3], np.asarray(opened, int)[5, 16]
    assert np.abs(left - right).max() > 60  # two colours are still two
