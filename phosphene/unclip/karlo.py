"""Karlo (kakaobrain/karlo-v1-alpha): unCLIP in the space of OpenAI's ViT-L/14, in pixels throughout.

A runtime of our own over the published files: diffusers' pipeline for them is deprecated, loads no local folders, and
tells nobody of its steps. tests/unclip compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch.nn import functional

from phosphene.errors import ModelError
from phosphene.types import Pixels
from phosphene.unclip.base import ClipSpace, GeneratorCard, RawRows, Sampling, Size, Watch, require_rows
from phosphene.unclip.components import Untyped, load_component, sample_size_of
from phosphene.unclip.diffusion import denoise, gaussian, guide, streams
from phosphene.unclip.pixels import to_pixels
from phosphene.unclip.text_prior import TextPrior, TextPriorGenerator, load_unclip_schedule
from phosphene.unclip.text_projection import TextProjection

VIT_L_14 = ("ViT-L-14/openai", "ViT-L-14-quickgelu/openai", "hf-hub:timm/vit_large_patch14_clip_224.openai")
# As the authors publish it.
SAMPLING = Sampling(
    prior_steps=25, prior_guidance=4.0, decoder_steps=25, decoder_guidance=8.0, super_resolution_steps=7
)


class KarloGenerator(TextPriorGenerator):
    """Runs a folder of the layout kakaobrain/karlo-v1-alpha."""

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Load a folder. Raises ModelError, UnsafeWeights."""
        prior = TextPrior.load(folder, device=device)
        self._projection = TextProjection.load(folder / "text_proj", device=device)
        self._decoder = load_component(UNet2DConditionModel, folder / "decoder", device=device)
        self._first = load_component(UNet2DModel, folder / "super_res_first", device=device)
        self._last = load_component(UNet2DModel, folder / "super_res_last", device=device)
        self._decoder_schedule = load_unclip_schedule(folder / "decoder_scheduler")
        self._large_schedule = load_unclip_schedule(folder / "super_res_scheduler")
        self._channels = int(self._decoder.config.in_channels)
        self._learned_variance = self._decoder_schedule.config.variance_type == "learned_range"
        if self._learned_variance and self._decoder.config.out_channels != 2 * self._channels:
            raise ModelError(f"{folder}: the decoder's schedule wants a variance that the decoder does not give")
        small = sample_size_of(self._decoder, folder / "decoder")
        large = sample_size_of(self._first, folder / "super_res_first")
        card = GeneratorCard(
            layout="karlo",
            model=str(folder),
            clip=ClipSpace(prior.dimension, VIT_L_14, norm=prior.norm),
            sampling=SAMPLING,
            sizes=(Size(large, large), Size(small, small)),
            size_multiple=None,
            decoder_reads_caption=True,
            decoder_reads_negative=True,
        )
        super().__init__(folder, prior=prior, card=card)

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
        """Draw a picture for each raw embedding and caption, at either size of the card. Raises Cancelled."""
        self._card.require_size(size)
        require_rows(embeddings, self._card.clip.dimension)
        condition = self._condition(embeddings, captions, negative, guided=sampling.decoder_guidance > 1)
        small = self._draw(condition, seeds, sampling, watch)
        if size.width == small.shape[-1]:
            return to_pixels(small)
        return to_pixels(self._enlarge(small, seeds, sampling, watch))

    def _condition(
        self, embeddings: RawRows, captions: Sequence[str], negative: str | None, *, guided: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give what `TextProjection` makes of pictures and captions; guided: n rows of nothing in front."""
        asked = self._prior.encode(captions)
        image = torch.from_numpy(embeddings).to(asked.embeds)
        if guided:
            asked = asked.after(self._prior.encode([negative or ""] * len(captions)))
            image = torch.cat([self._projection.nothing(len(image)), image])
        tokens, mask, time = self._projection(image, asked)
        return tokens, mask, time

    def _draw(
        self,
        condition: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        seeds: Sequence[int],
        sampling: Sampling,
        watch: Watch,
    ) -> torch.Tensor:
        """Give small pictures (n, 3, h, w) in -1..1."""
        tokens, mask, time = condition
        n, k, guided = len(seeds), self._channels, sampling.decoder_guidance > 1
        noise = streams(seeds, "decoder")

        def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            predicted: torch.Tensor = self._decoder(
                noisy.repeat(2, 1, 1, 1) if guided else noisy,
                t,
                encoder_hidden_states=tokens,
                class_labels=time,
                attention_mask=mask,
            ).sample
            clean, variance = predicted[:, :k], predicted[-n:, k:]  # the variance is the conditioned one's
            clean = guide(clean, sampling.decoder_guidance) if guided else clean
            return torch.cat([clean, variance], dim=1) if self._learned_variance else clean

        side = int(self._decoder.config.sample_size)
        return denoise(
            predict,
            gaussian(noise, (k, side, side), time),
            schedule=self._decoder_schedule,
            steps=sampling.decoder_steps,
            noise=noise,
            stage="decoder",
            watch=watch,
            draw=_itself,
        ).clamp(-1, 1)

    def _enlarge(self, small: torch.Tensor, seeds: Sequence[int], sampling: Sampling, watch: Watch) -> torch.Tensor:
        """Give large pictures (n, 3, h, w) of small ones."""
        side = int(self._first.config.sample_size)
        # In float32: half precision on a CPU has no bicubic of this kind.
        low = functional.interpolate(
            small.float(), size=(side, side), mode="bicubic", align_corners=False, antialias=True
        ).to(small)
        noise = streams(seeds, "super_resolution")

        def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            network: Untyped = self._last if int(t) == 0 else self._first
            predicted: torch.Tensor = network(torch.cat([noisy, low], dim=1), t).sample
            return predicted

        return denoise(
            predict,
            gaussian(noise, low.shape[1:], low),
            schedule=self._large_schedule,
            steps=sampling.super_resolution_steps,
            noise=noise,
            stage="super_resolution",
            watch=watch,
            draw=_itself,
        )


def _itself(clean: torch.Tensor) -> torch.Tensor:
    return clean
