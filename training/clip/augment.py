"""Random views of transparent drawings: colours, places, grounds and outlines, all in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from training.clip.model import MEAN, STD


@dataclass(frozen=True)
class Augmenter:
    """Draws pictures anew from its own random stream."""

    chance: Generator
    outlined_share: float = 0.2
    max_rotation: float = 0.25  # radians, for half of the pictures

    def __call__(self, rgba: Tensor, *, side: int, mirrored: Tensor) -> Tensor:
        """(n, 4, h, w) uint8 and (n,) bool 'may be mirrored' -> (n, 3, side, side) float32, normalised."""
        pixels = rgba.float() / 255
        colour, alpha = pixels[:, :3], pixels[:, 3:]
        colour = self._jitter(colour)
        placed = self._place(torch.cat([colour * alpha, alpha], dim=1), side, mirrored)
        premultiplied, alpha = self._outline(placed[:, :3], placed[:, 3:])
        picture = premultiplied + self._ground(premultiplied, alpha) * (1 - alpha)
        return (self._erase(picture) - MEAN) / STD

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.chance)

    def _jitter(self, colour: Tensor) -> Tensor:
        """Brightness, contrast, saturation (sometimes none) and tint."""
        count = len(colour)
        brightness = 0.85 + 0.3 * self._uniform(count, 1, 1, 1)
        contrast = 0.8 + 0.4 * self._uniform(count, 1, 1, 1)
        saturation = 0.7 + 0.6 * self._uniform(count, 1, 1, 1)
        saturation = saturation * (self._uniform(count, 1, 1, 1) > 0.06)
        tint = 0.94 + 0.12 * self._uniform(count, 3, 1, 1)
        grey = colour.mean(dim=1, keepdim=True)
        vivid = grey + (colour - grey) * saturation
        return (((vivid - 0.5) * contrast + 0.5) * brightness * tint).clamp(0, 1)

    def _place(self, premultiplied: Tensor, side: int, mirrored: Tensor) -> Tensor:
        """Scale to 0.7..1.1 of the frame, stretch, sometimes rotate or mirror, and shift within the frame."""
        count = len(premultiplied)
        zoom = 1 / (0.7 + 0.4 * self._uniform(count))
        stretch = torch.exp((self._uniform(count) - 0.5) * 0.3)
        angle = (2 * self._uniform(count) - 1) * self.max_rotation * (self._uniform(count) < 0.5)
        flip = 1 - 2 * ((self._uniform(count) < 0.5) & mirrored).float()
        room = (zoom - 1).abs() * 0.8 + 0.05
        shift_x, shift_y = ((2 * self._uniform(count) - 1) * room for _ in range(2))
        first = torch.stack([zoom * stretch * angle.cos() * flip, -zoom * angle.sin(), shift_x], dim=1)
        second = torch.stack([zoom * angle.sin() * flip, zoom / stretch * angle.cos(), shift_y], dim=1)
        shape = [count, premultiplied.shape[1], side, side]
        reduced = _reduce(premultiplied, side)
        grid = functional.affine_grid(torch.stack([first, second], dim=1), shape, align_corners=False)
        return functional.grid_sample(reduced, grid, align_corners=False)

    def _outline(self, premultiplied: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Ink the edges of a share of the pictures, as many styles do."""
        count = int(len(alpha) * self.outlined_share)
        if count == 0:
            return premultiplied, alpha
        drawn = torch.cat([premultiplied[:count].mean(dim=1, keepdim=True), alpha[:count]], dim=1)
        width = 3 if alpha.shape[-1] < 112 else 5
        padding = width // 2
        edges = functional.max_pool2d(drawn, width, 1, padding) + functional.max_pool2d(-drawn, width, 1, padding)
        ink = ((edges[:, :1] > 0.3) | (edges[:, 1:] > 0.5)).float()
        inked_alpha = torch.maximum(alpha[:count], ink)
        inked = premultiplied[:count] * (1 - 0.92 * ink)
        return torch.cat([inked, premultiplied[count:]]), torch.cat([inked_alpha, alpha[count:]])

    def _ground(self, premultiplied: Tensor, alpha: Tensor) -> Tensor:
        """Mostly white; else one colour or a soft pattern; light behind dark drawings."""
        count, _, side, _ = premultiplied.shape
        kind = self._uniform(count, 1, 1, 1)
        pale = 1 - 0.35 * self._uniform(count, 3, 1, 1)
        plain = torch.where(self._uniform(count, 1, 1, 1) < 0.6, pale, self._uniform(count, 3, 1, 1))
        soft = functional.interpolate(self._uniform(count, 3, 4, 4), size=side, mode="bilinear")
        ground = torch.where(kind < 0.6, torch.ones(1), torch.where(kind < 0.84, plain, soft))
        lightness = premultiplied.sum(dim=(1, 2, 3)) / (3 * alpha.sum(dim=(1, 2, 3)) + 1e-3)
        is_dark = (lightness < 0.3).view(-1, 1, 1, 1)
        return torch.where(is_dark, 0.6 + 0.4 * ground, ground)

    def _erase(self, picture: Tensor) -> Tensor:
        """Put a grey square somewhere on a fifth of the pictures."""
        count, _, side, _ = picture.shape
        half = (0.08 + 0.12 * self._uniform(count, 1, 1)) * (self._uniform(count, 1, 1) < 0.2)
        columns = torch.linspace(0, 1, side).view(1, 1, side)
        left, top = self._uniform(count, 1, 1), self._uniform(count, 1, 1)
        erased = ((columns - left).abs() < half) & ((columns.transpose(1, 2) - top).abs() < half)
        return torch.where(erased[:, None], torch.full((1,), 0.6), picture)


def _reduce(picture: Tensor, side: int) -> Tensor:
    """Shrink before sampling, so that low resolutions do not alias."""
    if picture.shape[-1] < side * 1.25:
        return picture
    return functional.interpolate(picture, size=int(side * 1.1), mode="bilinear", antialias=True)
