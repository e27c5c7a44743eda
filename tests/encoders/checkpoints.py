"""Models made on the spot: real architectures with random weights, as files that open_clip itself can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

WORDS = [
    "<pad>",
    "</s>",
    "<unk>",
    "a",
    "an",
    "the",
    "photo",
    "drawing",
    "of",
    "red",
    "blue",
    "green",
    "bus",
    "cat",
    "dog",
    "boat",
    "on",
    "in",
    "street",
]

SMALL_VISION = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16}
SMALL_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
SMALL_CLIP: dict[str, Any] = {"embed_dim": 48, "vision_cfg": SMALL_VISION, "text_cfg": SMALL_TEXT}


def random_weights(model: torch.nn.Module, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Fill weights so that different inputs get different embeddings; a fresh model's are nearly all alike."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (tensor + 0.02 * torch.randn(tensor.shape, generator=generator)) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }


def save_model(folder: Path, config: dict[str, Any], **preprocess: Any) -> Path:  # noqa: ANN401
    """Write a folder with a configuration and fp32 weights of it."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    (folder / "open_clip_model.safetensors").unlink(missing_ok=True)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    save_file(random_weights(model), folder / "open_clip_model.safetensors")
    return folder


def save_tokenizer(folder: Path, *, pad: str = WORDS[1]) -> None:
    """Write a small tokenizer of the Hugging Face kind, padded as SigLIP's is."""
    end, unknown = WORDS[1], WORDS[2]
    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token=unknown))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    fast: Any = PreTrainedTokenizerFast  # untyped
    fast(tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown).save_pretrained(folder)
