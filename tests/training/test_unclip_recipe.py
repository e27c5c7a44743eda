"""The whole recipe on a few pictures: from the CLIP recipe's cache to a folder that imagines."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from phosphene.encoders import load_encoder
from phosphene.unclip.imagine import Part, Request, imagine
from phosphene.unclip.loading import load_generator
from tests.training import tiny_unclip
from training.clip.picture import Picture, write_pictures
from training.clip.render import SIDE
from training.clip.workspace import Workspace
from training.unclip.__main__ import steps
from training.unclip.captions import TEMPLATES, Captions, draw_templates
from training.unclip.embeddings import EmbeddingCache, training_rows
from training.unclip.recipe import AutoregressiveShape, Plan, Recipe
from training.unclip.train import train_network
from training.unclip.workspace import UnclipWorkspace

PLAN = Plan(steps=2, batch=4, learning_rate=1e-4, warmup=1, report_every=1, save_every=1)
RECIPE = Recipe(
    shape=replace(tiny_unclip.SHAPE, dimension=256),
    autoregressive_shape=AutoregressiveShape(components=8, buckets=4, match_buckets=4, width=16, heads=2, layers=1),
    views=2,
    prior=PLAN,
    autoregressive_prior=PLAN,
    decoder=PLAN,
    decoder_longer=PLAN,
    super_resolution=PLAN,
)
LABELS = ("red dog", "blue cat", "green tree", "house", "boat", "sun", "moon", "star")


def pictures() -> list[Picture]:
    train = Picture("noto", "emoji:1", "", ("thing",), ("objects", "other"), "", "Apache-2.0", "train")
    shown = [replace(train, label=label) for label in LABELS]
    return [
        replace(train, label="unseen demo", split="demo"),
        *shown,
        replace(train, label="unseen style", split="openmoji"),
        replace(train, label="unseen title", split="validation"),
    ]


def test_what_the_clip_recipe_holds_out_is_never_trained_on() -> None:
    listed = pictures()
    assert {listed[row].split for row in training_rows(listed)} == {"train"}
    assert len(training_rows(listed)) == len(LABELS)
    assert training_rows(listed, every=3).tolist() == [1, 4, 7]


def test_captions_are_drawn_by_their_weights_and_only_their_own() -> None:
    captions = Captions.of([[("dog", 3.0), ("pet", 1.0)], [("cat", 1.0), ("pet", 0.0)], [("pet", 2.0)]])
    drawn = captions.draw(np.repeat([0, 1, 2], 4000), np.random.default_rng(0))
    texts = [captions.texts[text] for text in drawn]
    assert Counter(texts[:4000])["dog"] == pytest.approx(3000, abs=120)
    assert set(texts[:4000]) == {"dog", "pet"}
    assert set(texts[4000:8000]) == {"cat"}
    assert set(texts[8000:]) == {"pet"}
    templates = Counter(draw_templates(6000, np.random.default_rng(0)).tolist())
    assert templates[0] == pytest.approx(3000, abs=150)
    assert set(templates) == set(range(len(TEMPLATES)))


def test_a_picture_without_caption_is_refused() -> None:
    with pytest.raises(ValueError, match="picture 1 has no caption"):
        Captions.of([[("dog", 1.0)], []])


def test_the_recipe_makes_a_folder_that_imagines(tmp_path: Path) -> None:
    clip = Workspace(tmp_path / "clip")
    clip.root.mkdir()
    tiles = np.random.default_rng(0).integers(0, 256, (len(pictures()), SIDE, SIDE, 4), dtype=np.uint8)
    np.save(clip.pixels, tiles)
    write_pictures(clip.pictures, pictures())
    encoder = load_encoder("starter")
    workspace = UnclipWorkspace(clip, tmp_path / "work", encoder.space.id)
    target = tmp_path / "unclip"
    for step in steps(workspace, RECIPE, target=target, workers=1).values():
        step()

    cache = EmbeddingCache.load(workspace.embeddings)
    assert cache.images.shape == (2, len(LABELS), 256)
    assert np.allclose(np.linalg.norm(cache.images.astype(np.float32), axis=2), 1, atol=2e-3)
    read = encoder.encode_texts(["a drawing of red dog"]).unit().rows
    assert np.allclose(cache.texts[2, 0], read[0], atol=1e-3)

    generator = load_generator(str(target), encoder=encoder, device="cpu")
    sampling = replace(generator.card.sampling, prior_steps=2, decoder_steps=2, super_resolution_steps=2)
    imagined = imagine(Request((Part("a dog"),), images=2, sampling=sampling), generator=generator)
    assert imagined.pixels.shape == (2, 64, 64, 3)
    assert not np.array_equal(imagined.pixels[0], imagined.pixels[1])
    assert generator.card.clip.space == encoder.space.id
    weights = sorted(target.rglob("*.safetensors"))
    assert len(weights) == 3
    for path in weights:
        assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444
        with safe_open(path, "pt") as tensors:
            assert {str(tensors.get_slice(key).get_dtype()) for key in tensors.keys()} == {"F16"}  # noqa: SIM118

    stamps = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")}
    for step in steps(workspace, RECIPE, target=tmp_path / "again", workers=1).values():
        step()
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")} == stamps
    assert (tmp_path / "again/decoder/diffusion_pytorch_model.safetensors").read_bytes() == weights[0].read_bytes()

    for path in workspace.root.glob("decoder_longer*"):
        path.unlink()
    train_network("decoder_longer", workspace, replace(RECIPE, decoder_longer=replace(PLAN, steps=0)), workers=1)
    first, longer = load_file(workspace.decoder), load_file(workspace.decoder_longer)
    assert all(torch.equal(longer[name], weights) for name, weights in first.items()), (
        "it goes on from the first course"
    )
