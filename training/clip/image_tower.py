"""Fine-tune the image tower towards the frozen text tower: low resolution first, photographs kept in mind."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.nn import functional

from training.clip.augment import Augmenter
from training.clip.backbone import SharedBackbone, load_backbone
from training.clip.bank import TextBank, build_bank
from training.clip.checkpoint import load_checkpoint, save_checkpoint
from training.clip.clipart import STYLE as CLIPART
from training.clip.imagenet import class_weights, read_photo_classes
from training.clip.model import build_model
from training.clip.photos import PhotoMemory
from training.clip.picture import Picture, read_pictures
from training.clip.targets import may_be_mirrored, picture_texts, sampling_weights
from training.clip.workers import average_gradients, is_first, run_workers

if TYPE_CHECKING:
    from pathlib import Path

    import open_clip
    from numpy.typing import NDArray

    from training.clip.workspace import Workspace


@dataclass(frozen=True)
class Stage:
    """Some steps at one resolution; one step sees `2 * batch` pictures."""

    side: int
    steps: int
    memory_weight: float  # how much it costs to forget ImageNet
    first_rate: float  # learning rates as shares of the peak, on a cosine from the first
    last_rate: float  # to the last
    clipart_factor: float = 1.0  # how much more often clip art is drawn than its weight says


@dataclass(frozen=True)
class ImageSchedule:
    """What the image tower is trained with; weights were chosen on the validation split."""

    stages: tuple[Stage, ...] = (
        Stage(80, 1_250, memory_weight=0.5, first_rate=1.0, last_rate=0.24),
        Stage(128, 350, memory_weight=1.0, first_rate=0.24, last_rate=0.05),
        Stage(128, 500, memory_weight=1.0, first_rate=0.5, last_rate=0.01),
        Stage(128, 2_200, memory_weight=1.0, first_rate=0.6, last_rate=0.01, clipart_factor=2.0),
    )
    head_steps: int = 120  # of the first stage: the projection alone
    batch: int = 64
    frozen_blocks: int = 3
    learning_rate: float = 4e-4
    head_learning_rate: float = 1.5e-3
    weight_decay: float = 0.03
    warmup: int = 60
    logit_scale: float = 25.0
    max_logit_scale: float = 40.0
    pair_weight: float = 0.5
    photo_weight: float = 0.3
    photo_batch: int = 64
    averaging: float = 0.998  # decay of the moving average that is kept
    save_every: int = 100
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        return self._place(step)[0]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step as a share of the peak, 0..1."""
        stage, done = self._place(step)
        return stage.last_rate + (stage.first_rate - stage.last_rate) * 0.5 * (1 + math.cos(math.pi * done))

    def _place(self, step: int) -> tuple[Stage, float]:
        """Find the stage of a step, and how much of it is done, 0..1."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step / stage.steps
            step -= stage.steps
        return self.stages[-1], 1.0


@dataclass
class Losses:
    """Running sums of what is printed."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, **losses: Tensor) -> None:
        """Add one step."""
        self.count += 1
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(loss)

    def report(self) -> str:
        """Return the means since the last report."""
        line = " ".join(f"{name} {total / self.count:.3f}" for name, total in self.sums.items())
        self.sums, self.count = {}, 0
        return line


def train_image_tower(workspace: Workspace, schedule: ImageSchedule) -> None:
    """Write `workspace.image_tower`: all weights of the starter; goes on from its last checkpoint."""
    if workspace.image_tower.exists():
        return
    run_workers(_train, workspace, schedule)


def _train(workspace: Workspace, schedule: ImageSchedule) -> None:
    torch.manual_seed(schedule.seed)
    trainer = Trainer(workspace, schedule)
    started, first = time.monotonic(), trainer.step
    while trainer.step < schedule.steps:
        trainer.train_step()
        if is_first() and trainer.step % 50 == 0:
            pace = (trainer.step - first) * schedule.batch * 2 / (time.monotonic() - started)
            side = schedule.stage(trainer.step).side
            print(
                f"image step {trainer.step} at {side} px {trainer.losses.report()}, {pace:.0f} pictures/s", flush=True
            )
        if trainer.step % schedule.save_every == 0:
            trainer.save()
    if is_first():
        save_file(trainer.averaged_state(), workspace.image_tower)
    distributed.barrier()


class Trainer:
    """Everything one worker holds during training."""

    def __init__(self, workspace: Workspace, schedule: ImageSchedule) -> None:
        self.workspace, self.schedule = workspace, schedule
        self.model = start_model(workspace, workspace.text_tower)
        pictures = read_pictures(workspace.pictures)
        self.rows = np.array([row for row, picture in enumerate(pictures) if picture.split == "train"])
        trained = [pictures[row] for row in self.rows]
        self.pixels = np.load(workspace.pixels, mmap_mode="r")
        self.weights = np.array(sampling_weights(trained))
        self.is_clipart = np.array([picture.style == CLIPART for picture in trained])
        self.mirrored = torch.tensor([may_be_mirrored(picture) for picture in trained])
        self.photo_rows, self.bank = training_bank(self.model, trained, workspace)
        self.backbone = SharedBackbone(self.model, workspace, frozen_blocks=schedule.frozen_blocks)
        self.photos = PhotoMemory(class_weights(workspace))
        self.log_scale = nn.Parameter(torch.tensor(math.log(schedule.logit_scale)))
        self.head = list(self.backbone.project.parameters())
        self.optimizer = self._optimizer()
        self.losses = Losses()
        self.average = {name: weight.detach().clone() for name, weight in self._trained_weights().items()}
        self.step = load_checkpoint(self._checkpoint, weights=self._all_weights(), optimizer=self.optimizer)
        seed = schedule.seed + 1000 + 2 * self.step + distributed.get_rank()
        self.chance = np.random.default_rng(seed)
        self.augment = Augmenter(torch.Generator().manual_seed(seed))

    def train_step(self) -> None:
        """One step of both workers."""
        head_only = self.step < self.schedule.head_steps
        self._set_rates()
        loss = self._loss(head_only=head_only)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients([p for group in self.optimizer.param_groups for p in group["params"]], max_norm=2.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        decay = min(self.schedule.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, weight in self._trained_weights().items():
                self.average[name].lerp_(weight, 1 - decay)

    def save(self) -> None:
        """Write a checkpoint that training can go on from, and the starter as it is now."""
        if is_first():
            save_checkpoint(self._checkpoint, step=self.step, weights=self._all_weights(), optimizer=self.optimizer)
            save_file(self.averaged_state(), self.workspace.root / "image_tower.latest.safetensors")

    def averaged_state(self) -> dict[str, Tensor]:
        """All weights of the starter, with the moving average in place of the trained ones."""
        state = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        for name, weight in self.average.items():
            state[name] = weight.contiguous()
        return state

    @property
    def _checkpoint(self) -> Path:
        return self.workspace.root / "image_tower.checkpoint.safetensors"

    def _loss(self, *, head_only: bool) -> Tensor:
        schedule, stage = self.schedule, self.schedule.stage(self.step)
        shares = self.weights * np.where(self.is_clipart, stage.clipart_factor, 1.0)
        items = self.chance.choice(len(self.rows), schedule.batch, replace=False, p=shares / shares.sum())
        tiles = torch.from_numpy(self.pixels[self.rows[items]]).permute(0, 3, 1, 2)
        views = self.augment(tiles, side=stage.side, mirrored=self.mirrored[torch.from_numpy(items)])
        views = views.contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(not head_only):
            features, remembered = self.backbone(views)
        self.photos.observe(remembered)
        scale = self.log_scale.exp().clamp(max=schedule.max_logit_scale)
        units = functional.normalize(self.backbone.project(features), dim=-1)
        bank = soft_cross_entropy(scale * units @ self.bank.embeddings.T, self.bank.targets(items))
        chosen, true_of = self.bank.sample(items, self.chance)
        pairs = pair_loss(scale * self.bank.embeddings[chosen] @ units.T, true_of)
        photos = self._photo_loss(scale)
        forgotten = self.backbone.forgetting(features, remembered)
        self.losses.add(bank=bank, pairs=pairs, photos=photos, forgotten=forgotten, scale=scale)
        return bank + schedule.pair_weight * pairs + schedule.photo_weight * photos + stage.memory_weight * forgotten

    def _photo_loss(self, scale: Tensor) -> Tensor:
        """Imagined features of photographs must be found by their class names and what these are kinds of."""
        classes = self.chance.choice(len(self.photo_rows), self.schedule.photo_batch, replace=False)
        imagined = self.photos.imagine(classes, self.augment.chance)
        units = functional.normalize(self.backbone.project(imagined), dim=-1)
        return soft_cross_entropy(scale * units @ self.bank.embeddings.T, self.bank.targets(self.photo_rows[classes]))

    def _optimizer(self) -> torch.optim.AdamW:
        schedule = self.schedule
        upper = self.backbone.trainable()
        matrices = [weight for weight in upper if weight.ndim > 1]
        vectors = [weight for weight in upper if weight.ndim <= 1]
        rate, head_rate = schedule.learning_rate, schedule.head_learning_rate
        groups = [
            {"params": matrices, "peak": rate, "weight_decay": schedule.weight_decay},
            {"params": vectors, "peak": rate, "weight_decay": 0.0},
            {"params": self.head, "peak": head_rate, "weight_decay": schedule.weight_decay},
            {"params": [self.log_scale], "peak": head_rate, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))

    def _set_rates(self) -> None:
        """Follow the stages; the backbone warms up only once the projection makes sense."""
        schedule = self.schedule
        decay = schedule.rate(self.step)
        head_warmth = min(1.0, (self.step + 1) / schedule.warmup)
        warmth = min(1.0, max(0.0, (self.step - schedule.head_steps) / schedule.warmup))
        for place, group in enumerate(self.optimizer.param_groups):
            group["lr"] = group["peak"] * decay * (warmth if place < 2 else head_warmth)

    def _trained_weights(self) -> dict[str, Tensor]:
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        weights: dict[str, Tensor] = {names[id(weight)]: weight for weight in (*self.backbone.trainable(), *self.head)}
        weights["logit_scale"] = self.log_scale
        return weights

    def _all_weights(self) -> dict[str, Tensor]:
        """Trained weights and their moving averages, as a checkpoint holds them."""
        averages = {f"average.{name}": weight for name, weight in self.average.items()}
        return {**self._trained_weights(), **averages}


def start_model(workspace: Workspace, text_tower: Path) -> open_clip.CLIP:
    """Join a trained text tower, frozen, and the packaged backbone under a fresh projection."""
    model = build_model()
    load_backbone(model, workspace)
    model.load_state_dict(load_file(text_tower), strict=False)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith("visual"))
    model.visual.to(memory_format=torch.channels_last)
    return model.eval()


def training_bank(
    model: open_clip.CLIP, pictures: list[Picture], workspace: Workspace
) -> tuple[NDArray[np.int64], TextBank]:
    """Build the bank of pictures and photo classes together; also the rows of the latter."""
    items = [picture_texts(picture) for picture in pictures]
    photo_classes = [photo_class.weighted_texts for photo_class in read_photo_classes(workspace)]
    bank = build_bank(model, [*items, *photo_classes])
    return np.arange(len(items), len(items) + len(photo_classes)), bank


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of (n, texts) logits against (n, texts) shares that sum to one."""
    return -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()


def pair_loss(logits: Tensor, true_of: Tensor) -> Tensor:
    """Text to picture within the batch, (n, n) [text, picture]; several pictures may be right."""
    scores = functional.log_softmax(logits, dim=1)
    return -(torch.where(true_of, scores, 0.0).sum(dim=1) / true_of.sum(dim=1)).mean()
