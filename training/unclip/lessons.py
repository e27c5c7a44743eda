"""What the three networks of the layout are taught."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from phosphene.unclip.starter_layout import (
    StarterNetworks,
    enlarge,
    fold,
    picture_schedule,
    predict_embedding,
    predict_larger,
    predict_picture,
    prior_schedule,
)
from training.unclip.album import Album
from training.unclip.fit import Draw
from training.unclip.noise import Noised, drop_conditions, half_precision, perturb, picture_loss, shrink


@dataclass(frozen=True)
class PriorLesson:
    """Tell the image embedding of a picture from a caption. Ramesh et al. 2022 (arXiv 2204.06125), section 2.2."""

    album: Album
    networks: StarterNetworks
    schedule: Any = field(default_factory=prior_schedule)  # a diffusers scheduler

    @property
    def network(self) -> nn.Module:
        """The diffusion prior."""
        network: nn.Module = self.networks.prior
        return network

    def loss(self, draw: Draw, batch: int) -> Tensor:
        """Mean squared error on clean whitened embeddings, as the paper's equation 2; no weights."""
        prior = self.networks.prior
        shots = self.album.draw(batch, draw.numbers)
        text = drop_conditions(self.album.draw_texts(shots, draw.numbers), draw)
        clean = (self.album.images(shots) - prior.clip_mean) / prior.clip_std
        noised = Noised.of(clean, self.schedule, draw)
        with half_precision():
            predicted = predict_embedding(self.networks, noised.noisy, noised.t, text)
        return functional.mse_loss(predicted.float(), clean)


@dataclass(frozen=True)
class DecoderLesson:
    """Draw a view of a picture from what CLIP sees in that view. Section 2.1 of the same paper."""

    album: Album
    networks: StarterNetworks
    schedule: Any = field(default_factory=picture_schedule)  # a diffusers scheduler
    most_perturbed: float = 0.3  # of an embedding's length: what the prior predicts is never quite right either

    @property
    def network(self) -> nn.Module:
        """The decoder."""
        network: nn.Module = self.networks.decoder
        return network

    def loss(self, draw: Draw, batch: int) -> Tensor:
        """Weighted squared error on clean folded pictures."""
        shots = self.album.draw(batch, draw.numbers)
        image = perturb(self.album.images(shots), draw, most=self.most_perturbed)
        clean = fold(self.album.pictures(shots, side=self.networks.decoder_px), self.networks.decoder_fold)
        noised = Noised.of(clean, self.schedule, draw)
        with half_precision():
            predicted = predict_picture(self.networks, noised.noisy, noised.t, drop_conditions(image, draw))
        return picture_loss(predicted, clean, noised.t, self.schedule)


@dataclass(frozen=True)
class SuperResolutionLesson:
    """Draw a picture large from its small version, which is a little noisy and soft, as what the decoder draws."""

    album: Album
    networks: StarterNetworks
    schedule: Any = field(default_factory=picture_schedule)  # a diffusers scheduler
    most_noise: float = 0.1
    least_sharp: float = 0.6  # share of the small picture's pixels a side that carry detail

    @property
    def network(self) -> nn.Module:
        """The super-resolution net."""
        network: nn.Module = self.networks.super_resolution
        return network

    def loss(self, draw: Draw, batch: int) -> Tensor:
        """Weighted squared error on clean folded large pictures."""
        large = self.album.pictures(self.album.draw(batch, draw.numbers), side=self.networks.super_resolution_px)
        k = self.networks.super_resolution_fold
        clean, low = fold(large, k), fold(self._enlarged(self.spoil(large, draw)), k)
        noised = Noised.of(clean, self.schedule, draw)
        with half_precision():
            predicted = predict_larger(self.networks, noised.noisy, noised.t, low)
        return picture_loss(predicted, clean, noised.t, self.schedule)

    def spoil(self, large: Tensor, draw: Draw) -> Tensor:
        """Give the small version: half of the batches softened, all with up to `most_noise` of noise."""
        side = self.networks.decoder_px
        small = shrink(large, side)
        if draw.numbers.random() < 0.5:
            sharp = round(side * draw.numbers.uniform(self.least_sharp, 1))
            small = self._enlarged(shrink(large, sharp), side)
        return small + self.most_noise * draw.uniform(len(small), 1, 1, 1) * draw.gaussian(small)

    def _enlarged(self, small: Tensor, side: int | None = None) -> Tensor:
        return enlarge(small, side or self.networks.super_resolution_px)
