"""The starter's runtime against the formulas, written out plainly. Random weights: plumbing, not meaning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from phosphene.encoders import Encoder
from phosphene.images import fit_pixels
from phosphene.unclip import starter_layout as layout
from phosphene.unclip.base import RawRows, Sampling, Watch, derived_seed
from phosphene.unclip.starter import StarterGenerator
from phosphene.unclip.starter_layout import StarterNetworks

SEED = 12
SAMPLING = Sampling(prior_steps=5, prior_guidance=3.0, decoder_steps=4, decoder_guidance=2.5, super_resolution_steps=3)


@pytest.fixture(scope="module")
def generator(folders: dict[str, Path], encoder: Encoder) -> StarterGenerator:
    return StarterGenerator(folders["starter"], encoder=encoder)


@pytest.fixture(scope="module")
def networks(folders: dict[str, Path]) -> StarterNetworks:
    return StarterNetworks.load(folders["starter"], layout.read_config(folders["starter"]))


def alpha_bar(t: int) -> float:
    """Share of the signal that is left at t: Nichol and Dhariwal 2021 (arXiv 2102.09672), equation 17."""

    def cosine(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    left = 1.0
    for step in range(t + 1):
        left *= 1 - min(1 - cosine((step + 1) / 1000) / cosine(step / 1000), 0.999)
    return left


def walk(
    clean: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    stage: str,
    shape: tuple[int, ...],
    *,
    steps: int,
    limit: float,
) -> torch.Tensor:
    """Sample as Ho et al. 2020 (arXiv 2006.11239), equations 6 and 7, from predictions of the clean sample."""
    noise = torch.Generator().manual_seed(derived_seed(SEED, stage))
    x = torch.randn((1, *shape), generator=noise)
    times = [round(float(t)) for t in np.linspace(999, 0, steps)]
    for t, following in zip(times, [*times[1:], None], strict=True):
        before, after = alpha_bar(t), 1.0 if following is None else alpha_bar(following)
        alpha = before / after
        x0 = clean(x, torch.tensor([t])).clamp(-limit, limit)
        x = math.sqrt(after) * (1 - alpha) / (1 - before) * x0 + math.sqrt(alpha) * (1 - after) / (1 - before) * x
        if following is not None:
            deviation = math.sqrt((1 - after) / (1 - before) * (1 - alpha))
            x += deviation * torch.randn((1, *shape), generator=noise)
    return x


@torch.no_grad()
@pytest.mark.parametrize("negative", [None, "green"])
def test_the_prior_samples_as_written(
    generator: StarterGenerator, networks: StarterNetworks, encoder: Encoder, negative: str | None
) -> None:
    text = torch.from_numpy(encoder.encode_texts(["a red bus"]).unit().rows)
    avoided = torch.zeros_like(text)
    if negative is not None:
        avoided = torch.from_numpy(encoder.encode_texts([negative]).unit().rows)

    def clean(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked = networks.prior(x, t, proj_embedding=text).predicted_image_embedding
        other = networks.prior(x, t, proj_embedding=avoided).predicted_image_embedding
        return torch.as_tensor(3.0 * asked - 2.0 * other)

    whitened = walk(clean, "prior", (256,), steps=5, limit=5.0)
    expected = functional.normalize(whitened * networks.prior.clip_std + networks.prior.clip_mean, dim=-1)
    made = generator.predict(["a red bus"], seeds=[SEED], sampling=SAMPLING, negative=negative, watch=Watch())
    np.testing.assert_allclose(made, expected, atol=1e-4)


@torch.no_grad()
def test_decoder_and_super_resolution_sample_as_written(generator: StarterGenerator, networks: StarterNetworks) -> None:
    raw = RawRows(9 * np.random.default_rng(2).standard_normal((1, 256)).astype(np.float32))
    image = functional.normalize(torch.from_numpy(raw), dim=-1)

    def draw(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        both = [
            networks.decoder(x, t, encoder_hidden_states=None, added_cond_kwargs={"image_embeds": condition}).sample
            for condition in (torch.zeros_like(image), image)
        ]
        return torch.as_tensor(both[0] + 2.5 * (both[1] - both[0]))

    small = functional.pixel_shuffle(walk(draw, "decoder", (12, 8, 8), steps=4, limit=1.0), 2).clamp(-1, 1)
    low = functional.interpolate(small, size=(32, 32), mode="bicubic", align_corners=False, antialias=True)
    low = functional.pixel_unshuffle(low.clamp(-1, 1), 2)

    def sharpen(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(networks.super_resolution(torch.cat([x, low], dim=1), t).sample)

    large = functional.pixel_shuffle(walk(sharpen, "super_resolution", (12, 16, 16), steps=3, limit=1.0), 2)
    for size, expected in zip(generator.card.sizes, (large, small), strict=True):
        pixels = generator.decode(
            raw, captions=[""], seeds=[SEED], sampling=SAMPLING, negative=None, size=size, watch=Watch()
        )
        reference = ((expected.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
        assert np.abs(pixels - reference).max() <= 1


@pytest.mark.parametrize("caption", ["a red bus", ""])
def test_of_several_drafts_the_one_nearest_to_what_was_asked_is_kept(
    generator: StarterGenerator, encoder: Encoder, caption: str
) -> None:
    raw = RawRows(np.random.default_rng(4).standard_normal((3, 256)).astype(np.float32))
    small = generator.card.sizes[1]

    def draw(seeds: list[int], sampling: Sampling) -> np.ndarray:
        return generator.decode(
            raw, captions=[caption] * 3, seeds=seeds, sampling=sampling, negative=None, size=small, watch=Watch()
        )

    seeds = [5, 6, 7]
    singly = [draw([derived_seed(seed, "draft", n) if n else seed for seed in seeds], SAMPLING) for n in range(4)]
    seen = np.stack([encoder.encode_pixels(fit_pixels(one, encoder.space.pixels)).unit().rows for one in singly])
    wanted = encoder.encode_texts([caption] * 3).unit().rows if caption else raw / np.linalg.norm(raw, axis=1)[:, None]
    best = (seen * wanted).sum(axis=2).argmax(axis=0)
    assert len(set(best)) > 1  # or a mistake in the order would not show
    kept = draw(seeds, replace(SAMPLING, drafts=4))
    for place, number in enumerate(best):
        assert np.abs(kept[place].astype(int) - singly[number][place].astype(int)).max() <= 1


@pytest.mark.parametrize("drafts", [1, 3])
def test_refinements_come_nearer_to_what_was_asked_and_never_lose_what_was_reached(
    generator: StarterGenerator, encoder: Encoder, drafts: int
) -> None:
    raw = RawRows(np.random.default_rng(4).standard_normal((2, 256)).astype(np.float32))
    small = generator.card.sizes[1]
    told: list[tuple[str, int, int]] = []

    def draw(refinements: int, embeddings: RawRows, seeds: list[int]) -> np.ndarray:
        return generator.decode(
            embeddings,
            captions=[""] * len(seeds),
            seeds=seeds,
            sampling=replace(SAMPLING, drafts=drafts, refinements=refinements),
            negative=None,
            size=small,
            watch=Watch(on_step=lambda step: told.append((step.stage, step.step, step.of))),
        )

    def nearness(pixels: np.ndarray) -> np.ndarray:
        seen = encoder.encode_pixels(fit_pixels(pixels, encoder.space.pixels)).unit().rows
        return np.asarray((seen * (raw / np.linalg.norm(raw, axis=1)[:, None])).sum(axis=1))

    reached = [nearness(draw(refinements, raw, [5, 6])) for refinements in (0, 3, 6)]
    assert (np.diff(reached, axis=0) >= 0).all()
    assert (reached[2] > reached[0]).any()
    told.clear()
    alone = draw(2, RawRows(raw[1:]), [6])
    steps = SAMPLING.decoder_steps + 2 * (SAMPLING.decoder_steps // 2)
    assert told == [("decoder", step, steps) for step in range(1, steps + 1)]
    both = draw(2, raw, [5, 6])
    assert np.abs(alone[0].astype(int) - both[1].astype(int)).max() <= 1, "neighbours in a batch change nothing"
