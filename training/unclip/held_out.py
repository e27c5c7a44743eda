"""Pictures that neither recipe was trained on, as the starter sees them, and the captions they are asked for by."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from phosphene.encoders import Encoder
from phosphene.images import fit
from phosphene.types import Pixels
from phosphene.unclip.starter_layout import to_pixels
from training.clip.demo import shown_title
from training.clip.evaluate import MAX_TITLE_USES
from training.clip.picture import Picture, Split, read_pictures
from training.unclip.views import draw_views
from training.unclip.workspace import UnclipWorkspace

SIDE = 128  # pixels, for people to look at


@dataclass(frozen=True)
class HeldOut:
    """Pictures of a split in one order, with embeddings of length 1, (n, d)."""

    pictures: list[Picture]
    pixels: Pixels  # (n, SIDE, SIDE, 3), on white
    images: Tensor
    captions: list[str]  # titles, as the catalogue shows them
    texts: Tensor  # of the captions

    @classmethod
    def of(cls, workspace: UnclipWorkspace, split: Split, encoder: Encoder) -> Self:
        """Embed the pictures of a split from the pixel cache, and their titles."""
        if split == "train":
            raise ValueError("pictures that were trained on are not held out")
        listed = enumerate(read_pictures(workspace.clip.pictures))
        rows, pictures = zip(*[(row, picture) for row, picture in listed if picture.split == split], strict=True)
        tiles = np.load(workspace.clip.pixels, mmap_mode="r")[list(rows)]
        whole = np.tile(np.array([1, 0, 0, 1], np.float32), (len(rows), 1))
        seen = to_pixels(draw_views(tiles, whole, side=encoder.space.pixels.size))
        captions = [shown_title(picture.label).lower() for picture in pictures]
        return cls(
            list(pictures),
            to_pixels(draw_views(tiles, whole, side=SIDE)),
            torch.from_numpy(encoder.encode_pixels(seen).unit().rows),
            captions,
            torch.from_numpy(encoder.encode_texts(captions).unit().rows),
        )

    def asked(self) -> list[int]:
        """Rows whose captions say something: with letters, and not shared by many."""
        uses = Counter(self.captions)
        return [
            row
            for row, caption in enumerate(self.captions)
            if uses[caption] <= MAX_TITLE_USES and re.search("[a-z]", caption)
        ]

    def sample(self, count: int, *, seed: int = 0) -> list[int]:
        """Rows of up to `count` different captions, the same each time."""
        rows = self.asked()
        np.random.default_rng(seed).shuffle(rows)
        first = {self.captions[row]: row for row in reversed(rows)}
        return [row for row in rows if first[self.captions[row]] == row][:count]


def embed_pictures(pixels: Pixels, encoder: Encoder) -> Tensor:
    """Embed pictures (n, h, w, 3) of any size as an ingest would: (n, d) of length 1."""
    fitted = np.stack([fit(Image.fromarray(picture), encoder.space.pixels) for picture in pixels])
    return torch.from_numpy(encoder.encode_pixels(fitted).unit().rows)
