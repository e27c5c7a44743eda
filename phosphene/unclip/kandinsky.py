"""Kandinsky 2.2: a prior and a latent decoder in the space of OpenCLIP's ViT-bigG/14, through diffusers' own pipelines.

The decoder reads no caption. What a picture should not show is an image embedding too: that of a black picture, or what
the prior makes of the negative prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from phosphene.errors import ModelError
from phosphene.types import Float32, Pixels
from phosphene.unclip.base import ClipSpace, GeneratorCard, RawRows, Sampling, Size, Watch, require_rows
from phosphene.unclip.components import (
    OnDisk,
    Untyped,
    keep_prompts_out_of_logs,
    load_component,
    load_scheduler,
    load_tokenizer,
    sample_size_of,
)
from phosphene.unclip.diffusion import streams
from phosphene.unclip.pixels import to_pixels
from phosphene.unclip.text_prior import encode_texts, usual_norm

VIT_BIGG_14 = ("ViT-bigG-14/laion2b_s39b_b160k", "hf-hub:laion/CLIP-ViT-bigG-14-laion2B-39B-b160k")
SAMPLING = Sampling(prior_steps=25, prior_guidance=4.0, decoder_steps=50, decoder_guidance=4.0)


class KandinskyGenerator(OnDisk):
    """Runs the layouts kandinsky-community/kandinsky-2-2-decoder and -prior."""

    def __init__(self, folder: Path, *, prior_folder: Path, device: str = "cpu") -> None:
        """Load both folders. Raises ModelError, UnsafeWeights."""
        keep_prompts_out_of_logs()
        self._prior = _load_prior(prior_folder, device)
        self._decoder = _load_decoder(folder, device)
        for pipeline in (self._prior, self._decoder):
            pipeline.set_progress_bar_config(disable=True)
        network, unet = self._prior.prior, self._decoder.unet
        if unet.config.encoder_hid_dim != network.config.embedding_dim:
            raise ModelError(f"{folder} and {prior_folder} are of different CLIP spaces")
        scale = int(self._decoder.movq_scale_factor)
        side = sample_size_of(unet, folder / "unet") * scale
        card = GeneratorCard(
            layout="kandinsky-2.2",
            model=str(folder),
            clip=ClipSpace(
                int(network.config.embedding_dim), VIT_BIGG_14, norm=usual_norm(network.clip_mean, network.clip_std)
            ),
            sampling=SAMPLING,
            sizes=(Size(side, side),),
            size_multiple=scale * scale,
            decoder_reads_caption=False,
            decoder_reads_negative=True,
        )
        super().__init__(folder, prior_folder, card=card)

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        """Embed texts: (n, d) raw."""
        pipeline = self._prior
        encoded = encode_texts(texts, tokenizer=pipeline.tokenizer, text_encoder=pipeline.text_encoder)
        rows: Float32 = encoded.embeds.float().cpu().numpy()
        return rows

    def predict(
        self, captions: Sequence[str], *, seeds: Sequence[int], sampling: Sampling, negative: str | None, watch: Watch
    ) -> RawRows:
        """Run the prior: raw image embeddings (n, d). Raises Cancelled."""
        avoided = None if negative is None or sampling.prior_guidance <= 1 else [negative] * len(captions)
        noise = streams(seeds, "prior")
        if avoided is not None:
            noise += streams(seeds, "negative_prior")  # the pipeline predicts the negative's embeddings along with it
        watch.check()
        rows = self._prior(
            list(captions),
            negative_prompt=avoided,
            num_inference_steps=sampling.prior_steps,
            guidance_scale=sampling.prior_guidance,
            generator=noise,
            callback_on_step_end=_telling(watch, "prior", sampling.prior_steps),
        ).image_embeds
        return RawRows(rows.float().cpu().numpy())

    @torch.inference_mode()
    def decode(
        self,
        embeddings: RawRows,
        *,
        captions: Sequence[str],  # noqa: ARG002  # the decoder reads embeddings alone
        seeds: Sequence[int],
        sampling: Sampling,
        negative: str | None,
        size: Size,
        watch: Watch,
    ) -> Pixels:
        """Draw a picture for each raw embedding, in any size that the card allows. Raises Cancelled."""
        self._card.require_size(size)
        require_rows(embeddings, self._card.clip.dimension)
        unet = self._decoder.unet
        watch.check()
        drawn = self._decoder(
            image_embeds=torch.from_numpy(embeddings).to(unet.device, unet.dtype),
            negative_image_embeds=self._avoided(negative, seeds, sampling, watch).to(unet.device, unet.dtype),
            height=size.height,
            width=size.width,
            num_inference_steps=sampling.decoder_steps,
            guidance_scale=sampling.decoder_guidance,
            generator=streams(seeds, "decoder"),
            output_type="pt",
            callback_on_step_end=_telling(watch, "decoder", sampling.decoder_steps),
        ).images
        return to_pixels(drawn)

    def _avoided(self, negative: str | None, seeds: Sequence[int], sampling: Sampling, watch: Watch) -> torch.Tensor:
        """Give the embeddings that guidance leads away from, (n, d)."""
        if negative is None or sampling.decoder_guidance <= 1:
            black: torch.Tensor = self._prior.get_zero_embed(len(seeds))
            return black
        unguided, quiet = replace(sampling, prior_guidance=1), Watch(cancelled=watch.cancelled)
        rows = self.predict([negative] * len(seeds), seeds=seeds, sampling=unguided, negative=None, watch=quiet)
        return torch.from_numpy(rows)


def _load_prior(folder: Path, device: str) -> Untyped:
    return KandinskyV22PriorPipeline(
        prior=load_component(PriorTransformer, folder / "prior", device=device),
        image_encoder=load_component(CLIPVisionModelWithProjection, folder / "image_encoder", device=device),
        text_encoder=load_component(CLIPTextModelWithProjection, folder / "text_encoder", device=device),
        tokenizer=load_tokenizer(folder / "tokenizer"),
        scheduler=load_scheduler(UnCLIPScheduler, folder / "scheduler"),
        image_processor=None,  # pictures come in as embeddings
    )


def _load_decoder(folder: Path, device: str) -> Untyped:
    return KandinskyV22Pipeline(
        unet=load_component(UNet2DConditionModel, folder / "unet", device=device),
        scheduler=load_scheduler(DDPMScheduler, folder / "scheduler"),
        movq=load_component(VQModel, folder / "movq", device=device),
    )


def _telling(watch: Watch, stage: str, of: int) -> Callable[..., dict[str, torch.Tensor]]:
    """Make the callback that the pipelines call with themselves, the step from 0, its time, and tensors."""

    def tell(_pipeline: object, step: int, _time: object, _tensors: object) -> dict[str, torch.Tensor]:
        watch.step(stage, step + 1, of)
        return {}

    return tell
