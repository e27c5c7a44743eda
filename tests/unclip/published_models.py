"""Tiny copies of published layouts with random weights, as folders: plumbing, not meaning."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    PNDMScheduler,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from open_clip.tokenizer import bytes_to_unicode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from phosphene.unclip.components import Untyped

DIMENSION = 32
TOKENS = 16
CLIP_STD = 3.0


def save_karlo(folder: Path, *, dimension: int = DIMENSION) -> Path:
    """Write the layout of kakaobrain/karlo-v1-alpha."""
    torch.manual_seed(1)
    _save_text_prior(folder, dimension)
    _save(
        folder / "text_proj",
        UnCLIPTextProjModel(clip_embeddings_dim=dimension, time_embed_dim=64, cross_attention_dim=24),
    )
    _save(folder / "decoder", _karlo_decoder())
    for name in ("super_res_first", "super_res_last"):
        _save(folder / name, _karlo_super_resolution())
    UnCLIPScheduler(variance_type="learned_range").save_pretrained(folder / "decoder_scheduler")
    UnCLIPScheduler(variance_type="fixed_small_log").save_pretrained(folder / "super_res_scheduler")
    _index(folder, "UnCLIPPipeline")
    return folder


def save_kandinsky_prior(folder: Path, *, dimension: int = DIMENSION) -> Path:
    """Write the layout of kandinsky-community/kandinsky-2-2-prior."""
    torch.manual_seed(2)
    _tokenizer().save_pretrained(folder / "tokenizer")
    _save(folder / "text_encoder", _text_encoder(dimension))
    _save(folder / "image_encoder", _image_encoder(dimension))
    _save(folder / "prior", _prior(dimension))
    UnCLIPScheduler(prediction_type="sample", clip_sample_range=10.0).save_pretrained(folder / "scheduler")
    _index(folder, "KandinskyV22PriorPipeline")
    return folder


def save_kandinsky_decoder(folder: Path) -> Path:
    """Write the layout of kandinsky-community/kandinsky-2-2-decoder."""
    torch.manual_seed(3)
    _save(folder / "unet", _kandinsky_unet())
    _save(
        folder / "movq",
        VQModel(
            block_out_channels=(32, 32),  # its spatial norm has 32 groups
            down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
            up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
            latent_channels=4,
            num_vq_embeddings=12,
            vq_embed_dim=4,
            norm_type="spatial",
        ),
    )
    DDPMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        variance_type="learned_range",
    ).save_pretrained(folder / "scheduler")
    _index(folder, "KandinskyV22Pipeline")
    return folder


def save_stable_unclip(folder: Path) -> Path:
    """Write the layout of stabilityai/stable-diffusion-2-1-unclip-small."""
    torch.manual_seed(4)
    _tokenizer().save_pretrained(folder / "tokenizer")
    untyped: Untyped = CLIPTextModel
    _save(folder / "text_encoder", untyped(_text_config(DIMENSION)))
    _save(folder / "image_encoder", _image_encoder(DIMENSION))
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=DIMENSION)
    with torch.no_grad():
        normalizer.std.fill_(CLIP_STD)
    _save(folder / "image_normalizer", normalizer)
    DDPMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(folder / "image_noising_scheduler")
    _save(folder / "unet", _stable_unet())
    _save(
        folder / "vae",
        AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
        ),
    )
    PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    _index(folder, "StableUnCLIPImg2ImgPipeline")
    return folder


def _save_text_prior(folder: Path, dimension: int) -> None:
    _tokenizer().save_pretrained(folder / "tokenizer")
    _save(folder / "text_encoder", _text_encoder(dimension))
    _save(folder / "prior", _prior(dimension))
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


def _text_config(dimension: int) -> Untyped:
    untyped: Untyped = CLIPTextConfig
    return untyped(
        vocab_size=514,
        hidden_size=dimension,  # the prior reads hidden states as wide as the embedding
        projection_dim=dimension,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )


def _text_encoder(dimension: int) -> Untyped:
    untyped: Untyped = CLIPTextModelWithProjection
    return untyped(_text_config(dimension))


def _prior(dimension: int) -> Untyped:
    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        embedding_dim=dimension,
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


def _image_encoder(dimension: int) -> Untyped:
    config: Untyped = CLIPVisionConfig
    model: Untyped = CLIPVisionModelWithProjection
    return model(
        config(
            hidden_size=24,
            projection_dim=dimension,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        )
    )


def _kandinsky_unet() -> Untyped:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=24,
        attention_head_dim=16,
        resnet_time_scale_shift="scale_shift",
        encoder_hid_dim=DIMENSION,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
    )


def _stable_unet() -> Untyped:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=DIMENSION,
        attention_head_dim=2,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * DIMENSION,  # the embedding, and how much noise was added to it
    )
