"""Train the projection anew on cached features: many more samples than the backbone could be given."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from training.clip.bank import TextBank
from training.clip.clipart import STYLE as CLIPART
from training.clip.features import FeatureCache, blended_state
from training.clip.image_tower import start_model, training_bank
from training.clip.imagenet import class_weights
from training.clip.model import EMBEDDING, build_model
from training.clip.photos import PhotoMemory
from training.clip.picture import read_pictures
from training.clip.targets import sampling_weights
from training.clip.workspace import Workspace

_MIN_DEVIATION = 0.02


@dataclass(frozen=True)
class HeadSchedule:
    """What the projection is trained with; chosen on the validation clip art."""

    steps: int = 1_500
    batch: int = 768
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.3
    noise: float = 0.1  # in standard deviations of each feature
    logit_scale: float = 30.0
    softness: float = 30.0  # the higher, the fewer texts count as meaning the same
    clipart_factor: float = 3.0  # how much more often clip art is drawn than when the backbone learned
    photo_weight: float = 0.3
    photo_batch: int = 128
    seed: int = 0


class Projection(nn.Module):
    """open_clip's two-layer projection on features brought to mean 0 and deviation 1."""

    def __init__(self, features: NDArray[np.float32], dropout: float) -> None:
        """Take the statistics from (n, features) float32."""
        super().__init__()
        self.mean = torch.from_numpy(features.mean(axis=0))
        self.deviation = torch.from_numpy(features.std(axis=0)).clamp(min=_MIN_DEVIATION)
        width = features.shape[1]
        self.drop = nn.Dropout(dropout)
        self.first = nn.Linear(width, 2 * EMBEDDING)
        self.second = nn.Linear(2 * EMBEDDING, EMBEDDING, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(n, features) float32 -> unit embeddings (n, EMBEDDING) float32."""
        hidden = functional.gelu(self.first(self.drop((features - self.mean) / self.deviation)))
        return functional.normalize(self.second(self.drop(hidden)), dim=-1)

    def open_clip_state(self) -> dict[str, Tensor]:
        """Return the same function as open_clip's `mlp` projection, which does not standardise."""
        first = self.first.weight.detach() / self.deviation
        return {
            "visual.head.mlp.fc1.weight": first,
            "visual.head.mlp.fc1.bias": self.first.bias.detach() - first @ self.mean,
            "visual.head.mlp.fc2.weight": self.second.weight.detach().clone(),
        }


class StudentSpace:
    """Carries imagined photographs from the untouched backbone's feature space to the fine-tuned one's."""

    def __init__(self, packaged: NDArray[np.float32], student: NDArray[np.float32], *, ridge: float = 0.1) -> None:
        """Fit student from packaged features, both (n, features) float32, by ridge regression."""
        self._packaged_mean, self._student_mean = packaged.mean(axis=0), student.mean(axis=0)
        centred = packaged - self._packaged_mean
        covariance = centred.T @ centred / len(centred)
        cross = centred.T @ (student - self._student_mean) / len(centred)
        penalty = ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance), dtype=np.float32)
        self._map = torch.from_numpy(np.linalg.solve(covariance + penalty, cross).astype(np.float32))

    def carry(self, features: Tensor) -> Tensor:
        """(n, features) float32 in both spaces."""
        moved = (features - torch.from_numpy(self._packaged_mean)) @ self._map
        return (moved + torch.from_numpy(self._student_mean)).clamp(min=0)


def train_head(workspace: Workspace, schedule: HeadSchedule) -> None:
    """Write `workspace.starter`: all weights of the finished starter."""
    if workspace.starter.exists():
        return
    cache = FeatureCache.load(workspace.features)
    pictures = [picture for picture in read_pictures(workspace.pictures) if picture.split == "train"]
    model = start_model(workspace, workspace.multilingual_text_tower)
    photo_rows, bank = training_bank(model, pictures, workspace)
    factors = np.array([schedule.clipart_factor if picture.style == CLIPART else 1.0 for picture in pictures])
    shares = np.array(sampling_weights(pictures)) * factors
    projection = fit_projection(
        cache,
        bank,
        photo_rows=photo_rows,
        shares=shares / shares.sum(),
        classes=class_weights(workspace),
        schedule=schedule,
    )
    state = {name: tensor for name, tensor in blended_state(workspace).items() if not name.startswith("visual.head")}
    state |= load_file(workspace.multilingual_text_tower)
    state |= projection.open_clip_state()
    state["logit_scale"] = torch.tensor(math.log(schedule.logit_scale))
    build_model(projection="mlp").load_state_dict(state)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, workspace.starter)


def fit_projection(
    cache: FeatureCache,
    bank: TextBank,
    *,
    photo_rows: NDArray[np.int64],
    shares: NDArray[np.float64],
    classes: Tensor,
    schedule: HeadSchedule,
) -> Projection:
    """Train a projection; `shares` (n,) says how often each picture is drawn, `classes` are the classifier's rows."""
    torch.manual_seed(schedule.seed)
    chance = np.random.default_rng(schedule.seed)
    packaged = cache.packaged.astype(np.float32)
    space = StudentSpace(packaged, cache.student[0].astype(np.float32))
    photos = PhotoMemory(classes)
    photos.observe(torch.from_numpy(packaged))
    projection = Projection(cache.student[0].astype(np.float32), schedule.dropout)
    optimizer = torch.optim.AdamW(
        projection.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.steps)
    generator = torch.Generator().manual_seed(schedule.seed)
    started = time.monotonic()
    for step in range(schedule.steps):
        items = chance.choice(len(shares), schedule.batch, replace=False, p=shares)
        views = chance.integers(0, len(cache.student), schedule.batch)
        seen = torch.from_numpy(cache.student[views, items].astype(np.float32))
        seen = seen + schedule.noise * projection.deviation * torch.randn(seen.shape, generator=generator)
        imagined = chance.choice(len(photo_rows), schedule.photo_batch, replace=False)
        units = projection(torch.cat([seen, space.carry(photos.imagine(imagined, generator))]))
        chosen, _ = bank.sample(np.concatenate([items, photo_rows[imagined]]), chance)
        weights = torch.ones(len(units))
        weights[schedule.batch :] = schedule.photo_weight
        loss = matching_loss(units, bank.embeddings[chosen], weights, schedule)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
        if (step + 1) % 100 == 0:
            pace = (step + 1) / (time.monotonic() - started)
            print(f"head step {step + 1} loss {float(loss.detach()):.3f}, {pace:.1f} steps/s", flush=True)
    return projection.eval()


def matching_loss(pictures: Tensor, texts: Tensor, weights: Tensor, schedule: HeadSchedule) -> Tensor:
    """Match pictures and texts, both (n, d) float32 unit, in both directions; texts of like meaning share a hit."""
    shares = functional.softmax(schedule.softness * texts @ texts.T, dim=1)
    logits = schedule.logit_scale * pictures @ texts.T
    losses = -(shares * functional.log_softmax(logits, dim=1)).sum(dim=1)
    losses = losses - (shares * functional.log_softmax(logits.T, dim=1)).sum(dim=1)
    return (losses * weights).sum() / weights.sum()
