"""The starter's own unCLIP layout: which networks, their files, and what goes in and out of them.

Training writes this layout and `phosphene.unclip.starter` reads it; both call the functions here, so that a convention
stands in one place. A folder holds

    unclip.json                   StarterConfig: the CLIP space, folds, defaults of sampling
    prior/                        PriorTransformer: unit text embedding -> unit image embedding
    decoder/                      UNet2DConditionModel: unit image embedding -> picture
    super_resolution/             UNet2DModel: picture -> larger picture
    prior_scheduler/ decoder_scheduler/ super_resolution_scheduler/      DDPMScheduler

each as diffusers' `save_pretrained` writes it. All three networks predict the clean sample (x0). docs/unclip.md has the
contract for a trainer; the shape of it follows Ramesh et al. 2022 (arXiv 2204.06125), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch.nn import functional

from phosphene.errors import InvalidInput, ModelError
from phosphene.model_imports import light_imports
from phosphene.types import Float32
from phosphene.unclip.base import Sampling
from phosphene.unclip.components import Untyped, load_component, load_scheduler, sample_size_of
from phosphene.unclip.pixels import from_pixels, to_pixels
from phosphene.unclip.starter_config import CONFIG_NAME, StarterConfig, read_config

with light_imports():
    from diffusers import DDPMScheduler, PriorTransformer, UNet2DConditionModel, UNet2DModel

__all__ = [  # all that a trainer needs
    "StarterConfig",
    "StarterNetworks",
    "StarterShape",
    "enlarge",
    "fold",
    "from_pixels",
    "load_schedules",
    "picture_schedule",
    "predict_embedding",
    "predict_larger",
    "predict_picture",
    "prior_schedule",
    "read_config",
    "to_pixels",
    "unfold",
]

TRAIN_STEPS = 1000  # timesteps are 0..999
PRIOR_CLIP = 5.0  # whitened embeddings beyond 5 standard deviations do not occur
_SCHEDULES = ("prior_scheduler", "decoder_scheduler", "super_resolution_scheduler")


@dataclass(frozen=True, slots=True)
class StarterShape:
    """Sizes of fresh networks. Training chooses; the defaults are a sensible start."""

    dimension: int = 256  # of the CLIP space
    prior_heads: int = 4
    prior_head_width: int = 64
    prior_layers: int = 4
    decoder_px: int = 64
    decoder_fold: int = 2
    decoder_widths: tuple[int, ...] = (48, 96, 160)  # attention at the last
    decoder_blocks: int = 1
    super_resolution_px: int = 128
    super_resolution_fold: int = 2
    super_resolution_widths: tuple[int, ...] = (32, 64)
    groups: int = 8  # of group norm; divides every width


@dataclass(frozen=True, slots=True)
class StarterNetworks:
    """The three networks and how they were told to fold their pictures."""

    prior: Untyped  # PriorTransformer; diffusers publishes no types
    decoder: Untyped  # UNet2DConditionModel
    super_resolution: Untyped  # UNet2DModel
    decoder_fold: int
    super_resolution_fold: int

    @classmethod
    def fresh(cls, shape: StarterShape, *, mean: Float32, std: Float32) -> Self:
        """Build untrained networks.

        mean and std are (d,) float32, std > 0: per dimension over the unit image embeddings that will be trained on.
        The prior works on `(embedding - mean) / std`. Call torch.manual_seed first: weights are random.
        """
        if mean.shape != (shape.dimension,) or std.shape != (shape.dimension,) or not (std > 0).all():
            raise InvalidInput(f"mean and std have shape ({shape.dimension},), and every std is above 0")
        prior = _fresh_prior(shape)
        with torch.no_grad():
            prior.clip_mean.copy_(torch.from_numpy(mean)[None])
            prior.clip_std.copy_(torch.from_numpy(std)[None])
        prior.clip_mean.requires_grad_(requires_grad=False)
        prior.clip_std.requires_grad_(requires_grad=False)
        return cls(
            prior=prior,
            decoder=_fresh_decoder(shape),
            super_resolution=_fresh_super_resolution(shape),
            decoder_fold=shape.decoder_fold,
            super_resolution_fold=shape.super_resolution_fold,
        )

    @classmethod
    def load(cls, folder: Path, config: StarterConfig) -> Self:
        """Read the networks of a folder, float32, in evaluation mode. Raises ModelError, UnsafeWeights."""
        networks = cls(
            prior=load_component(PriorTransformer, folder / "prior"),
            decoder=load_component(UNet2DConditionModel, folder / "decoder"),
            super_resolution=load_component(UNet2DModel, folder / "super_resolution"),
            decoder_fold=config.decoder_fold,
            super_resolution_fold=config.super_resolution_fold,
        )
        for name in ("decoder", "super_resolution"):
            sample_size_of(getattr(networks, name), folder / name)
        _require_fit(networks, folder)
        return networks

    def save(self, folder: Path, *, space: str, model: str = "starter", sampling: Sampling | None = None) -> None:
        """Write networks, schedules and unclip.json; `space` is the id of the CLIP space trained in."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("prior", "decoder", "super_resolution"):
            getattr(self, name).save_pretrained(folder / name, safe_serialization=True)
        for name, schedule in zip(_SCHEDULES, (prior_schedule, picture_schedule, picture_schedule), strict=True):
            schedule().save_pretrained(folder / name)
        config = StarterConfig(
            space=space,
            model=model,
            decoder_fold=self.decoder_fold,
            super_resolution_fold=self.super_resolution_fold,
            sampling=sampling or Sampling(),
        )
        (folder / CONFIG_NAME).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for file in folder.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # safetensors writes 0600, which others than the owner can't read in an image

    @property
    def dimension(self) -> int:
        """Of the CLIP space."""
        return int(self.prior.config.embedding_dim)

    @property
    def decoder_px(self) -> int:
        """Both sides of what the decoder draws."""
        return int(self.decoder.config.sample_size) * self.decoder_fold

    @property
    def super_resolution_px(self) -> int:
        """Both sides of the final picture."""
        return int(self.super_resolution.config.sample_size) * self.super_resolution_fold


def prior_schedule() -> Untyped:
    """Noise of the prior, for training and sampling: cosine, 1000 steps, x0 predicted and clipped to -5..5."""
    return _schedule(PRIOR_CLIP)


def picture_schedule() -> Untyped:
    """Noise of decoder and super-resolution: cosine, 1000 steps, x0 predicted and clipped to -1..1."""
    return _schedule(1.0)


def load_schedules(folder: Path) -> tuple[Untyped, Untyped, Untyped]:
    """Read the schedules of prior, decoder and super-resolution. Raises ModelError."""
    prior, decoder, super_resolution = (load_scheduler(DDPMScheduler, folder / name) for name in _SCHEDULES)
    return prior, decoder, super_resolution


def predict_embedding(
    networks: StarterNetworks, noisy: torch.Tensor, t: torch.Tensor, text: torch.Tensor
) -> torch.Tensor:
    """Run the prior: the clean whitened image embedding, (n, d).

    noisy is (n, d), whitened and noised; t is (n,) or () int64, 0..999; text is (n, d) unit text embeddings, rows of
    zeros where there is no caption (dropped in training, unguided in sampling).
    """
    predicted: torch.Tensor = networks.prior(noisy, t, proj_embedding=text).predicted_image_embedding
    return predicted


def predict_picture(
    networks: StarterNetworks, noisy: torch.Tensor, t: torch.Tensor, image: torch.Tensor
) -> torch.Tensor:
    """Run the decoder: the clean folded picture, (n, 3·k², px/k, px/k).

    noisy has that shape too (see `fold`); image is (n, d) unit image embeddings, rows of zeros where there is none.
    """
    condition = {"image_embeds": image}
    predicted: torch.Tensor = networks.decoder(noisy, t, encoder_hidden_states=None, added_cond_kwargs=condition).sample
    return predicted


def predict_larger(networks: StarterNetworks, noisy: torch.Tensor, t: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Run super-resolution: the clean folded large picture, (n, 3·k², px/k, px/k).

    noisy has that shape too; low is the small picture already enlarged (see `enlarge`) and folded: the same shape.
    """
    predicted: torch.Tensor = networks.super_resolution(torch.cat([noisy, low], dim=1), t).sample
    return predicted


def fold(pictures: torch.Tensor, k: int) -> torch.Tensor:
    """Lay each k x k block of pixels into channels: (n, 3, h, w) -> (n, 3·k², h/k, w/k). k=1 changes nothing."""
    return functional.pixel_unshuffle(pictures, k)


def unfold(cells: torch.Tensor, k: int) -> torch.Tensor:
    """Undo `fold`."""
    return functional.pixel_shuffle(cells, k)


def enlarge(low: torch.Tensor, px: int) -> torch.Tensor:
    """Enlarge (n, 3, h, w) in -1..1 to (n, 3, px, px), bicubic, within -1..1: what super-resolution starts from."""
    large = functional.interpolate(low.float(), size=(px, px), mode="bicubic", align_corners=False, antialias=True)
    return large.clamp(-1, 1)


def _schedule(clip: float) -> Untyped:
    return DDPMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_small",
        prediction_type="sample",
        clip_sample=True,
        clip_sample_range=clip,
        timestep_spacing="linspace",  # from 999 to 0 whatever the number of steps
    )


def _fresh_prior(shape: StarterShape) -> Untyped:
    # Four tokens: caption, time, noisy embedding, and the one whose output is the prediction.
    prior = PriorTransformer(
        num_attention_heads=shape.prior_heads,
        attention_head_dim=shape.prior_head_width,
        num_layers=shape.prior_layers,
        embedding_dim=shape.dimension,
        num_embeddings=0,
        additional_embeddings=4,
        encoder_hid_proj_type=None,
    )
    _for_unit_vectors(prior.embedding_proj)
    return prior


def _fresh_decoder(shape: StarterShape) -> Untyped:
    plain = len(shape.decoder_widths) - 1
    decoder = UNet2DConditionModel(
        sample_size=shape.decoder_px // shape.decoder_fold,
        in_channels=3 * shape.decoder_fold**2,
        out_channels=3 * shape.decoder_fold**2,
        down_block_types=("ResnetDownsampleBlock2D",) * plain + ("SimpleCrossAttnDownBlock2D",),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D",) + ("ResnetUpsampleBlock2D",) * plain,
        block_out_channels=shape.decoder_widths,
        layers_per_block=shape.decoder_blocks,
        norm_num_groups=shape.groups,
        attention_head_dim=32,
        cross_attention_dim=64,
        resnet_time_scale_shift="scale_shift",
        encoder_hid_dim=shape.dimension,
        encoder_hid_dim_type="image_proj",  # the embedding as tokens to attend to
        addition_embed_type="image",  # and added to the timestep's embedding
    )
    _for_unit_vectors(decoder.encoder_hid_proj.image_embeds)
    _for_unit_vectors(decoder.add_embedding.image_proj)
    return decoder


def _fresh_super_resolution(shape: StarterShape) -> Untyped:
    channels = 3 * shape.super_resolution_fold**2
    levels = len(shape.super_resolution_widths)
    return UNet2DModel(
        sample_size=shape.super_resolution_px // shape.super_resolution_fold,
        in_channels=2 * channels,
        out_channels=channels,
        down_block_types=("ResnetDownsampleBlock2D",) * levels,
        up_block_types=("ResnetUpsampleBlock2D",) * levels,
        block_out_channels=shape.super_resolution_widths,
        layers_per_block=1,
        norm_num_groups=shape.groups,
        add_attention=False,
    )


def _for_unit_vectors(layer: torch.nn.Linear) -> None:
    """Scale fresh weights by sqrt(d): the elements of a unit vector have a standard deviation of 1/sqrt(d)."""
    with torch.no_grad():
        layer.weight.mul_(layer.in_features**0.5)


def _require_fit(networks: StarterNetworks, folder: Path) -> None:
    """See that the three networks belong together."""
    k, large = networks.decoder_fold, networks.super_resolution_fold
    decoder, super_resolution = networks.decoder.config, networks.super_resolution.config
    faults = [
        (decoder.encoder_hid_dim != networks.dimension, "prior and decoder are of different CLIP spaces"),
        (decoder.in_channels != 3 * k * k, f"the decoder has {decoder.in_channels} channels, not 3·{k}²"),
        (decoder.out_channels != decoder.in_channels, "the decoder gives other channels than it takes"),
        (super_resolution.out_channels != 3 * large * large, f"super-resolution has no 3·{large}² channels"),
        (super_resolution.in_channels != 6 * large * large, f"super-resolution does not take 6·{large}² channels"),
        (not bool((networks.prior.clip_std > 0).all()), "the prior's clip_std is 0: mean and std were never set"),
    ]
    if wrong := "; ".join(message for bad, message in faults if bad):
        raise ModelError(f"{folder} can't be used: {wrong}")
