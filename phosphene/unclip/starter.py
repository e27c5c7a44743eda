"""The starter's own unCLIP: small networks in the starter's CLIP space (`phosphene.unclip.starter_layout`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from phosphene.errors import SpaceMismatch
from phosphene.images import fit_pixels
from phosphene.types import Float32, Pixels
from phosphene.unclip import starter_layout as layout
from phosphene.unclip.base import (
    ClipEncoder,
    ClipSpace,
    GeneratorCard,
    RawRows,
    Sampling,
    Size,
    Watch,
    derived_seed,
    require_rows,
)
from phosphene.unclip.components import OnDisk
from phosphene.unclip.diffusion import denoise, gaussian, guide, noised, streams
from phosphene.unclip.pixels import to_pixels
from phosphene.unclip.starter_config import require_space

_REDRAWN = 0.5  # of the steps, for each refinement
_CPU_ROWS = 16  # pictures at once: with 64 of them activations outgrow the caches, and each takes twice as long


class StarterGenerator(OnDisk):
    """Runs a folder of the starter layout. Everything in it is of length 1: what comes in raw is made so."""

    def __init__(self, folder: Path, *, encoder: ClipEncoder, device: str = "cpu") -> None:
        """Load a folder. `encoder` is that of the space which the folder was trained in.

        Raises ModelError, UnsafeWeights, and SpaceMismatch for another encoder.
        """
        config = layout.read_config(folder)
        require_space(folder, config, encoder.space)
        self._encoder = encoder
        self._device = device
        self._networks = _placed(layout.StarterNetworks.load(folder, config), device)
        self._prior_schedule, self._decoder_schedule, self._large_schedule = layout.load_schedules(folder)
        if self._networks.dimension != encoder.space.dimension:
            raise SpaceMismatch(
                f"{folder} is of {self._networks.dimension} dimensions, its space of {encoder.space.dimension}"
            )
        super().__init__(folder, card=_card(folder, config, self._networks))

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        """Embed texts: (n, d) raw."""
        return self._encoder.encode_texts(texts).rows

    @torch.inference_mode()
    def predict(
        self, captions: Sequence[str], *, seeds: Sequence[int], sampling: Sampling, negative: str | None, watch: Watch
    ) -> RawRows:
        """Run the prior: unit image embeddings (n, d). Raises Cancelled."""
        networks, scale = self._networks, sampling.prior_guidance
        text = self._unit(self.embed_texts(captions))
        avoided = torch.zeros_like(text)
        if negative is not None:
            avoided = self._unit(self.embed_texts([negative])).expand_as(text)
        noise = streams(seeds, "prior")

        def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            if scale == 1:
                return layout.predict_embedding(networks, noisy, t, text)
            both = layout.predict_embedding(networks, noisy.repeat(2, 1), t, torch.cat([avoided, text]))
            return guide(both, scale)

        whitened = denoise(
            predict,
            gaussian(noise, text.shape[1:], text),
            schedule=self._prior_schedule,
            steps=sampling.prior_steps,
            noise=noise,
            stage="prior",
            watch=watch,
        )
        rows = networks.prior.post_process_latents(whitened)
        return RawRows(torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy())

    @torch.inference_mode()
    def decode(
        self,
        embeddings: RawRows,
        *,
        captions: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
        negative: str | None,  # noqa: ARG002  # the decoder reads embeddings alone
        size: Size,
        watch: Watch,
    ) -> Pixels:
        """Draw a picture for each embedding of any length > 0, at either size of the card. Raises Cancelled.

        Of several drafts the one is kept that the CLIP model finds nearest to the caption or, without one, to the
        embedding; captions serve for nothing else here. Refinements go on from there: random search along the paths of
        the sampler, as in Ma et al. 2025 (arXiv 2501.09732), section 3.
        """
        self._card.require_size(size)
        image = self._unit(require_rows(embeddings, self._networks.dimension))
        drafts = sampling.drafts
        repeated = image.repeat_interleave(drafts, dim=0)
        small = self._draw(repeated, _seeds(seeds, 0, drafts), sampling, watch)
        if drafts > 1 or sampling.refinements:
            wanted = self._wanted(image, captions)
            small = self._nearest(small.reshape(-1, drafts, *small.shape[1:]), wanted)
            for number in range(1, sampling.refinements + 1):
                fresh = _seeds(seeds, number, drafts)
                again = self._draw(
                    repeated, fresh, sampling, watch, base=small.repeat_interleave(drafts, dim=0), number=number
                )
                small = self._nearest(
                    torch.cat([small[:, None], again.reshape(-1, drafts, *again.shape[1:])], dim=1), wanted
                )
        if size.width == self._networks.decoder_px:
            return to_pixels(small)
        return to_pixels(self._enlarge(small, seeds, sampling, watch))

    def _wanted(self, image: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """Give what drafts are compared with, (n, d) of length 1: the caption's embedding, or the picture's own."""
        texts = self._unit(self.embed_texts([caption or " " for caption in captions]))
        said = torch.tensor([[bool(caption)] for caption in captions], device=self._device)
        return torch.where(said, texts, image)

    def _nearest(self, drafts: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Keep one of each row of drafts (n, k, 3, px, px): that whose embedding has the largest cosine to `wanted`."""
        fitted = fit_pixels(to_pixels(drafts.flatten(0, 1)), self._encoder.space.pixels)
        seen = self._unit(self._encoder.encode_pixels(fitted).rows).reshape(*drafts.shape[:2], -1)
        best = torch.einsum("nkd,nd->nk", seen, wanted).argmax(dim=1)
        return drafts[torch.arange(len(drafts)), best]

    def _draw(
        self,
        image: torch.Tensor,
        seeds: Sequence[int],
        sampling: Sampling,
        watch: Watch,
        *,
        base: torch.Tensor | None = None,
        number: int = 0,
    ) -> torch.Tensor:
        """Give pictures (n, 3, decoder_px, decoder_px) of unit embeddings (n, d).

        From noise or, the number-th refinement, from pictures `base` of the same shape, noised again.
        """
        networks, scale, k = self._networks, sampling.decoder_guidance, self._networks.decoder_fold
        side = networks.decoder_px // k
        noise = streams(seeds, "decoder")

        def predict_some(noisy: torch.Tensor, t: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            if scale == 1:
                return layout.predict_picture(networks, noisy, t, image)
            conditions = torch.cat([torch.zeros_like(image), image])
            return guide(layout.predict_picture(networks, noisy.repeat(2, 1, 1, 1), t, conditions), scale)

        def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            rows = _CPU_ROWS if noisy.device.type == "cpu" else len(noisy)
            parts = [slice(first, first + rows) for first in range(0, len(noisy), rows)]
            return torch.cat([predict_some(noisy[part], t, image[part]) for part in parts])

        steps = sampling.decoder_steps
        redrawn = max(1, round(_REDRAWN * steps))
        skipped = 0 if base is None else steps - redrawn
        start = gaussian(noise, (3 * k * k, side, side), image)
        if base is not None:
            clean = layout.fold(base, k)
            start = noised(clean, start, schedule=self._decoder_schedule, steps=steps, skipped=skipped)
        cells = denoise(
            predict,
            start,
            schedule=self._decoder_schedule,
            steps=steps,
            skipped=skipped,
            told=(0 if base is None else steps + (number - 1) * redrawn, steps + sampling.refinements * redrawn),
            noise=noise,
            stage="decoder",
            watch=watch,
            draw=lambda clean: layout.unfold(clean, k),
        )
        return layout.unfold(cells, k).clamp(-1, 1)

    def _enlarge(self, small: torch.Tensor, seeds: Sequence[int], sampling: Sampling, watch: Watch) -> torch.Tensor:
        """Give pictures (n, 3, super_resolution_px, super_resolution_px) of small ones."""
        networks, k = self._networks, self._networks.super_resolution_fold
        low = layout.fold(layout.enlarge(small, networks.super_resolution_px), k).to(small)
        noise = streams(seeds, "super_resolution")
        cells = denoise(
            lambda noisy, t: layout.predict_larger(networks, noisy, t, low),
            gaussian(noise, low.shape[1:], low),
            schedule=self._large_schedule,
            steps=sampling.super_resolution_steps,
            noise=noise,
            stage="super_resolution",
            watch=watch,
            draw=lambda clean: layout.unfold(clean, k),
        )
        return layout.unfold(cells, k)

    def _unit(self, rows: Float32) -> torch.Tensor:
        """Give rows (n, d) of length 1 on the device."""
        return torch.nn.functional.normalize(torch.from_numpy(rows).to(self._device), dim=-1)


def _seeds(seeds: Sequence[int], number: int, drafts: int) -> list[int]:
    """Give a seed for each draft of each picture; the first of the first round is the picture's own."""
    if number:
        return [derived_seed(seed, "refinement", number, n) for seed in seeds for n in range(drafts)]
    return [derived_seed(seed, "draft", n) if n else seed for seed in seeds for n in range(drafts)]


def _card(folder: Path, config: layout.StarterConfig, networks: layout.StarterNetworks) -> GeneratorCard:
    small, large = networks.decoder_px, networks.super_resolution_px
    return GeneratorCard(
        layout="starter",
        model=str(folder),
        clip=ClipSpace(networks.dimension, (config.model,), space=config.space),
        sampling=config.sampling,
        sizes=(Size(large, large), Size(small, small)),
        size_multiple=None,
        decoder_reads_caption=False,
        decoder_reads_negative=False,
        drafts=True,
    )


def _placed(networks: layout.StarterNetworks, device: str) -> layout.StarterNetworks:
    for network in (networks.prior, networks.decoder, networks.super_resolution):
        network.to(device)
    return networks
