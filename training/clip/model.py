"""The starter's architecture, in open_clip's own configuration format."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn import functional

from training.clip.render import SIDE

CONTEXT_LENGTH = 32
TEXT_WIDTH = 256
EMBEDDING = 256
MEAN = STD = 0.5  # what the packaged backbone was trained with

MODEL_CFG: dict[str, Any] = {
    "embed_dim": EMBEDDING,
    "vision_cfg": {
        "timm_model_name": "efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "mlp",
        "image_size": SIDE,
    },
    "text_cfg": {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": 49408,
        "width": TEXT_WIDTH,
        "heads": 4,
        "layers": 4,
    },
}
# Pictures of any shape are kept whole, on a white ground, as most clip art already is.
PREPROCESS_CFG: dict[str, Any] = {
    "size": [SIDE, SIDE],
    "mode": "RGB",
    "mean": [MEAN] * 3,
    "std": [STD] * 3,
    "interpolation": "bicubic",
    "resize_mode": "longest",
    "fill_color": 255,
}


def build_model(*, projection: Literal["linear", "mlp"] = "linear") -> open_clip.CLIP:
    """Return a starter with fresh weights; while the backbone learns, its projection is one matrix."""
    return open_clip.CLIP(
        embed_dim=EMBEDDING,
        vision_cfg={**MODEL_CFG["vision_cfg"], "timm_proj": projection},
        text_cfg=MODEL_CFG["text_cfg"],
    )


def tokenize(texts: list[str]) -> Tensor:
    """(n, CONTEXT_LENGTH) int32 tokens, zero-padded."""
    tokens = SimpleTokenizer(context_length=CONTEXT_LENGTH)(texts)
    return cast("Tensor", tokens).to(torch.int32)


def embed_tokens(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Return unit text embeddings (n, EMBEDDING) float32; the padding that all rows share is not computed."""
    length = int((tokens != 0).sum(dim=1).max())
    tokens = tokens[:, :length].long()
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    ends = hidden[torch.arange(len(tokens)), tokens.argmax(dim=1)]
    return functional.normalize(ends.float() @ model.text_projection.float(), dim=-1)


@torch.no_grad()
def embed_all_tokens(model: open_clip.CLIP, tokens: Tensor, *, batch: int = 512) -> Tensor:
    """`embed_tokens` for any number of rows, short ones with short ones."""
    order = np.argsort((tokens != 0).sum(dim=1).numpy(), kind="stable")
    result = torch.empty(len(tokens), EMBEDDING)
    for start in range(0, len(order), batch):
        rows = torch.from_numpy(order[start : start + batch])
        result[rows] = embed_tokens(model, tokens[rows])
    return result
