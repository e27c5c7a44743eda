"""What reaches the decoders of Kandinsky 2.2 and Stable unCLIP. Random weights: plumbing, not meaning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableUnCLIPPipeline

from phosphene.errors import ModelError
from phosphene.unclip import kandinsky, stable_unclip, text_prior
from phosphene.unclip.base import RawRows, Sampling, Watch
from phosphene.unclip.components import Untyped
from phosphene.unclip.kandinsky import KandinskyGenerator
from phosphene.unclip.stable_unclip import StableUnclipGenerator
from tests.unclip import published_models
from tests.unclip.published_models import CLIP_STD, DIMENSION

LONG = "a red bus in the street with many people in it"
SEEDS = (4, 9)


@pytest.fixture(scope="module")
def kandinsky_2_2(folders: dict[str, Path]) -> KandinskyGenerator:
    return KandinskyGenerator(folders["kandinsky"], prior_folder=folders["kandinsky_prior"])


@pytest.fixture(scope="module")
def stable(folders: dict[str, Path]) -> StableUnclipGenerator:
    return StableUnclipGenerator(folders["stable"], prior_folder=folders["karlo"])


@pytest.fixture
def rows() -> RawRows:
    return RawRows((17 * np.random.default_rng(0).standard_normal((2, DIMENSION))).astype(np.float32))


@contextmanager
def conditions(unet: Untyped) -> Iterator[list[dict[str, Untyped]]]:
    """Record the keyword arguments of each call of a U-Net."""
    seen: list[dict[str, Untyped]] = []
    hook = unet.register_forward_pre_hook(lambda _, __, options: seen.append(options), with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def draw(
    generator: KandinskyGenerator | StableUnclipGenerator,
    rows: RawRows,
    sampling: Sampling,
    *,
    negative: str | None = None,
    caption: str = "",
) -> None:
    generator.decode(
        rows,
        captions=[caption] * 2,
        seeds=SEEDS,
        sampling=sampling,
        negative=negative,
        size=generator.card.sizes[0],
        watch=Watch(),
    )


def test_kandinskys_decoder_gets_raw_embeddings_and_those_of_a_black_picture(
    kandinsky_2_2: KandinskyGenerator, rows: RawRows
) -> None:
    with conditions(kandinsky_2_2._decoder.unet) as seen:
        draw(kandinsky_2_2, rows, replace(kandinsky.SAMPLING, decoder_steps=2))
    given = seen[0]["added_cond_kwargs"]["image_embeds"]
    np.testing.assert_array_equal(given[2:], rows)
    encoder = kandinsky_2_2._prior.image_encoder
    side = encoder.config.image_size
    with torch.no_grad():
        black = encoder(torch.zeros(1, 3, side, side)).image_embeds
    torch.testing.assert_close(given[:2], black.expand(2, -1))


def test_kandinskys_negative_is_what_its_prior_makes_of_it(kandinsky_2_2: KandinskyGenerator, rows: RawRows) -> None:
    sampling = replace(kandinsky.SAMPLING, decoder_steps=2, prior_steps=3)
    with conditions(kandinsky_2_2._decoder.unet) as seen:
        draw(kandinsky_2_2, rows, sampling, negative="green")
    unguided = replace(sampling, prior_guidance=1.0)
    avoided = kandinsky_2_2.predict(["green"] * 2, seeds=SEEDS, sampling=unguided, negative=None, watch=Watch())
    np.testing.assert_allclose(seen[0]["added_cond_kwargs"]["image_embeds"][:2], avoided, rtol=1e-4, atol=1e-4)


def test_kandinskys_prior_gives_embeddings_of_the_scale_of_clip(kandinsky_2_2: KandinskyGenerator) -> None:
    made = kandinsky_2_2.predict(
        ["a bus"] * 8, seeds=range(8), sampling=kandinsky.SAMPLING, negative=None, watch=Watch()
    )
    prior = kandinsky_2_2._prior.prior
    whitened = (torch.from_numpy(made) - prior.clip_mean) / prior.clip_std
    assert whitened.abs().max() <= 10.0 + 1e-4  # where its schedule clips
    assert kandinsky_2_2.card.clip.norm == pytest.approx(CLIP_STD * DIMENSION**0.5, rel=0.01)


def test_stable_unclips_decoder_gets_raw_embeddings_with_the_least_noise(
    stable: StableUnclipGenerator, rows: RawRows
) -> None:
    with conditions(stable._pipeline.unet) as seen:
        draw(stable, rows, replace(stable_unclip.SAMPLING, decoder_steps=2), caption="a bus")
    given = seen[0]["class_labels"]
    normalizer, schedule = stable._pipeline.image_normalizer, stable._pipeline.image_noising_scheduler
    kept = schedule.alphas_cumprod[0]
    noise = (given[2:, :DIMENSION] - kept.sqrt() * torch.from_numpy(rows)) / ((1 - kept).sqrt() * normalizer.std)
    offset = (1 - kept.sqrt()) * normalizer.mean / ((1 - kept).sqrt() * normalizer.std)
    assert 0.5 < float((noise - offset).detach().std()) < 1.5  # exactly the noise of step 0, in whitened space
    assert not given[:2].any()  # what guidance leads away from


def test_our_prior_is_that_of_diffusers_own_stable_unclip(
    stable: StableUnclipGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior, decoder = stable._prior, stable._pipeline
    pipeline = StableUnCLIPPipeline(
        prior_tokenizer=prior._tokenizer,
        prior_text_encoder=prior._text_encoder,
        prior=prior._prior,
        prior_scheduler=DDPMScheduler.from_config(prior._schedule.config),
        image_normalizer=decoder.image_normalizer,
        image_noising_scheduler=decoder.image_noising_scheduler,
        tokenizer=decoder.tokenizer,
        text_encoder=decoder.text_encoder,
        unet=decoder.unet,
        scheduler=decoder.scheduler,
        vae=decoder.vae,
    )
    pipeline.set_progress_bar_config(disable=True)
    seen: list[torch.Tensor] = []
    noising = pipeline.noise_image_embeddings

    def recording(image_embeds: torch.Tensor, **options: Untyped) -> Untyped:
        seen.append(image_embeds)
        return noising(image_embeds=image_embeds, **options)

    monkeypatch.setattr(pipeline, "noise_image_embeddings", recording)
    sources = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    captions = ["a bus", "two cats"]
    pipeline(captions, generator=sources, num_inference_steps=2, prior_num_inference_steps=9, prior_guidance_scale=3.0)

    def same_sources(seeds: Sequence[int], stage: str) -> list[torch.Generator]:
        assert stage == "prior"
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    monkeypatch.setattr(text_prior, "streams", same_sources)
    sampling = Sampling(prior_steps=9, prior_guidance=3.0)
    ours = stable.predict(captions, seeds=SEEDS, sampling=sampling, negative=None, watch=Watch())
    np.testing.assert_allclose(ours, seen[0], rtol=1e-3, atol=1e-3)


def test_prompts_stay_out_of_the_logs(
    kandinsky_2_2: KandinskyGenerator, stable: StableUnclipGenerator, rows: RawRows, caplog: pytest.LogCaptureFixture
) -> None:
    sampling = Sampling(prior_steps=2, decoder_steps=2)
    with caplog.at_level(logging.DEBUG):
        kandinsky_2_2.predict([LONG], seeds=[1], sampling=sampling, negative=LONG, watch=Watch())
        stable.predict([LONG], seeds=[1], sampling=sampling, negative=LONG, watch=Watch())
        draw(stable, rows, sampling, caption=LONG, negative=LONG)
    assert not [record for record in caplog.records if "eople" in record.getMessage() or "cut" in record.getMessage()]


def test_decoders_and_priors_of_different_spaces_are_not_joined(folders: dict[str, Path], tmp_path: Path) -> None:
    wide = published_models.save_karlo(tmp_path / "wide", dimension=48)
    with pytest.raises(ModelError, match="unclip-small"):
        StableUnclipGenerator(folders["stable"], prior_folder=wide)
    published_models.save_kandinsky_prior(tmp_path / "prior", dimension=48)
    with pytest.raises(ModelError, match="different CLIP spaces"):
        KandinskyGenerator(folders["kandinsky"], prior_folder=tmp_path / "prior")


def test_a_schedule_that_is_not_known_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "os.system"}')
    for name in (
        "image_encoder",
        "image_normalizer",
        "image_noising_scheduler",
        "tokenizer",
        "text_encoder",
        "unet",
        "vae",
    ):
        (tmp_path / name).symlink_to(folders["stable"] / name)
    with pytest.raises(ModelError, match=r"os\.system"):
        StableUnclipGenerator(tmp_path, prior_folder=folders["karlo"])
