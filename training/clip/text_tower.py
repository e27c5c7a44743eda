"""Distil the sentence encoder into a small CLIP text transformer."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, distributed
from torch.nn import Identity, functional

from training.clip.checkpoint import load_checkpoint, save_checkpoint
from training.clip.corpus import own_texts
from training.clip.model import build_model, embed_all_tokens, embed_tokens, tokenize
from training.clip.workers import average_gradients, is_first, run_workers

if TYPE_CHECKING:
    from pathlib import Path

    import open_clip
    from numpy.typing import NDArray

    from training.clip.workspace import Workspace


@dataclass(frozen=True)
class TextSchedule:
    """Steps count both workers together; one step sees `2 * batch` texts."""

    steps: int = 600
    batch: int = 768
    learning_rate: float = 1.2e-3
    token_learning_rate: float = 4e-4
    warmup: int = 60
    own_text_weight: float = 4.0
    validation_texts: int = 2_000
    seed: int = 0


def train_text_tower(workspace: Workspace, schedule: TextSchedule) -> None:
    """Write `workspace.text_tower`."""
    if workspace.text_tower.exists():
        return
    run_workers(_train_english, workspace, schedule)


def _train_english(workspace: Workspace, schedule: TextSchedule) -> None:
    torch.manual_seed(schedule.seed)
    texts = workspace.corpus.read_text(encoding="utf-8").splitlines()
    teacher = np.load(workspace.teacher)
    weights = np.ones(len(texts))
    weights[: len(own_texts(workspace))] = schedule.own_text_weight
    lessons = Lessons(tokenize(texts), torch.from_numpy(teacher["texts"].astype(np.float32)), weights)
    model = build_text_model()
    # Unit rows times 0.5 have a deviation near 0.03, open_clip's usual start.
    model.token_embedding.weight.data.copy_(torch.from_numpy(teacher["tokens"].astype(np.float32)) * 0.5)
    distil(model, lessons, schedule, checkpoint=workspace.root / "text_tower.checkpoint.safetensors")
    if is_first():
        save_file(model.state_dict(), workspace.text_tower)
    distributed.barrier()


@dataclass(frozen=True)
class Lessons:
    """Texts as tokens (n, CONTEXT_LENGTH), their unit targets (n, d) float32, and how often each is drawn, (n,)."""

    tokens: Tensor
    targets: Tensor
    weights: NDArray[np.float64]


def build_text_model() -> open_clip.CLIP:
    """Return a fresh text tower without a picture's."""
    model = build_model()
    model.visual = Identity()
    model.logit_scale.requires_grad_(requires_grad=False)
    return model


def distil(model: open_clip.CLIP, lessons: Lessons, schedule: TextSchedule, *, checkpoint: Path) -> None:
    """Train the text tower on its lessons, in two workers; goes on from the checkpoint."""
    token_table = [model.token_embedding.weight]
    others = [weight for name, weight in model.named_parameters() if weight.requires_grad and "token_emb" not in name]
    optimizer = torch.optim.AdamW(
        [
            {"params": token_table, "lr": schedule.token_learning_rate, "weight_decay": 0.0},
            {"params": others, "lr": schedule.learning_rate, "weight_decay": 0.01},
        ],
        betas=(0.9, 0.98),
    )
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    first = load_checkpoint(checkpoint, weights=trained, optimizer=optimizer)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(first + step, schedule))
    validation, batches = _batches(lessons, first=first, schedule=schedule)
    started = time.monotonic()
    for step in range(first, schedule.steps):
        rows = torch.from_numpy(next(batches))
        loss = distillation_loss(_embed(model, lessons.tokens[rows]), lessons.targets[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients([*token_table, *others], max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        rates.step()
        if is_first() and (step % 100 == 0 or step == schedule.steps - 1):
            seen = embed_all_tokens(model, lessons.tokens[validation])
            cosine = (seen * lessons.targets[validation]).sum(dim=1).mean()
            pace = (step + 1 - first) / (time.monotonic() - started)
            print(f"text step {step} loss {loss:.3f} validation cosine {cosine:.3f}, {pace:.2f} steps/s", flush=True)
            save_checkpoint(checkpoint, step=step + 1, weights=trained, optimizer=optimizer)


def distillation_loss(embeddings: Tensor, targets: Tensor) -> Tensor:
    """4 (1 - cosine) plus half an InfoNCE over the batch; equal texts are no negatives of each other."""
    cosine = (embeddings * targets).sum(dim=1).mean()
    twins = (targets @ targets.T > 0.995) & ~torch.eye(len(targets), dtype=torch.bool)
    logits = (embeddings @ targets.T / 0.05).masked_fill(twins, -1e4)
    return 4 * (1 - cosine) + 0.5 * functional.cross_entropy(logits, torch.arange(len(targets)))


def _embed(model: torch.nn.Module, tokens: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return embed_tokens(model, tokens).float()


def _rate(step: int, schedule: TextSchedule) -> float:
    warm = min(1.0, (step + 1) / schedule.warmup)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / schedule.steps)))


def _batches(lessons: Lessons, *, first: int, schedule: TextSchedule) -> tuple[Tensor, TextBatches]:
    """Rows held out for validation, and this worker's endless batches of rows."""
    order = np.random.default_rng(schedule.seed).permutation(len(lessons.tokens))
    validation, training = order[: schedule.validation_texts], order[schedule.validation_texts :]
    lengths = (lessons.tokens != 0).sum(dim=1).numpy()
    seed = schedule.seed + 100 + 2 * first + distributed.get_rank()
    batches = TextBatches(training, lessons.weights[training], lengths, schedule.batch, seed)
    return torch.from_numpy(validation), batches


class TextBatches:
    """Endless random batches whose texts have about the same length, so that little padding is computed."""

    def __init__(
        self, rows: NDArray[np.int64], weights: NDArray[np.float64], lengths: NDArray[np.int64], batch: int, seed: int
    ) -> None:
        self._rows, self._shares, self._lengths, self._batch = rows, weights / weights.sum(), lengths, batch
        self._chance = np.random.default_rng(seed)
        self._ready: list[NDArray[np.int64]] = []

    def __iter__(self) -> TextBatches:
        return self

    def __next__(self) -> NDArray[np.int64]:
        """Rows of the next batch, (batch,) int64."""
        if not self._ready:
            drawn = self._chance.choice(self._rows, 4 * self._batch, p=self._shares)
            by_length = drawn[np.argsort(self._lengths[drawn], kind="stable")]
            self._ready = [by_length[part * self._batch : (part + 1) * self._batch] for part in range(4)]
            self._chance.shuffle(self._ready)
        return self._ready.pop()
