"""Sizes and numbers of the recipe: the real one, and a pilot that shows within minutes that every step works."""

from __future__ import annotations

from dataclasses import dataclass, field

from phosphene.unclip.starter_layout import StarterShape


@dataclass(frozen=True)
class Plan:
    """How one network is trained. A batch is that of one worker."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 200
    averaging: float = 0.999  # of the weights, each step
    max_norm: float = 1.0  # of the gradient
    report_every: int = 50
    save_every: int = 200
    seed: int = 0


@dataclass(frozen=True)
class AutoregressiveShape:
    """Sizes of the autoregressive prior, and how finely it cuts embeddings into tokens."""

    components: int = 96  # principal components of the image embeddings; they hold 86 % of the variance
    buckets: int = 64  # values of each
    match_buckets: int = 32  # values of the cosine between caption and picture
    width: int = 192
    heads: int = 4
    layers: int = 4
    waves: int = 12  # that a distribution over the buckets is made of


@dataclass(frozen=True)
class Recipe:
    """Everything that is chosen; the README has the measurements behind it."""

    shape: StarterShape = field(
        default_factory=lambda: StarterShape(
            decoder_fold=2, decoder_widths=(32, 64, 128), super_resolution_fold=4, super_resolution_widths=(64,)
        )
    )
    autoregressive_shape: AutoregressiveShape = AutoregressiveShape()
    every: int = 1  # of the training pictures, every n-th is used
    views: int = 4
    seed: int = 0
    prior: Plan = Plan(steps=6_000, batch=256, learning_rate=5e-4)
    autoregressive_prior: Plan = Plan(steps=1_500, batch=64, learning_rate=1e-3, warmup=50)
    decoder: Plan = Plan(steps=5_000, batch=32, learning_rate=1e-3)
    decoder_longer: Plan = Plan(steps=3_000, batch=32, learning_rate=6e-4, seed=1)
    super_resolution: Plan = Plan(steps=3_000, batch=16, learning_rate=1e-3)


def _short(*, steps: int, batch: int, learning_rate: float) -> Plan:
    return Plan(steps, batch, learning_rate, warmup=10, averaging=0.9, report_every=10, save_every=20)


FULL = Recipe()
PILOT = Recipe(
    every=60,
    views=2,
    prior=_short(steps=60, batch=64, learning_rate=5e-4),
    autoregressive_prior=_short(steps=40, batch=16, learning_rate=5e-4),
    decoder=_short(steps=60, batch=16, learning_rate=1e-3),
    decoder_longer=_short(steps=20, batch=16, learning_rate=1e-3),
    super_resolution=_short(steps=40, batch=8, learning_rate=1e-3),
)
