"""Stable unCLIP with Karlo's prior: Stable Diffusion 2.1 that reads image embeddings, through diffusers' own pipeline.

Published for the space of OpenAI's ViT-L/14 as stabilityai/stable-diffusion-2-1-unclip-small; the prior is Karlo's, as
the authors combine them. The decoder whitens embeddings by itself (its image_normalizer), so it takes raw ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableUnCLIPImg2ImgPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from phosphene.errors import ModelError
from phosphene.types import Pixels
from phosphene.unclip.base import ClipSpace, GeneratorCard, RawRows, Sampling, Size, Watch, require_rows
from phosphene.unclip.components import (
    SCHEDULER_CONFIG,
    Untyped,
    keep_prompts_out_of_logs,
    load_component,
    load_scheduler,
    load_tokenizer,
    read_json,
    sample_size_of,
)
from phosphene.unclip.diffusion import streams
from phosphene.unclip.karlo import VIT_L_14
from phosphene.unclip.pixels import to_pixels
from phosphene.unclip.text_prior import TextPrior, TextPriorGenerator

SAMPLING = Sampling(prior_steps=25, prior_guidance=4.0, decoder_steps=20, decoder_guidance=10.0)
SCHEDULERS = frozenset(
    {
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "PNDMScheduler",
    }
)


class StableUnclipGenerator(TextPriorGenerator):
    """Runs the layout stabilityai/stable-diffusion-2-1-unclip-small with the prior of kakaobrain/karlo-v1-alpha."""

    def __init__(self, folder: Path, *, prior_folder: Path, device: str = "cpu") -> None:
        """Load both folders. Raises ModelError, UnsafeWeights."""
        keep_prompts_out_of_logs()
        prior = TextPrior.load(prior_folder, device=device)
        self._pipeline = _load_pipeline(folder, device)
        self._pipeline.set_progress_bar_config(disable=True)
        normalizer, unet = self._pipeline.image_normalizer, self._pipeline.unet
        if normalizer.mean.shape[1] != prior.dimension:
            raise ModelError(
                f"{folder} takes embeddings of {normalizer.mean.shape[1]} dimensions, but the prior in {prior_folder} "
                f"makes {prior.dimension}: Karlo's prior goes with stable-diffusion-2-1-unclip-small"
            )
        scale = int(self._pipeline.vae_scale_factor)
        side = sample_size_of(unet, folder / "unet") * scale
        card = GeneratorCard(
            layout="stable-unclip",
            model=str(folder),
            clip=ClipSpace(prior.dimension, VIT_L_14, norm=prior.norm),
            sampling=SAMPLING,
            sizes=(Size(side, side),),
            size_multiple=max(8, scale * 2 ** (len(unet.config.block_out_channels) - 1)),
            decoder_reads_caption=True,
            decoder_reads_negative=True,
        )
        super().__init__(folder, prior_folder, prior=prior, card=card)

    @torch.inference_mode()
    def decode(
        self,
        embeddings: RawRows,
        *,
        captions: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
        negative: str | None,
        size: Size,
        watch: Watch,
    ) -> Pixels:
        """Draw a picture for each raw embedding and caption, in any size that the card allows. Raises Cancelled."""
        self._card.require_size(size)
        require_rows(embeddings, self._card.clip.dimension)
        unet = self._pipeline.unet
        watch.check()
        drawn = self._pipeline(
            prompt=list(captions),
            negative_prompt=[negative or ""] * len(captions),
            image_embeds=torch.from_numpy(embeddings).to(unet.device, unet.dtype),
            height=size.height,
            width=size.width,
            num_inference_steps=sampling.decoder_steps,
            guidance_scale=sampling.decoder_guidance,
            generator=streams(seeds, "decoder"),
            output_type="pt",
            callback=self._telling(watch),
        ).images
        return to_pixels(drawn * 2 - 1)

    def _telling(self, watch: Watch) -> Callable[[int, object, object], None]:
        """Make the callback that the pipeline calls after each step; a scheduler may take more than were asked for."""
        done = 0

        def tell(_step: int, _time: object, _latents: object) -> None:
            nonlocal done
            done += 1
            watch.step("decoder", done, len(self._pipeline.scheduler.timesteps))

        return tell


def _load_pipeline(folder: Path, device: str) -> Untyped:
    return StableUnCLIPImg2ImgPipeline(
        feature_extractor=None,  # pictures come in as embeddings
        image_encoder=load_component(CLIPVisionModelWithProjection, folder / "image_encoder", device=device),
        image_normalizer=load_component(StableUnCLIPImageNormalizer, folder / "image_normalizer", device=device),
        image_noising_scheduler=load_scheduler(DDPMScheduler, folder / "image_noising_scheduler"),
        tokenizer=load_tokenizer(folder / "tokenizer"),
        text_encoder=load_component(CLIPTextModel, folder / "text_encoder", device=device),
        unet=load_component(UNet2DConditionModel, folder / "unet", device=device),
        scheduler=_load_any_scheduler(folder / "scheduler"),
        vae=load_component(AutoencoderKL, folder / "vae", device=device),
    )


def _load_any_scheduler(folder: Path) -> Untyped:
    name = read_json(folder / SCHEDULER_CONFIG).get("_class_name")
    if not isinstance(name, str) or name not in SCHEDULERS:
        raise ModelError(
            f"{folder} is a {name}; schedulers that are known to work here: {', '.join(sorted(SCHEDULERS))}"
        )
    return load_scheduler(getattr(diffusers, name), folder)
