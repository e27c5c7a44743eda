"""Our Karlo runtime against the stock pipeline and the reference formulas. Random weights: plumbing, not meaning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip import UnCLIPPipeline
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from phosphene.unclip import karlo, text_prior
from phosphene.unclip.base import RawRows, Sampling, Size, Watch
from phosphene.unclip.components import Untyped, load_component
from phosphene.unclip.diffusion import denoise
from phosphene.unclip.karlo import KarloGenerator
from phosphene.unclip.text_prior import load_unclip_schedule
from tests.unclip.published_models import DIMENSION

PROMPTS = ["a red bus", "two cats on a boat, a very long caption that is cut"]


@pytest.fixture(scope="module")
def folder(folders: dict[str, Path]) -> Path:
    return folders["karlo"]


@pytest.fixture(scope="module")
def generator(folder: Path) -> KarloGenerator:
    return KarloGenerator(folder)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Untyped:
    def part(kind: Untyped, name: str) -> Untyped:
        return kind.from_pretrained(str(folder), subfolder=name)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is deprecated
        pipeline = UnCLIPPipeline(
            prior=part(PriorTransformer, "prior"),
            decoder=part(UNet2DConditionModel, "decoder"),
            text_encoder=part(CLIPTextModelWithProjection, "text_encoder"),
            tokenizer=part(CLIPTokenizer, "tokenizer"),
            text_proj=part(UnCLIPTextProjModel, "text_proj"),
            super_res_first=part(UNet2DModel, "super_res_first"),
            super_res_last=part(UNet2DModel, "super_res_last"),
            prior_scheduler=part(UnCLIPScheduler, "prior_scheduler"),
            decoder_scheduler=part(UnCLIPScheduler, "decoder_scheduler"),
            super_res_scheduler=part(UnCLIPScheduler, "super_res_scheduler"),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sources() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (5, 6)]


SAMPLINGS = [
    Sampling(prior_steps=25, decoder_steps=25, super_resolution_steps=7, prior_guidance=4, decoder_guidance=8),
    Sampling(prior_steps=6, decoder_steps=5, super_resolution_steps=2, prior_guidance=1, decoder_guidance=3),
    Sampling(prior_steps=4, decoder_steps=7, super_resolution_steps=3, prior_guidance=2, decoder_guidance=1),
]


class StockSchedule(UnCLIPScheduler):  # type: ignore[misc]  # no types published
    """The stock pipeline's schedule, told of the next timestep as the stock pipeline tells it."""

    def step(self, output: Untyped, t: Untyped, sample: Untyped, generator: Untyped) -> Untyped:
        at = self.timesteps.tolist().index(int(t))
        following = self.timesteps[at + 1] if at + 1 < len(self.timesteps) else None
        return super().step(output, t, sample, prev_timestep=following, generator=generator)


def draw_as_stock_does(
    generator: KarloGenerator,
    stock: Untyped,
    sampling: Sampling,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Untyped, Untyped]:
    """Give the pictures of both, 0..1."""
    expected = stock(
        PROMPTS,
        prior_num_inference_steps=sampling.prior_steps,
        decoder_num_inference_steps=sampling.decoder_steps,
        super_res_num_inference_steps=sampling.super_resolution_steps,
        prior_guidance_scale=sampling.prior_guidance,
        decoder_guidance_scale=sampling.decoder_guidance,
        generator=sources(),
        output_type="np",
    ).images
    assert expected.std() > 0.05
    shared = sources()  # the stock pipeline draws all noise of a picture from one source, stage after stage

    def one_source(seeds: Sequence[int], stage: str) -> list[torch.Generator]:
        assert (len(seeds), bool(stage)) == (2, True)
        return shared

    monkeypatch.setattr(text_prior, "streams", one_source)
    monkeypatch.setattr(karlo, "streams", one_source)
    options: dict[str, Any] = {"seeds": (0, 0), "sampling": sampling, "negative": None, "watch": Watch()}
    embeddings = generator.predict(PROMPTS, **options)
    pixels = generator.decode(embeddings, captions=PROMPTS, size=Size(32, 32), **options)
    return pixels / 255, expected


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_with_the_stock_schedule_it_draws_what_the_stock_pipeline_draws(
    folder: Path,
    stock: Untyped,
    sampling: Sampling,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_prior, "load_unclip_schedule", StockSchedule.from_pretrained)
    monkeypatch.setattr(karlo, "load_unclip_schedule", StockSchedule.from_pretrained)
    ours, expected = draw_as_stock_does(KarloGenerator(folder), stock, sampling, monkeypatch)
    # Half a byte of rounding. At the first step the foreseen pixel is 20,000 times the noise, cut off at -1 and 1:
    # where it lies near 0, the last bit of arithmetic (guidance of 1 computed or left out) decides.
    assert (np.abs(ours - expected) < 0.5 / 255 + 5e-4).mean() > 0.999


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_with_our_schedule_it_draws_nearly_the_same(
    generator: KarloGenerator,
    stock: Untyped,
    sampling: Sampling,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, expected = draw_as_stock_does(generator, stock, sampling, monkeypatch)
    assert np.abs(ours - expected).mean() < 0.003  # of which 0.001 is the rounding to bytes


@pytest.mark.parametrize("name", ["prior_scheduler", "decoder_scheduler", "super_res_scheduler"])
def test_our_schedule_steps_as_the_stock_one(folder: Path, name: str) -> None:
    stock, ours = UnCLIPScheduler.from_pretrained(folder / name), load_unclip_schedule(folder / name)
    stock.set_timesteps(25)
    ours.set_timesteps(25)
    assert stock.timesteps.tolist() == ours.timesteps.tolist()
    torch.manual_seed(0)
    channels = 6 if name == "decoder_scheduler" else 3
    for at, t in enumerate(stock.timesteps):
        sample, output = torch.randn(1, 3, 8, 8), torch.randn(1, channels, 8, 8)
        following = stock.timesteps[at + 1] if at < 24 else None
        expected = stock.step(output, t, sample, prev_timestep=following, generator=sources()[0]).prev_sample
        stepped = ours.step(output, t, sample, generator=sources()[0]).prev_sample
        torch.testing.assert_close(stepped, expected, rtol=2e-3, atol=2e-3)


def test_a_schedule_that_names_no_fields_has_the_stock_defaults(tmp_path: Path) -> None:
    (tmp_path / "scheduler_config.json").write_text('{"_class_name": "UnCLIPScheduler"}')
    stock, ours = UnCLIPScheduler(), load_unclip_schedule(tmp_path)
    for field in ("num_train_timesteps", "variance_type", "prediction_type", "clip_sample", "clip_sample_range"):
        assert ours.config[field] == stock.config[field]
    torch.testing.assert_close(ours.alphas_cumprod, stock.alphas_cumprod)


def test_the_priors_output_is_brought_back_to_the_scale_of_clip(
    generator: KarloGenerator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whitened: list[torch.Tensor] = []

    def recording(*args: Untyped, **options: Untyped) -> torch.Tensor:
        whitened.append(denoise(*args, **options))
        return whitened[0]

    monkeypatch.setattr(text_prior, "denoise", recording)
    sampling = replace(karlo.SAMPLING, prior_steps=3)
    rows = generator.predict(["a red bus"], seeds=[1], sampling=sampling, negative=None, watch=Watch())
    prior = load_component(PriorTransformer, folder / "prior")
    expected = whitened[0].clone() * prior.clip_std + prior.clip_mean  # Ramesh et al. whiten by mean and deviation
    np.testing.assert_allclose(rows, expected.detach().numpy(), rtol=1e-5)
    assert whitened[0].abs().max() <= 5.0 + 1e-5
    norm = float(torch.cat([prior.clip_mean, prior.clip_std]).square().sum().sqrt())
    assert generator.card.clip.norm == pytest.approx(norm, rel=1e-5)


def test_the_decoder_gets_the_raw_embedding_and_the_learned_null(generator: KarloGenerator, folder: Path) -> None:
    seen: list[torch.Tensor] = []
    hook = generator._projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rows = RawRows(20 * np.random.default_rng(0).standard_normal((1, DIMENSION)).astype(np.float32))
    sampling = replace(karlo.SAMPLING, decoder_steps=2)
    generator.decode(rows, captions=[""], seeds=[1], sampling=sampling, negative=None, size=Size(16, 16), watch=Watch())
    hook.remove()
    null = UnCLIPTextProjModel.from_pretrained(str(folder), subfolder="text_proj")
    np.testing.assert_array_equal(seen[0][1], rows[0])
    np.testing.assert_array_equal(seen[0][0], null.learned_classifier_free_guidance_embeddings.detach())


def test_texts_are_embedded_one_by_one_or_together_alike(generator: KarloGenerator) -> None:
    together = generator.embed_texts(["a", "b", "a"])
    np.testing.assert_array_equal(together[0], together[2])
    np.testing.assert_allclose(together[1], generator.embed_texts(["b"])[0], atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-3)
