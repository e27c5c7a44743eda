"""Schedules, targets and dropped conditions of the diffusion lessons are those of the layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from phosphene.unclip.starter_layout import picture_schedule, prior_schedule, unfold
from tests.training import tiny_unclip
from training.unclip.fit import Draw
from training.unclip.lessons import DecoderLesson, PriorLesson, SuperResolutionLesson
from training.unclip.noise import Noised, drop_conditions, perturb, picture_loss, shrink

ALBUM = tiny_unclip.album()


def draw(step: int = 0) -> Draw:
    return Draw.of(seed=0, step=step, rank=0)


class Recorder(nn.Module):
    """Stands for a network: keeps what it is given, and answers with the noisy sample itself."""

    def __init__(self, real: Any) -> None:  # noqa: ANN401  # diffusers publishes no types
        super().__init__()
        self.config = real.config
        self.calls: list[tuple[Tensor, Tensor, dict[str, Any]]] = []
        self.clip_mean, self.clip_std = (getattr(real, name, None) for name in ("clip_mean", "clip_std"))

    def forward(self, noisy: Tensor, t: Tensor, **conditions: Any) -> SimpleNamespace:  # noqa: ANN401
        self.calls.append((noisy, t, conditions))
        channels = self.config.get("out_channels", noisy.shape[1])
        return SimpleNamespace(predicted_image_embedding=noisy, sample=noisy[:, :channels])


@pytest.mark.parametrize("make", [prior_schedule, picture_schedule])
def test_noise_is_mixed_in_as_the_schedule_says_at_any_time(make: Callable[[], Any]) -> None:
    schedule, clean = make(), torch.zeros(4000, 1)
    noised = Noised.of(clean + 3, schedule, draw())
    kept = schedule.alphas_cumprod[noised.t]
    noise = (noised.noisy[:, 0] - kept.sqrt() * 3) / (1 - kept).sqrt()
    assert abs(float(noise.mean())) < 0.06
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert set(noised.t.tolist()) <= set(range(1000))
    assert [int(((noised.t >= low) & (noised.t < low + 250)).sum()) for low in range(0, 1000, 250)] == pytest.approx(
        [1000] * 4, abs=110
    )


def test_a_tenth_of_the_conditions_is_dropped_and_the_others_are_untouched() -> None:
    units = torch.nn.functional.normalize(torch.randn(5000, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    kept = drop_conditions(units, draw())
    dropped = (kept == 0).all(dim=1)
    assert 0.08 < float(dropped.float().mean()) < 0.12
    assert torch.equal(kept[~dropped], units[~dropped])


def test_perturbed_embeddings_stay_near_and_of_length_one() -> None:
    units = torch.nn.functional.normalize(torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    cosines = (perturb(units, draw(), most=0.3) * units).sum(dim=1)
    torch.testing.assert_close(perturb(units, draw(), most=0.3).norm(dim=1), torch.ones(500))
    assert 0.9 < float(cosines.min()) < 0.97
    assert float(cosines.max()) > 0.999


def test_the_loss_of_pictures_weighs_by_the_cut_off_signal_to_noise_ratio() -> None:
    schedule = picture_schedule()
    clean, wrong = torch.zeros(1, 12, 4, 4), torch.full((1, 12, 4, 4), 0.5)
    for t in (0, 300, 700, 999):
        signal = float(schedule.alphas_cumprod[t])
        expected = 0.25 * min(signal / (1 - signal) + 1, 5)
        assert float(picture_loss(wrong, clean, torch.tensor([t]), schedule)) == pytest.approx(expected, rel=1e-4)
        assert float(picture_loss(clean, clean, torch.tensor([t]), schedule)) == 0


def test_the_prior_learns_whitened_embeddings_under_a_cosine_schedule() -> None:
    networks = tiny_unclip.networks(ALBUM)
    recorder = Recorder(networks.prior)
    lesson = PriorLesson(ALBUM, replace(networks, prior=recorder))
    # Whoever answers with the noisy sample errs by (1 - √ā)² + 1 - ā where data have variance 1: 2 - 4/π on average.
    assert float(lesson.loss(draw(), 4000)) == pytest.approx(2 - 4 / torch.pi, abs=0.05)
    noisy, t, conditions = recorder.calls[0]
    text = conditions["proj_embedding"]
    early, told = t < 30, (text != 0).any(dim=1)
    whitened = noisy[early & told] * networks.prior.clip_std + networks.prior.clip_mean
    assert torch.equal(whitened.argmax(dim=1), (-text[early & told]).argmax(dim=1))  # the caption of that very picture
    assert 0.08 < float((~told).float().mean()) < 0.12


def test_the_decoder_draws_the_very_view_that_it_is_told_of() -> None:
    networks = tiny_unclip.networks(ALBUM)
    recorder = Recorder(networks.decoder)
    DecoderLesson(ALBUM, replace(networks, decoder=recorder)).loss(draw(), 150)
    noisy, t, conditions = recorder.calls[0]
    image = conditions["added_cond_kwargs"]["image_embeds"]
    early, told = t < 500, (image != 0).any(dim=1)
    kept = picture_schedule().alphas_cumprod[t].sqrt()[:, None, None, None]
    seen = unfold(noisy / kept, tiny_unclip.SHAPE.decoder_fold).mean(dim=(1, 2, 3))
    expected = torch.tensor([tiny_unclip.brightness(int(item)) for item in image.argmax(dim=1)])
    torch.testing.assert_close(seen[early & told], expected[early & told], atol=0.06, rtol=0)
    assert 0.04 < float((~told).float().mean()) < 0.17
    assert torch.allclose(image[told].norm(dim=1), torch.ones(1))


def test_super_resolution_starts_from_a_slightly_noisy_small_version_of_its_target() -> None:
    networks = tiny_unclip.networks(ALBUM)
    recorder = Recorder(networks.super_resolution)
    lesson = SuperResolutionLesson(ALBUM, replace(networks, super_resolution=recorder))
    lesson.loss(draw(), 60)
    both, t, _ = recorder.calls[0]
    noisy, low = both.chunk(2, dim=1)
    early = t < 500
    kept = picture_schedule().alphas_cumprod[t].sqrt()[:, None, None, None]
    target = (noisy / kept).mean(dim=(1, 2, 3))
    torch.testing.assert_close(target[early], low.mean(dim=(1, 2, 3))[early], atol=0.06, rtol=0)
    large = ALBUM.pictures(ALBUM.draw(8, draw().numbers), side=64)
    spoiled = torch.stack([lesson.spoil(large, draw(step)) - shrink(large, 32) for step in range(20)])
    assert spoiled.shape[-2:] == (32, 32)
    assert 0.03 < float(spoiled.std()) < 0.08  # up to 0.1, evenly
