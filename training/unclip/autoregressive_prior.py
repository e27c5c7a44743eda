"""The other prior of the paper: a small causal transformer that tells an image embedding token by token.

Ramesh et al. 2022 (arXiv 2204.06125), section 2.2. It is compared with the diffusion prior and never shipped beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.unclip.album import Album
from training.unclip.fit import Draw
from training.unclip.noise import drop_conditions, half_precision
from training.unclip.recipe import AutoregressiveShape
from training.unclip.tokens import EmbeddingTokens, MatchTokens

KeysAndValues = tuple[Tensor, Tensor]  # (n, heads, length, width of a head) each


class Block(nn.Module):
    """Attention to what came before, then two layers on each token; both on normalised input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor, past: KeysAndValues | None) -> tuple[Tensor, KeysAndValues]:
        """(n, length, width) and what earlier calls kept -> the same shape, and what to keep.

        With a past, `hidden` is a single token and sees all of it.
        """
        query, key, value = self.project(self.attention_norm(hidden)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        with torch.autocast("cpu", enabled=False):  # its backward pass takes three times as long in half precision
            seen = functional.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), is_causal=past is None
            )
        hidden = hidden + self.merge(seen.transpose(1, 2).flatten(2))
        return hidden + self.think(self.norm(hidden)), (key, value)


class AutoregressivePrior(nn.Module):
    """How well the caption fits, then the embedding's tokens, each told from all before it and from the caption.

    Buckets have an order, and a caption tells little of each component. So tokens are read as the numbers that they
    stand for, the caption is added at every place, and each place tells its token by a few waves over the buckets: one
    answer for all, a table of tokens and the caption as a token of its own learned nothing in the same time.
    """

    waves: Tensor

    def __init__(self, shape: AutoregressiveShape, tokens: EmbeddingTokens, match: MatchTokens) -> None:
        super().__init__()
        self.tokens, self.match = tokens, match
        dimension, width, places = tokens.axes.shape[0], shape.width, tokens.components
        self.caption = nn.Linear(dimension, width)
        self.caption_shares = nn.Parameter(torch.ones(places, width))
        self.fits = nn.Embedding(match.buckets, width)
        self.values = nn.Parameter(torch.randn(places - 1, width) * 0.5)
        self.places = nn.Parameter(torch.randn(places, width) * 0.3)
        self.blocks = nn.ModuleList([Block(width, shape.heads) for _ in range(shape.layers)])
        self.norm = nn.LayerNorm(width)
        self.answers = nn.Parameter(torch.zeros(places, width, shape.waves))
        middles = (torch.arange(tokens.buckets) + 0.5) / tokens.buckets
        waves = torch.cos(torch.pi * torch.arange(1, shape.waves + 1)[:, None] * middles)
        self.register_buffer("waves", waves, persistent=False)
        with torch.no_grad():
            self.caption.weight.mul_(dimension**0.5)  # elements of a unit vector are that small

    def forward(self, text: Tensor, fits: Tensor, tokens: Tensor) -> Tensor:
        """Tell every token from those before it.

        text is (n, d) unit text embeddings, zeros for none; fits is (n,) match tokens; tokens is (n, components).
        Gives logits (n, components, buckets).
        """
        caption = self.caption(text)
        hidden = torch.cat([self._start(caption, fits), self._embed(tokens[:, :-1], caption, first=0)], dim=1)
        for block in self.blocks:
            hidden, _ = block(hidden, None)
        return self._answer(hidden, first=0)

    @torch.inference_mode()
    def sample(self, text: Tensor, generators: Sequence[torch.Generator], *, guidance: float = 1.0) -> Tensor:
        """Draw a unit image embedding for each caption, (n, d); text is (n, d) unit, each row has its own chance.

        Asks for a fit of the better half, as the paper does. Guidance is `draw_tokens`'.
        """
        best = self.match.buckets
        fits = torch.tensor([int(torch.randint(best // 2, best, (1,), generator=source)) for source in generators])
        return self.tokens.decode(self.draw_tokens(text, fits, generators, guidance=guidance))

    @torch.inference_mode()
    def draw_tokens(
        self, text: Tensor, fits: Tensor, generators: Sequence[torch.Generator], *, guidance: float = 1.0
    ) -> Tensor:
        """Draw tokens (n, components) one after the other; guidance works on logits, 1 is none."""
        caption = self.caption(torch.cat([torch.zeros_like(text), text]))
        hidden = self._start(caption, fits.repeat(2))
        pasts: list[KeysAndValues | None] = [None] * len(self.blocks)
        drawn: list[Tensor] = []
        for place in range(self.tokens.components):
            for at, block in enumerate(self.blocks):
                hidden, pasts[at] = block(hidden, pasts[at])
            nothing, conditioned = self._answer(hidden, first=place)[:, 0].chunk(2)
            shares = functional.softmax(nothing + guidance * (conditioned - nothing), dim=-1)
            pairs = zip(shares, generators, strict=True)
            drawn.append(torch.stack([torch.multinomial(share, 1, generator=source) for share, source in pairs]))
            if place + 1 < self.tokens.components:
                hidden = self._embed(drawn[-1].repeat(2, 1), caption, first=place)
        return torch.cat(drawn, dim=1)

    def _start(self, caption: Tensor, fits: Tensor) -> Tensor:
        """(n, 1, width): how well the caption is to fit, where the first token is told."""
        start: Tensor = (self.fits(fits) + self.places[0] + caption * self.caption_shares[0])[:, None]
        return start

    def _embed(self, tokens: Tensor, caption: Tensor, *, first: int) -> Tensor:
        """(n, length) tokens of the components from `first` on -> (n, length, width)."""
        own, told = slice(first, first + tokens.shape[1]), slice(first + 1, first + 1 + tokens.shape[1])
        values = self.tokens.values(tokens, first=first)[..., None] * self.values[own]
        return values + self.places[told] + caption[:, None] * self.caption_shares[told]

    def _answer(self, hidden: Tensor, *, first: int) -> Tensor:
        """(n, length, width) at the places from `first` on -> logits (n, length, buckets)."""
        answers = self.answers[first : first + hidden.shape[1]]
        return torch.einsum("nlw,lwk->nlk", self.norm(hidden), answers) @ self.waves


@dataclass(frozen=True)
class AutoregressiveLesson:
    """Tell the tokens of a picture's embedding from a caption."""

    album: Album
    network: AutoregressivePrior

    def loss(self, draw: Draw, batch: int) -> Tensor:
        """Cross entropy of the true tokens, in nats a token; log(buckets) is guessing."""
        shots = self.album.draw(batch, draw.numbers)
        image, text = self.album.images(shots), self.album.draw_texts(shots, draw.numbers)
        tokens, fits = self.network.tokens.encode(image), self.network.match.encode((image * text).sum(dim=1))
        with half_precision():
            logits = self.network(drop_conditions(text, draw), fits, tokens)
        return functional.cross_entropy(logits.float().flatten(0, 1), tokens.flatten())


def fresh_autoregressive_prior(album: Album, shape: AutoregressiveShape, *, seed: int) -> AutoregressivePrior:
    """Build an untrained one; its tokens are cut by views as training draws them, the same for the same seed."""
    torch.manual_seed(seed)
    shots = album.draw(4 * len(album.shares), Draw.of(seed=seed, step=0, rank=0).numbers)
    image = album.images(shots)
    text = album.draw_texts(shots, Draw.of(seed=seed, step=1, rank=0).numbers)
    tokens = EmbeddingTokens.fit(image, components=shape.components, buckets=shape.buckets)
    match = MatchTokens.fit((image * text).sum(dim=1), buckets=shape.match_buckets)
    return AutoregressivePrior(shape, tokens, match)
