"""What pictures look like: variants are near, other pictures far."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from phosphene.images import look_of, open_picture
from phosphene.looks import LOOK_BYTES, Looks, bands_of, bits_apart, hash_of, hashes_of, likeness, recoloured
from tests.pictures.samples import LIMITS, encoded, picture


def drawing(seed: int = 0) -> Image.Image:
    """Shapes on white, as clip art has them."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (320, 240), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(9):
        left, top = (int(one) for one in rng.integers(10, 200, 2))
        colour = tuple(int(one) for one in rng.integers(0, 230, 3))
        pen.ellipse((left, top // 2, left + int(rng.integers(20, 110)), top // 2 + int(rng.integers(20, 110))), colour)
    return image


def pair(one: Image.Image, other: Image.Image) -> tuple[Looks, Looks]:
    return Looks.of([look_of(one)]), Looks.of([look_of(other)])


def alike(one: Image.Image, other: Image.Image) -> float:
    first, second = pair(one, other)
    return float(likeness(first.grey, second.grey)[0][0])


@pytest.mark.parametrize("seed", range(4))
def test_variants_are_nearer_than_other_pictures(seed: int) -> None:
    image = drawing(seed)
    variants = [
        image.resize((120, 90)),
        image.crop((16, 12, 320, 240)),
        image.crop((8, 6, 312, 234)),
        Image.open(BytesIO(encoded(image, "JPEG", quality=20))).convert("RGB"),
        ImageOps.autocontrast(image.point(lambda level: round(level * 0.8))),
    ]
    others = [alike(image, drawing(other)) for other in range(20, 30)]
    assert min(alike(image, variant) for variant in variants) > max(0.95, *others)


def test_a_mirrored_look_is_the_look_of_the_mirrored_picture() -> None:
    image = drawing(5)
    mirrored, turned = pair(ImageOps.mirror(image), image)
    assert bits_apart(hashes_of(mirrored.grey), hashes_of(turned.mirrored().grey))[0] <= 2
    assert bits_apart(hashes_of(mirrored.grey), hashes_of(turned.grey))[0] > 10
    assert float(recoloured(mirrored, turned.mirrored())[0]) < 0.05


def test_other_colours_of_one_drawing_are_told() -> None:
    image = drawing(6)
    red, green, blue = image.split()
    swapped = Image.merge("RGB", (blue, red, green))
    assert float(recoloured(*pair(image, swapped))[0]) > 0.5
    assert float(recoloured(*pair(image, image.resize((100, 75))))[0]) < 0.05


def test_what_differs_in_one_place_is_told_from_what_differs_all_over() -> None:
    image = drawing(8)
    spot = image.copy()
    ImageDraw.Draw(spot).rectangle((150, 100, 175, 120), fill="black")
    one_place, all_over = (
        float(likeness(*(one.grey for one in pair(image, other)))[1][0])
        for other in (spot, Image.blend(image, picture(320, 240, seed=3), 0.2))
    )
    assert one_place > 0.8
    assert all_over < 0.5


def test_pictures_without_detail_are_alike_to_nothing() -> None:
    plain = Image.new("RGB", (50, 50), "white")
    assert alike(plain, plain) == 0
    assert alike(plain, drawing()) == pytest.approx(0, abs=1e-6)


def test_a_picture_comes_in_with_its_look() -> None:
    _, info = open_picture(encoded(picture(90, 60)), LIMITS)
    assert info.look is not None
    look = bytes.fromhex(info.look)
    assert len(look) == LOOK_BYTES
    assert hash_of(look) == info.phash
    with pytest.raises(ValueError, match="reshape"):
        Looks.of([look[:-1]])


@given(st.binary(min_size=8, max_size=8), st.sets(st.integers(0, 63), max_size=3))
def test_hashes_that_differ_in_three_bits_share_a_bucket(data: bytes, flips: set[int]) -> None:
    hashed = np.frombuffer(data, dtype=np.uint8)[None]
    bits = np.unpackbits(hashed[0])
    bits[list(flips)] ^= 1
    other = np.packbits(bits)[None]
    assert bits_apart(hashed, other)[0] == len(flips)
    shared = set(bands_of(hashed)[0].tolist()) & set(bands_of(other)[0].tolist())
    assert len(shared) >= 4 - len(flips)
