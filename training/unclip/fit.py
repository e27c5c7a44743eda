"""The loop that all four networks are trained by: averaged weights, checkpoints, the same pictures in the same order.

All chance of a step comes from its number, so a training that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

from training.clip.checkpoint import load_checkpoint, save_checkpoint
from training.clip.workers import WORKERS, average_gradients
from training.unclip.recipe import Plan

_LEAST_RATE = 0.02  # of the learning rate, at the end


@dataclass(frozen=True)
class Draw:
    """All chance of one step of one worker."""

    numbers: np.random.Generator
    noise: torch.Generator

    @classmethod
    def of(cls, *, seed: int, step: int, rank: int) -> Self:
        """Start both sources afresh."""
        root = np.random.SeedSequence([seed, step, rank])
        numbers, noise = root.spawn(2)
        return cls(np.random.default_rng(numbers), torch.Generator().manual_seed(int(noise.generate_state(1)[0])))

    def gaussian(self, like: Tensor) -> Tensor:
        """Draw standard normal numbers in the shape of a float32 tensor."""
        return torch.randn(like.shape, generator=self.noise)

    def uniform(self, *shape: int) -> Tensor:
        """Draw numbers in 0..1."""
        return torch.rand(*shape, generator=self.noise)

    def integers(self, high: int, count: int) -> Tensor:
        """Draw int64 numbers 0..high-1, (count,)."""
        return torch.randint(0, high, (count,), generator=self.noise)


class Lesson(Protocol):
    """A network and what it is taught."""

    @property
    def network(self) -> nn.Module:
        """What is trained: its parameters that require gradients."""

    def loss(self, draw: Draw, batch: int) -> Tensor:
        """Say how wrong the network is on a batch: a scalar."""


@dataclass(frozen=True)
class Crew:
    """Who trains together: each member has its own batch, gradients are averaged."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of_workers(cls) -> Self:
        """Give the place of this process among those of `run_workers`."""
        return cls(distributed.get_rank(), WORKERS)

    def share_gradients(self, parameters: Sequence[nn.Parameter], *, max_norm: float) -> None:
        """Average gradients over the crew and clip them to `max_norm` in total."""
        if self.size > 1:
            average_gradients(parameters, max_norm=max_norm)
        else:
            nn.utils.clip_grad_norm_(parameters, max_norm)


class AveragedWeights:
    """An exponential moving average of the trained weights; young averages forget faster, so that the start fades."""

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self._decay = decay
        self._trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self.average = {name: weight.detach().clone() for name, weight in self._trained.items()}

    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, weight in self._trained.items():
                self.average[name].lerp_(weight, 1 - decay)

    def checkpointed(self) -> dict[str, Tensor]:
        """Name trained weights and averages as a checkpoint holds them."""
        averages = {f"average.{name}": weight for name, weight in self.average.items()}
        return {**self._trained, **averages}


def rate(plan: Plan, step: int) -> float:
    """Learning rate of a step: a straight warm-up, then half a cosine down to almost nothing."""
    warmth = min(1.0, (step + 1) / plan.warmup)
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / plan.steps)
    return plan.learning_rate * warmth * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


def fit(name: str, lesson: Lesson, plan: Plan, *, target: Path, crew: Crew | None = None) -> None:
    """Train and write the averaged state of the network to `target`; goes on from the checkpoint beside it."""
    crew = crew or Crew()
    trained = [weight for weight in lesson.network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    averaged = AveragedWeights(lesson.network, decay=plan.averaging)
    checkpoint = target.with_suffix(".checkpoint.safetensors")
    first = load_checkpoint(checkpoint, weights=averaged.checkpointed(), optimizer=optimizer)
    report = _Report(name, plan, first=first, crew=crew)
    for step in range(first, plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(plan, step)
        loss = lesson.loss(Draw.of(seed=plan.seed, step=step, rank=crew.rank), plan.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        crew.share_gradients(trained, max_norm=plan.max_norm)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update(step + 1)
        report.add(step + 1, float(loss.detach()))
        if crew.rank == 0 and (step + 1) % plan.save_every == 0:
            save_checkpoint(checkpoint, step=step + 1, weights=averaged.checkpointed(), optimizer=optimizer)
    if crew.rank == 0:
        state = {**lesson.network.state_dict(), **averaged.average}
        partial = target.with_suffix(".partial")
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, partial)
        partial.replace(target)


class _Report:
    """Prints the mean loss, pace and minutes left, from the first worker only."""

    def __init__(self, name: str, plan: Plan, *, first: int, crew: Crew) -> None:
        self._name, self._plan, self._crew, self._first = name, plan, crew, first
        self._losses: list[float] = []
        self._started = time.monotonic()

    def add(self, step: int, loss: float) -> None:
        """Take in the loss of a step; `step` counts from 1."""
        self._losses.append(loss)
        if self._crew.rank != 0 or (step % self._plan.report_every and step != self._plan.steps):
            return
        seconds = (time.monotonic() - self._started) / (step - self._first)
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        samples = self._plan.batch * self._crew.size / seconds
        left = (self._plan.steps - step) * seconds / 60
        print(f"{self._name} step {step} loss {mean:.4f}, {samples:.0f} samples/s, {left:.0f} minutes left", flush=True)
