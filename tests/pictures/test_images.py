from __future__ import annotations

import struct
import zlib
from io import BytesIO

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from phosphene.errors import PictureError, PictureFault
from phosphene.images import (
    FORMATS,
    Limits,
    open_picture,
    orientation_of,
    perceptual_hash,
    thumbnail,
)
from phosphene.types import sha256_of
from tests.pictures.samples import GPS_MARK, LIMITS, corners, encoded, exif, jpeg, picture


def fault_of(data: bytes, limits: Limits = LIMITS) -> tuple[PictureFault, str]:
    with pytest.raises(PictureError) as caught:
        open_picture(data, limits)
    return caught.value.fault, str(caught.value)


@pytest.mark.parametrize("kind", list(FORMATS))
def test_each_format_is_read_with_what_is_to_be_known(kind: str) -> None:
    data = encoded(picture(90, 60), kind)
    opened, info = open_picture(data, LIMITS)
    assert (opened.mode, opened.size, opened.info) == ("RGB", (90, 60), {})
    assert (info.width, info.height, info.orientation, info.format) == (90, 60, "landscape", FORMATS[kind])
    assert (info.sha256, info.bytes) == (sha256_of(data), len(data))
    worst = 40 if kind == "GIF" else 12  # of 255: a palette of 256 colours; lossy formats
    assert np.abs(np.asarray(opened, int) - np.asarray(picture(90, 60), int)).mean() < worst


def test_a_jpeg_of_several_pictures_is_its_first() -> None:
    data = encoded(picture(40, 30), "MPO", save_all=True, append_images=[picture(40, 30, seed=1)])
    opened, info = open_picture(data, LIMITS)
    assert info.format == "jpeg"
    assert np.abs(np.asarray(opened, int) - np.asarray(picture(40, 30), int)).mean() < 12


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "blue")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
    opened, _ = open_picture(data, LIMITS)
    red, green, blue = opened.getpixel((16, 16))  # type: ignore[misc]  # RGB gives a tuple
    assert red > 240
    assert max(green, blue) < 15


UPRIGHT = {  # where the red, top left corner of `corners()` is found after each EXIF orientation is applied
    1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(kind: str, orientation: int) -> None:
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"quality": 95} if kind == "AVIF" else {}
    if kind == "WEBP":
        options = {"lossless": True}
    opened, info = open_picture(encoded(corners(), kind, exif=exif(orientation=orientation), **options), LIMITS)
    size = (40, 20) if orientation < 5 else (20, 40)
    assert opened.size == (info.width, info.height) == size
    assert info.orientation == ("landscape" if orientation < 5 else "portrait")
    right, bottom = UPRIGHT[orientation]
    red = opened.getpixel((size[0] - 4 if right else 3, size[1] - 4 if bottom else 3))
    assert np.abs(np.subtract(red, (255, 0, 0))).max() < 30  # type: ignore[arg-type]  # RGB gives a tuple


@pytest.mark.filterwarnings("ignore")  # Pillow warns of the broken EXIF; decoder processes have that off
@pytest.mark.parametrize("broken", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_broken_exif_does_not_cost_the_picture(broken: bytes) -> None:
    opened, _ = open_picture(jpeg(64, 48, exif=broken), LIMITS)
    assert opened.size == (64, 48)


def test_what_is_no_picture_is_said_to_be_none() -> None:
    assert fault_of(b"")[0] is PictureFault.EMPTY
    fault, message = fault_of(b"Dear librarian,\nthis is a letter.\n" * 40)
    assert (fault, "text" in message) == (PictureFault.NOT_A_PICTURE, True)
    assert fault_of("schön".encode() * 300)[1].endswith("it holds text")
    assert fault_of(bytes(range(256)) * 4)[0] is PictureFault.NOT_A_PICTURE
    assert fault_of(bytes(1000))[0] is PictureFault.NOT_A_PICTURE


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "video"),
        (b"8BPS\0\1", "Photoshop"),
    ],
)
def test_known_formats_that_are_not_decoded_are_named(start: bytes, name: str) -> None:
    fault, message = fault_of(start + bytes(200))
    assert fault is PictureFault.UNSUPPORTED_FORMAT
    assert name in message
    assert "convert" in message


@pytest.mark.parametrize("kind", list(FORMATS))
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_files_are_refused(kind: str, kept: float) -> None:
    data = encoded(picture(300, 200), kind)
    fault, message = fault_of(data[: int(len(data) * kept)])
    assert fault in (PictureFault.TRUNCATED, PictureFault.BROKEN)
    if kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        assert fault is PictureFault.TRUNCATED
        assert "cut off" in message


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(FORMATS)), st.data())
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_is_a_picture_or_a_picture_error(kind: str, drawn: st.DataObject) -> None:
    data = bytearray(encoded(picture(40, 30), kind))
    for _ in range(drawn.draw(st.integers(1, 6))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        opened, _ = open_picture(bytes(data), Limits(max_pixels=1_000_000, max_bytes=2**20))
    except PictureError as error:
        assert str(error)
    else:
        assert opened.mode == "RGB"


def test_limits_are_checked_from_the_header_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    fault, message = fault_of(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 999) + b"IDAT")  # nothing to decode
    assert fault is PictureFault.TOO_MANY_PIXELS
    assert "9000 x 9000" in message
    fault, message = fault_of(jpeg(100, 100), Limits(max_pixels=9_999, max_bytes=2**20))
    assert (fault, "10,000" in message) == (PictureFault.TOO_MANY_PIXELS, True)
    open_picture(jpeg(100, 100), Limits(max_pixels=10_000, max_bytes=2**20))
    assert fault_of(jpeg(100, 100), Limits(max_pixels=10_000, max_bytes=100))[0] is PictureFault.TOO_MANY_BYTES


@pytest.mark.parametrize(
    ("width", "height", "orientation"),
    [(100, 98, "square"), (98, 100, "square"), (100, 97, "landscape"), (97, 100, "portrait"), (1, 1, "square")],
)
def test_orientation(width: int, height: int, orientation: str) -> None:
    assert orientation_of(width, height) == orientation


def test_the_perceptual_hash_is_that_of_the_known_library() -> None:
    for seed in range(5):
        small = picture(32, 32, seed=seed)
        assert perceptual_hash(small) == str(imagehash.phash(small))
        large = picture(2000, 1500, seed=seed)
        assert (imagehash.hex_to_hash(perceptual_hash(large)) - imagehash.phash(large)) <= 4


def test_look_alikes_have_near_hashes_and_others_have_not() -> None:
    def distance(a: str, b: str) -> int:
        return (int(a, 16) ^ int(b, 16)).bit_count()

    original = open_picture(jpeg(800, 600, quality=95), LIMITS)[1].phash
    smaller = open_picture(encoded(picture(800, 600).resize((300, 225)), "WEBP"), LIMITS)[1].phash
    other = open_picture(jpeg(800, 600, seed=5), LIMITS)[1].phash
    assert len(original) == 16
    assert distance(original, smaller) <= 6
    assert distance(original, other) > 16


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("side", [256, 1024])
def test_thumbnails_carry_nothing_but_pixels(kind: str, side: int) -> None:
    options = {"exif": exif(), "icc_profile": b"Nowhere" * 20}
    if kind in ("JPEG", "GIF"):
        options["comment"] = b"Nowhere to be found"
    source = encoded(picture(1500, 1000), kind, **options)
    assert GPS_MARK in source
    made = thumbnail(open_picture(source, LIMITS)[0], side)
    small = Image.open(BytesIO(made))
    assert (small.format, small.size) == ("JPEG", (side, round(side * 2 / 3)))
    assert GPS_MARK not in made
    assert not small.getexif()
    assert set(small.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert np.abs(np.asarray(small, int) - np.asarray(picture(1500, 1000).resize(small.size), int)).mean() < 12


def test_thumbnails_of_direct_pictures_drop_comments_too() -> None:
    opened = Image.open(BytesIO(jpeg(40, 30, comment=b"Nowhere")))
    assert GPS_MARK not in thumbnail(opened, 256)


@pytest.mark.parametrize(("size", "expected"), [((50, 20), (50, 20)), ((5000, 3), (256, 1)), ((1, 1), (1, 1))])
def test_thumbnails_never_grow_nor_vanish(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Image.open(BytesIO(thumbnail(picture(*size), 256))).size == expected


def test_a_large_jpeg_may_come_reduced_and_still_tells_its_size() -> None:
    data = jpeg(4000, 3000, exif=exif(orientation=6))
    reduced, info = open_picture(data, LIMITS, shortest_side=256)
    assert (info.width, info.height, reduced.size) == (3000, 4000, (750, 1000))
    whole, same = open_picture(data, LIMITS)
    assert whole.size == (3000, 4000)
    assert (int(same.phash, 16) ^ int(info.phash, 16)).bit_count() <= 4
