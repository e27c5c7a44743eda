"""Every training goes on after an interruption as if there had been none, and keeps averaged weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.training import tiny_unclip
from training.unclip.fit import AveragedWeights, Draw, Lesson, fit, rate
from training.unclip.recipe import AutoregressiveShape, Plan, Recipe
from training.unclip.train import TRAINED, lesson_of

ALBUM = tiny_unclip.album()
PLAN = Plan(steps=6, batch=4, learning_rate=1e-3, warmup=3, averaging=0.8, report_every=2, save_every=2)
RECIPE = Recipe(
    shape=tiny_unclip.SHAPE,
    autoregressive_shape=AutoregressiveShape(components=4, buckets=4, match_buckets=4, width=16, heads=2, layers=1),
)


@dataclass(frozen=True)
class Interrupted:
    """A lesson that someone stops in the middle."""

    lesson: Lesson
    at: Draw

    @property
    def network(self) -> nn.Module:
        return self.lesson.network

    def loss(self, draw: Draw, batch: int) -> Tensor:
        if draw.noise.initial_seed() == self.at.noise.initial_seed():
            raise KeyboardInterrupt
        return self.lesson.loss(draw, batch)


@pytest.mark.parametrize("name", TRAINED)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, halved = tmp_path / "whole.safetensors", tmp_path / "halved.safetensors"
    fit(name, lesson_of(name, ALBUM, RECIPE), PLAN, target=whole)
    assert f"{name} step 6 loss" in capsys.readouterr().out
    stopped = Interrupted(lesson_of(name, ALBUM, RECIPE), at=Draw.of(seed=PLAN.seed, step=3, rank=0))
    with pytest.raises(KeyboardInterrupt):
        fit(name, stopped, PLAN, target=halved)
    assert not halved.exists()
    fit(name, lesson_of(name, ALBUM, RECIPE), PLAN, target=halved)
    first, second = load_file(whole), load_file(halved)
    assert first.keys() == second.keys() == lesson_of(name, ALBUM, RECIPE).network.state_dict().keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    fresh = lesson_of(name, ALBUM, RECIPE).network.state_dict()
    assert any(not torch.equal(first[key], fresh[key]) for key in first)


def test_losses_fall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(steps=100, batch=16, learning_rate=3e-3, warmup=5, report_every=10, save_every=200)
    for name in ("prior", "autoregressive_prior"):
        fit(name, lesson_of(name, ALBUM, RECIPE), plan, target=tmp_path / f"{name}.safetensors")
        losses = [float(line.split("loss ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines()]
        assert losses[-1] < 0.8 * losses[0]


def test_averaged_weights_follow_the_formula() -> None:
    network = nn.Linear(1, 1, bias=False)
    averaged = AveragedWeights(network, decay=0.5)
    expected = float(network.weight.detach())
    for step, value in enumerate([1.0, 5.0, -2.0, 4.0, 4.0, 0.0, 1.0, 8.0, 8.0, 8.0, 8.0], start=1):
        with torch.no_grad():
            network.weight.fill_(value)
        averaged.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(averaged.average["weight"]) == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_warms_up_and_dies_away() -> None:
    plan = Plan(steps=100, batch=1, learning_rate=1.0, warmup=10)
    rates = [rate(plan, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(rates[9], rel=0.02)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.03


def test_each_step_of_each_worker_has_its_own_chance_and_always_the_same() -> None:
    seen = [Draw.of(seed=0, step=step, rank=rank) for step in range(5) for rank in range(2)]
    numbers = [(draw.numbers.random(), float(draw.uniform(1))) for draw in seen]
    assert len({number for pair in numbers for number in pair}) == 20
    again = Draw.of(seed=0, step=4, rank=1)
    assert (again.numbers.random(), float(again.uniform(1))) == numbers[-1]
