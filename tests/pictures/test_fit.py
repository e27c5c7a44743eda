"""`fit` against the transform that open_clip itself makes for a model with such a configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from phosphene.images import fit, open_picture
from phosphene.types import PixelSpec
from tests.pictures.samples import LIMITS, jpeg, picture

SIZES = [
    (64, 64), (640, 480), (333, 517), (517, 333), (31, 47), (100, 63), (63, 100), (2000, 33), (33, 1999), (1, 1),
    (64, 65), (1237, 1238), (3, 200),
]  # fmt: skip


def open_clip_pixels(image: Image.Image, spec: PixelSpec) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from open_clip.transform import PreprocessCfg, image_transform_v2  # takes seconds

    transform = image_transform_v2(
        PreprocessCfg(size=spec.size, interpolation=spec.interpolation, resize_mode=spec.resize, fill_color=spec.fill),
        is_train=False,
    )
    for step in transform.transforms[:-2]:  # all but ToTensor and Normalize
        image = step(image)
    return np.asarray(image)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("side", [64, 97])
def test_fit_is_open_clips_own_transform(size: tuple[int, int], resize: Any, interpolation: Any, side: int) -> None:  # noqa: ANN401
    if resize == "longest" and min(size) / max(size) * side < 0.5:
        pytest.skip("open_clip itself fails on a picture that becomes 0 pixels high")
    spec = PixelSpec(size=side, resize=resize, interpolation=interpolation, fill=127)
    image = picture(*size)
    ours = fit(image, spec)
    assert (ours.shape, str(ours.dtype)) == ((side, side, 3), "uint8")
    assert np.array_equal(ours, open_clip_pixels(image, spec))


def test_a_model_made_by_open_clip_gives_the_same_transform() -> None:
    import open_clip  # takes seconds

    _, _, transform = open_clip.create_model_and_transforms("ViT-B-32", load_weights=False)
    image = picture(517, 333)
    for step in transform.transforms[:-2]:
        image = step(image)
    assert np.array_equal(fit(picture(517, 333), PixelSpec(size=224)), np.asarray(image))


@pytest.mark.parametrize("size", [(9000, 60), (60, 9000), (2, 400)])
def test_very_long_pictures_are_fitted_without_resizing_all_of_them(size: tuple[int, int]) -> None:
    spec = PixelSpec(size=336)
    image = picture(*size)
    near = np.abs(fit(image, spec).astype(int) - open_clip_pixels(image, spec).astype(int))
    assert near.max() <= 2


def test_a_picture_of_one_pixel_height_and_50_megapixels_can_be_fitted() -> None:
    image = Image.new("RGB", (20_000_000, 1), "red")
    assert fit(image, PixelSpec(size=224)).shape == (224, 224, 3)
    assert fit(image, PixelSpec(size=224, resize="longest")).shape == (224, 224, 3)


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (1600, 1200), (5000, 1024)])
def test_reduced_decoding_hardly_moves_a_pixel(size: tuple[int, int]) -> None:
    data = jpeg(*size, quality=90)
    spec = PixelSpec(size=224)
    whole = fit(open_picture(data, LIMITS)[0], spec).astype(int)
    reduced = fit(open_picture(data, LIMITS, shortest_side=256)[0], spec).astype(int)
    assert np.abs(whole - reduced).max() <= 6
    assert np.abs(whole - reduced).mean() < 0.6
