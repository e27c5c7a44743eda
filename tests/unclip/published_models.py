"""Tiny copies of published layouts with random weights, as folders: plumbing, not meaning."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from open_clip.tokenizer import bytes_to_unicode
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from phosphene.unclip.components import Untyped

DIMENSION = 32
TOKENS = 16
CLIP_STD = 3.0


def save_karlo(folder: Path) -> Path:
    """Write the layout of kakaobrain/karlo-v1-alpha."""
    torch.manual_seed(1)
    _save_text_prior(folder)
    _save(
        folder / "text_proj",
        UnCLIPTextProjModel(clip_embeddings_dim=DIMENSION, time_embed_dim=64, cross_attention_dim=24),
    )
    _save(folder / "decoder", _karlo_decoder())
    for name in ("super_res_first", "super_res_last"):
        _save(folder / name, _karlo_super_resolution())
    UnCLIPScheduler(variance_type="learned_range").save_pretrained(folder / "decoder_scheduler")
    UnCLIPScheduler(variance_type="fixed_small_log").save_pretrained(folder / "super_res_scheduler")
    _index(folder, "UnCLIPPipeline")
    return folder


def _save_text_prior(folder: Path, *, prefix: str = "") -> None:
    """Write tokenizer, text encoder and prior as Karlo has them; with a prefix, as a combined model does."""
    _tokenizer().save_pretrained(folder / f"{prefix}tokenizer")
    _save(folder / f"{prefix}text_encoder", _text_encoder())
    _save(folder / "prior", _prior())
    schedule = UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0)
    schedule.save_pretrained(folder / "prior_scheduler")


def _save(folder: Path, model: Untyped) -> None:
    """Write a model whose weights are all random, also those that start as zeros."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name == "clip_std":
                weight.fill_(CLIP_STD)
            else:
                weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(folder, safe_serialization=True)


def _index(folder: Path, pipeline: str) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline, "_diffusers_version": "0.42.1"}))


def _tokenizer() -> Untyped:
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    untyped: Untyped = CLIPTokenizer
    return untyped(vocab={word: at for at, word in enumerate(words)}, merges=[], model_max_length=TOKENS)


def _text_config() -> Untyped:
    untyped: Untyped = CLIPTextConfig
    return untyped(
        vocab_size=514,
        hidden_size=DIMENSION,  # the prior reads hidden states as wide as the embedding
        projection_dim=DIMENSION,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )


def _text_encoder() -> Untyped:
    untyped: Untyped = CLIPTextModelWithProjection
    return untyped(_text_config())


def _prior() -> Untyped:
    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        embedding_dim=DIMENSION,
        num_embeddings=TOKENS,
        additional_embeddings=4,
    )


def _karlo_decoder() -> Untyped:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=24,
        attention_head_dim=16,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )


def _karlo_super_resolution() -> Untyped:
    return UNet2DModel(
        sample_size=32,
        in_channels=6,
        out_channels=3,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
    )
