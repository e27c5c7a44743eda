"""Attributes of pictures whose answer is known, since the test draws them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from phosphene.attributes import PLACES, Attributes
from phosphene.decoding import DecoderPool
from phosphene.images import open_picture, picture_attributes
from phosphene.types import PixelSpec
from tests.pictures.samples import LIMITS, encoded, picture


def told(image: Image.Image, kind: str = "PNG", **options: int) -> Attributes:
    return picture_attributes(*open_picture(encoded(image, kind, **options), LIMITS))


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Every part full of detail."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)


def disc(ground: str = "white", subject: str = "#e02020", side: int = 300, radius: int = 90) -> Image.Image:
    image = Image.new("RGB", (side, side), ground)
    middle = side // 2
    ImageDraw.Draw(image).ellipse((middle - radius, middle - radius, middle + radius, middle + radius), fill=subject)
    return image


def flag(*colours: tuple[str, int]) -> Image.Image:
    """Upright stripes of given widths, 100 high."""
    image = Image.new("RGB", (sum(width for _, width in colours), 100))
    left = 0
    for colour, width in colours:
        image.paste(colour, (left, 0, left + width, 100))
        left += width
    return image


def test_a_palette_has_each_colour_with_its_name_and_share() -> None:
    palette = told(flag(("#008040", 200), ("#ffffff", 100), ("#d02030", 100))).palette
    assert [(colour.name, colour.hex) for colour in palette[:1]] == [("green", "#008040")]
    assert {(colour.name, colour.hex) for colour in palette} == {
        ("green", "#008040"),
        ("white", "#ffffff"),
        ("red", "#d02030"),
    }
    assert [colour.share for colour in palette] == pytest.approx([0.5, 0.25, 0.25], abs=0.02)


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("#000000", "black"),
        ("#ffffff", "white"),
        ("#7f7f7f", "grey"),
        ("#dcdcdc", "grey"),
        ("#ff0000", "red"),
        ("#8b0000", "red"),
        ("#ff8800", "orange"),
        ("#ffe600", "yellow"),
        ("#228b22", "green"),
        ("#40e0d0", "turquoise"),
        ("#1040c0", "blue"),
        ("#87ceeb", "blue"),
        ("#7030a0", "purple"),
        ("#ffb0c8", "pink"),
        ("#6b3e1e", "brown"),
        ("#ead9b8", "beige"),
    ],
)
def test_colours_have_the_names_that_people_give_them(colour: str, name: str) -> None:
    attributes = told(Image.new("RGB", (64, 48), colour))
    assert (attributes.colours, attributes.main_colour) == ((name,), name)


def test_a_small_subject_has_its_colours_though_most_is_ground() -> None:
    attributes = told(disc(radius=25))  # 2 % of the picture
    assert attributes.colours == ("white", "red")
    assert attributes.main_colour == "red"


def test_the_same_pixels_in_any_order_have_the_same_palette() -> None:
    one, other = flag(("#102080", 60), ("#f0c000", 140)), flag(("#f0c000", 140), ("#102080", 60))
    assert told(one).palette == told(other).palette


@pytest.mark.parametrize("ground", ["white", "#204080", "black"])
def test_a_subject_on_plain_ground_is_isolated(ground: str) -> None:
    attributes = told(disc(ground), "JPEG", quality=80)
    assert attributes.isolated
    shown, meant = ImageColor.getrgb(attributes.ground or ""), ImageColor.getrgb(ground)
    assert max(abs(one - other) for one, other in zip(shown, meant, strict=True)) <= 6


def test_a_subject_that_touches_two_sides_is_isolated_still() -> None:
    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).rectangle((0, 90, 299, 110), fill="navy")  # a tenth of two sides
    assert told(image).isolated


def test_what_stands_on_no_plain_ground_is_not_isolated() -> None:
    over_noise = noise(300, 300)
    over_noise.paste(disc(side=150, radius=60), (75, 75))
    landscape = Image.new("RGB", (300, 200), "#87ceeb")
    landscape.paste(noise(300, 60), (0, 140))  # plain sky, but not below
    for image in (over_noise, landscape, Image.new("RGB", (300, 200), "white"), picture(300, 200)):
        assert not told(image).isolated


@pytest.mark.parametrize(
    ("box", "places"),
    [
        ((0, 0, 180, 200), ("right",)),
        ((120, 0, 300, 200), ("left",)),
        ((0, 80, 300, 200), ("top",)),
        ((0, 0, 300, 120), ("bottom",)),
        ((110, 70, 190, 130), ("left", "right", "top", "bottom")),
        ((0, 0, 300, 200), ()),
    ],
)
def test_copy_space_is_where_nothing_is(box: tuple[int, int, int, int], places: tuple[str, ...]) -> None:
    image = Image.new("RGB", (300, 200), "#d8e8f0")
    left, top, right, bottom = box
    image.paste(noise(right - left, bottom - top), (left, top))
    assert told(image, "JPEG", quality=85).copy_space == places


def test_a_frame_has_its_copy_space_in_the_middle() -> None:
    image = noise(320, 320)
    image.paste("white", (60, 60, 260, 260))
    assert told(image).copy_space == ("centre",)
    assert told(Image.new("RGB", (90, 60), "teal")).copy_space == PLACES


def test_black_and_white_is_told_from_little_and_from_much_colour() -> None:
    photo = picture(200, 150).convert("L").convert("RGB")
    sepia = Image.merge(
        "RGB",
        [photo.getchannel(0).point([round(min(255, level * k)) for level in range(256)]) for k in (1.1, 0.9, 0.65)],
    )
    spot = photo.copy()
    spot.paste("red", (90, 60, 130, 100))
    assert told(photo, "JPEG", quality=70).black_and_white
    assert told(encoded_grey := photo.convert("L")).black_and_white, encoded_grey.mode
    assert not any(told(image).black_and_white for image in (sepia, spot, picture(200, 150)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_what_one_sees_through(mode: str) -> None:
    solid = disc()
    clear = solid.convert("RGBA")
    clear.putalpha(disc("black", "white").convert("L"))
    if mode == "P":
        through = solid.quantize(8)
        through.info["transparency"] = through.getpixel((0, 0))
    else:
        through = clear.convert(mode)
    assert told(through).transparent
    assert not told(solid).transparent
    assert not told(solid.convert("RGBA")).transparent  # may be, and is not


def test_sharpness_falls_with_blur_and_sees_a_sharp_subject_before_soft_ground() -> None:
    sharp = noise(640, 480)
    by_blur = [told(sharp.filter(ImageFilter.GaussianBlur(radius))).sharpness for radius in (0, 3, 6, 12)]
    assert by_blur == sorted(by_blur, reverse=True)
    assert by_blur[0] > 0.6
    assert by_blur[-1] < 0.3
    portrait = sharp.filter(ImageFilter.GaussianBlur(12))
    portrait.paste(sharp.crop((220, 160, 420, 320)), (220, 160))
    assert told(portrait).sharpness > 0.5
    assert told(Image.new("RGB", (300, 300), "white")).sharpness == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**31), st.sampled_from(["smooth", "noise", "plain"]))
def test_every_picture_has_attributes_that_come_back_from_json(width: int, height: int, seed: int, kind: str) -> None:
    made = {"smooth": picture, "noise": noise}.get(kind)
    image = made(width, height, seed=seed) if made else Image.new("RGB", (width, height), (seed % 256, 99, 12))
    attributes = told(image)
    assert Attributes.of_json(attributes.as_json()) == attributes
    assert 0 <= attributes.sharpness <= 1
    assert sum(colour.share for colour in attributes.palette) <= 1.001
    assert list(attributes.palette) == sorted(attributes.palette, key=lambda colour: -colour.share)


def test_turned_pictures_have_copy_space_where_one_sees_it() -> None:
    image = Image.new("RGB", (300, 200), "white")
    image.paste(noise(300, 120), (0, 0))  # room at the bottom
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned right: what is at the bottom of the file is seen at the left
    assert told(image).copy_space == ("bottom",)
    opened, info = open_picture(encoded(image, "JPEG", exif=turned.tobytes()), LIMITS)
    assert picture_attributes(opened, info).copy_space == ("left",)


def test_decoders_tell_the_same_attributes_and_only_when_the_picture_comes_in() -> None:
    data = encoded(disc())
    with DecoderPool(processes=1, limits=LIMITS, timeout_s=60, memory_bytes=2**31) as pool:
        coming_in = pool.decode(data, spec=PixelSpec(size=32)).result()
        again = pool.decode(data, spec=PixelSpec(size=32), thumbnail=False).result()
    assert coming_in.attributes == told(disc())
    assert again.attributes is None
