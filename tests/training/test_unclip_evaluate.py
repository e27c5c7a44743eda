"""The figures of the unCLIP recipe are what their names say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from phosphene.encoders import Encoder, load_encoder
from training.clip.picture import Picture
from training.unclip.compare_priors import compare_priors, keep_nearest
from training.unclip.contact_sheet import draw_contact_sheet
from training.unclip.drawn import Drawn, score_captions, score_variations
from training.unclip.held_out import SIDE, HeldOut, embed_pictures

COUNT = 24
ROWS = list(range(12))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("starter")


@pytest.fixture(scope="module")
def held_out(encoder: Encoder) -> HeldOut:
    """Coarse patterns, each with a caption of its own; its text embedding is its picture's."""
    coarse = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), dtype=np.uint8)
    pixels = coarse.repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)
    captions = [f"pattern {letter}" for letter in "abcdefghijklmnopqrstuvwx"]
    pictures = [
        Picture("clipart", "", caption, (f"word {caption}",), ("art",), "", "Public Domain", "demo")
        for caption in captions
    ]
    images = embed_pictures(pixels, encoder)
    return HeldOut(pictures, pixels, images, captions, images)


def test_a_prior_that_knows_the_pictures_is_perfect_and_a_blind_one_is_not(held_out: HeldOut) -> None:
    def blind(captions: Sequence[str], _: Tensor, __: Sequence[int]) -> Tensor:
        return held_out.images[:1].expand(len(captions), -1)

    itself, known, guessed = compare_priors(held_out, {"knows": lambda _, texts, __: texts, "blind": blind})
    assert itself.cosine == pytest.approx(1, abs=1e-5)
    assert known.cosine == pytest.approx(1, abs=1e-5)
    assert known.retrieval.recall[1] == 100
    assert guessed.cosine < known.cosine
    assert guessed.retrieval.recall[1] < 10
    assert guessed.report()["prior"] == "blind"


def test_of_two_candidates_the_one_nearer_to_its_caption_is_kept(held_out: HeldOut) -> None:
    texts, calls = held_out.texts, iter([[0, 1] * (COUNT // 2), [1, 0] * (COUNT // 2)])

    def predict(_: Sequence[str], texts: Tensor, __: Sequence[int]) -> Tensor:
        right = torch.tensor(next(calls)).bool()[:, None]  # each candidate is right in every other row
        return torch.where(right, texts, -texts)

    assert torch.equal(keep_nearest(predict, held_out.captions, texts), texts)


def test_true_pictures_score_as_true_pictures_and_blank_ones_do_not(held_out: HeldOut, encoder: Encoder) -> None:
    true = held_out.pixels[ROWS]
    blank = np.full_like(true, 255)
    scores = score_captions(held_out, Drawn(ROWS, true, blank, 1.5), encoder)
    assert scores["clip_score_drawn_from_caption"] == scores["clip_score_true_picture"] == [1.0, 1.0, 1.0]
    assert scores["above_random_picture_percent"] == [100.0, 100.0, 100.0]
    assert scores["seconds_a_picture"] == 1.5
    assert scores["clip_score_drawn_from_true_embedding"] != scores["clip_score_true_picture"]
    worse = score_captions(held_out, Drawn(ROWS, blank, blank, 1.5), encoder)
    assert worse["clip_score_drawn_from_caption"] == scores["clip_score_drawn_from_true_embedding"]


def test_variations_are_found_where_they_are_their_sources(held_out: HeldOut, encoder: Encoder) -> None:
    true = held_out.pixels[ROWS]
    found = score_variations(held_out, Drawn(ROWS, true, true, 0.0), encoder)
    assert found["found_source_percent"] == found["found_source_or_keyword_percent"] == [100.0, 100.0, 100.0]
    blank = score_variations(held_out, Drawn(ROWS, true, np.full_like(true, 255), 0.0), encoder)
    assert blank["found_source_percent"] != [100.0, 100.0, 100.0]
    assert found["random_source_percent"] != [100.0, 100.0, 100.0]


def test_the_sample_has_each_caption_once_and_is_the_same_each_time(held_out: HeldOut) -> None:
    twice = HeldOut(
        held_out.pictures,
        held_out.pixels,
        held_out.images,
        ["dog", "dog", "17", *held_out.captions[3:]],
        held_out.texts,
    )
    rows = twice.sample(100)
    assert rows == twice.sample(100)
    assert len(rows) == COUNT - 2  # one dog, and no mere number
    assert len(twice.sample(5)) == 5


def test_the_contact_sheet_shows_captions_and_pairs(held_out: HeldOut, tmp_path: Path) -> None:
    true = held_out.pixels[ROWS]
    draw_contact_sheet(held_out, Drawn(ROWS, true, true, 0.0), tmp_path / "sheet.png", captions=9, variations=4)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 8 * SIDE
        assert 3 * SIDE < sheet.height < 4 * SIDE  # two rows of captions, one of pairs
