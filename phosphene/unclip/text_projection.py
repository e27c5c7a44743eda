"""Karlo's text projection: image and text embeddings -> what the decoder's U-Net is conditioned on.

Ramesh et al. 2022 (arXiv 2204.06125), section 2.1: the embeddings are added to the timestep's, and the image embedding
becomes four extra tokens in front of the caption's. diffusers has this model in a deprecated pipeline only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from phosphene.errors import ModelError
from phosphene.model_files import require_safetensors
from phosphene.unclip.components import OF_DIFFUSERS, read_json, weights_of
from phosphene.unclip.text_prior import Captions

_SIZES = ("clip_extra_context_tokens", "clip_embeddings_dim", "time_embed_dim", "cross_attention_dim")


class TextProjection(nn.Module):
    """Names of the weights are those of the published files."""

    def __init__(
        self,
        *,
        clip_embeddings_dim: int,
        time_embed_dim: int,
        cross_attention_dim: int,
        clip_extra_context_tokens: int = 4,
    ) -> None:
        super().__init__()
        self.tokens = clip_extra_context_tokens
        self.learned_classifier_free_guidance_embeddings = nn.Parameter(torch.zeros(clip_embeddings_dim))
        self.embedding_proj = nn.Linear(clip_embeddings_dim, time_embed_dim)
        self.clip_image_embeddings_project_to_time_embeddings = nn.Linear(clip_embeddings_dim, time_embed_dim)
        self.clip_extra_context_tokens_proj = nn.Linear(clip_embeddings_dim, self.tokens * cross_attention_dim)
        self.encoder_hidden_states_proj = nn.Linear(clip_embeddings_dim, cross_attention_dim)
        self.text_encoder_hidden_states_norm = nn.LayerNorm(cross_attention_dim)

    @classmethod
    def load(cls, folder: Path, *, device: str) -> Self:
        """Read it from its sub-folder. Raises ModelError, UnsafeWeights."""
        config = read_json(folder / "config.json")
        path = require_safetensors(weights_of(folder, OF_DIFFUSERS))
        try:
            model = cls(**{name: int(config[name]) for name in _SIZES if name in config})
            absent = model.load_state_dict(load_file(path), strict=False).missing_keys
        except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{folder} can't be loaded as a text projection: {reason}") from error
        if absent:
            raise ModelError(f"{folder} lacks weights of a text projection: {', '.join(absent[:3])}")
        dtype = torch.float32 if device == "cpu" else torch.float16
        return model.eval().requires_grad_(requires_grad=False).to(device=device, dtype=dtype)

    def nothing(self, n: int) -> torch.Tensor:
        """Give the learned embedding that stands for no picture, n times: (n, d)."""
        return self.learned_classifier_free_guidance_embeddings.expand(n, -1)

    def forward(self, image: torch.Tensor, captions: Captions) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Condition on raw image embeddings (n, d) and n captions.

        Gives the tokens to attend to (n, extra + tokens, width), their mask (n, extra + tokens) bool, and what is added
        to the timestep's embedding (n, time).
        """
        time = self.clip_image_embeddings_project_to_time_embeddings(image) + self.embedding_proj(captions.embeds)
        # The published weights hold the width of each extra token before their number.
        extra = self.clip_extra_context_tokens_proj(image).unflatten(1, (-1, self.tokens)).transpose(1, 2)
        words = self.text_encoder_hidden_states_norm(self.encoder_hidden_states_proj(captions.states))
        seen = captions.mask.new_ones((len(image), self.tokens))
        return torch.cat([extra, words], dim=1), torch.cat([seen, captions.mask], dim=1), time
