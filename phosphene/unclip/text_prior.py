"""A prior that reads the tokens of a caption, with its text encoder: Karlo's, which Stable unCLIP uses too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from diffusers import DDPMScheduler, PriorTransformer
from transformers import CLIPTextModelWithProjection

from phosphene.errors import ModelError
from phosphene.types import Float32
from phosphene.unclip.base import GeneratorCard, RawRows, Sampling, Watch
from phosphene.unclip.components import (
    SCHEDULER_CONFIG,
    OnDisk,
    Untyped,
    load_component,
    load_scheduler,
    load_tokenizer,
    read_json,
)
from phosphene.unclip.diffusion import denoise, gaussian, guide, streams


@dataclass(frozen=True, slots=True)
class Captions:
    """Texts as CLIP's text encoder gives them."""

    embeds: torch.Tensor  # (n, d) raw text embeddings
    states: torch.Tensor  # (n, tokens, width) of the last layer
    mask: torch.Tensor  # (n, tokens) bool, True where there is a token

    def after(self, others: Captions) -> Captions:
        """Put other captions in front, as guidance wants the unconditioned ones."""
        return Captions(
            torch.cat([others.embeds, self.embeds]),
            torch.cat([others.states, self.states]),
            torch.cat([others.mask, self.mask]),
        )


@torch.inference_mode()
def encode_texts(texts: Sequence[str], *, tokenizer: Untyped, text_encoder: Untyped) -> Captions:
    """Encode texts with a CLIPTextModelWithProjection; equal texts once. What is longer than its context is cut."""
    distinct = list(dict.fromkeys(texts))
    tokens = tokenizer(
        distinct, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    device = text_encoder.device
    encoded = text_encoder(tokens.input_ids.to(device))  # padding counts: the models were trained so
    at = torch.tensor([distinct.index(text) for text in texts], device=device)
    return Captions(encoded.text_embeds[at], encoded.last_hidden_state[at], tokens.attention_mask.bool().to(device)[at])


def usual_norm(mean: torch.Tensor, std: torch.Tensor) -> float:
    """Give the root mean square length of vectors whose elements have these means and deviations."""
    return float((mean.float().square() + std.float().square()).sum().sqrt())


class TextPrior:
    """Caption -> raw image embedding."""

    def __init__(self, *, tokenizer: Untyped, text_encoder: Untyped, prior: Untyped, schedule: Untyped) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._prior = prior
        self._schedule = schedule

    @classmethod
    def load(cls, folder: Path, *, device: str) -> Self:
        """Read the sub-folders tokenizer, text_encoder, prior, prior_scheduler. Raises ModelError, UnsafeWeights."""
        loaded = cls(
            tokenizer=load_tokenizer(folder / "tokenizer"),
            text_encoder=load_component(CLIPTextModelWithProjection, folder / "text_encoder", device=device),
            prior=load_component(PriorTransformer, folder / "prior", device=device),
            schedule=load_unclip_schedule(folder / "prior_scheduler"),
        )
        if loaded.dimension != loaded._text_encoder.config.projection_dim:
            raise ModelError(f"{folder}: prior and text_encoder are of different CLIP spaces")
        if not bool((loaded._prior.clip_std != 0).any()):
            raise ModelError(f"{folder / 'prior'} has no clip_std: it would give the same embedding for every caption")
        return loaded

    @property
    def dimension(self) -> int:
        """Of the CLIP space."""
        return int(self._prior.config.embedding_dim)

    @property
    def norm(self) -> float:
        """How long raw image embeddings are."""
        return usual_norm(self._prior.clip_mean, self._prior.clip_std)

    def encode(self, texts: Sequence[str]) -> Captions:
        """Encode texts; what is longer than the encoder's context is cut."""
        return encode_texts(texts, tokenizer=self._tokenizer, text_encoder=self._text_encoder)

    def embed(self, texts: Sequence[str]) -> Float32:
        """Embed texts: (n, d) raw."""
        rows: Float32 = self.encode(texts).embeds.float().cpu().numpy()
        return rows

    @torch.inference_mode()
    def predict(
        self, captions: Sequence[str], *, seeds: Sequence[int], sampling: Sampling, negative: str | None, watch: Watch
    ) -> RawRows:
        """Predict image embeddings, (n, d) raw. Raises Cancelled.

        The prior works on whitened embeddings; `x * clip_std + clip_mean` brings what it gives back to CLIP's scale.
        Without guidance the captions alone are asked; with it, the negative or an empty caption is what is left behind.
        """
        asked = self.encode(captions)
        guided = sampling.prior_guidance > 1
        both = asked.after(self.encode([negative or ""] * len(captions))) if guided else asked
        noise = streams(seeds, "prior")

        def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            predicted: torch.Tensor = self._prior(
                noisy.repeat(2, 1) if guided else noisy,
                t,
                proj_embedding=both.embeds,
                encoder_hidden_states=both.states,
                attention_mask=both.mask,
            ).predicted_image_embedding
            return guide(predicted, sampling.prior_guidance) if guided else predicted

        whitened = denoise(
            predict,
            gaussian(noise, (self.dimension,), asked.embeds),
            schedule=self._schedule,
            steps=sampling.prior_steps,
            noise=noise,
            stage="prior",
            watch=watch,
        )
        return RawRows(self._prior.post_process_latents(whitened).float().cpu().numpy())


def load_unclip_schedule(folder: Path) -> Untyped:
    """Read the configuration of diffusers' UnCLIPScheduler, which is on its way out, as the DDPM schedule that it is.

    Its fields have other defaults than DDPM's, its timesteps go from the last to 0. Raises ModelError.
    """
    config = read_json(folder / SCHEDULER_CONFIG)
    if config.get("_class_name", "UnCLIPScheduler") != "UnCLIPScheduler":
        return load_scheduler(DDPMScheduler, folder, timestep_spacing="linspace")
    return load_scheduler(
        DDPMScheduler,
        folder,
        beta_schedule="squaredcos_cap_v2",  # it has no other
        variance_type=config.get("variance_type", "fixed_small_log"),
        timestep_spacing="linspace",
    )


class TextPriorGenerator(OnDisk):
    """What generators have in common that Karlo's prior belongs to."""

    def __init__(self, *folders: Path, prior: TextPrior, card: GeneratorCard) -> None:
        super().__init__(*folders, card=card)
        self._prior = prior

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        """Embed texts: (n, d) raw."""
        return self._prior.embed(texts)

    def predict(
        self, captions: Sequence[str], *, seeds: Sequence[int], sampling: Sampling, negative: str | None, watch: Watch
    ) -> RawRows:
        """Run the prior: raw image embeddings (n, d). Raises Cancelled."""
        return self._prior.predict(captions, seeds=seeds, sampling=sampling, negative=negative, watch=watch)
