"""The shipped model, loaded as any user of open_clip loads it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

BATCH = 64


@dataclass(frozen=True)
class Starter:
    """A model loaded as any user of open_clip loads it."""

    model: open_clip.CLIP
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[[list[str]], Tensor]
    load_s: float
    megabytes: float

    @classmethod
    def load(cls, folder: Path) -> Starter:
        """Load a `local-dir:` folder and time it."""
        started = time.perf_counter()
        name = f"local-dir:{folder}"
        model, _, preprocess = open_clip.create_model_and_transforms(name)
        tokenizer = open_clip.get_tokenizer(name)
        elapsed = time.perf_counter() - started
        size = (folder / "open_clip_model.safetensors").stat().st_size
        return cls(model.eval(), preprocess, tokenizer, elapsed, size / 1e6)

    def tensors(self, images: Iterable[Image.Image]) -> Tensor:
        """(n, 3, side, side) float32 inputs of the image tower."""
        return torch.stack([self.preprocess(image) for image in images])

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return unit embeddings, (n, d) float32."""
        parts = []
        for start in range(0, len(images), BATCH):
            features = self.model.encode_image(self.tensors(images[start : start + BATCH]))
            parts.append(functional.normalize(features.float(), dim=-1))
        return torch.cat(parts)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings, (n, d) float32."""
        parts = []
        for start in range(0, len(texts), BATCH):
            features = self.model.encode_text(self.tokenizer(list(texts[start : start + BATCH])))
            parts.append(functional.normalize(features.float(), dim=-1))
        return torch.cat(parts)
