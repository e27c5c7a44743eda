"""Steps `prior`, `autoregressive_prior`, `decoder`, `decoder_longer`, `super_resolution`: each trains one network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from phosphene.unclip.starter_layout import StarterNetworks
from training.clip.workers import WORKERS, run_workers
from training.unclip.album import Album
from training.unclip.autoregressive_prior import (
    AutoregressiveLesson,
    AutoregressivePrior,
    fresh_autoregressive_prior,
)
from training.unclip.fit import Crew, Lesson, fit
from training.unclip.lessons import DecoderLesson, PriorLesson, SuperResolutionLesson
from training.unclip.recipe import Plan, Recipe
from training.unclip.workspace import UnclipWorkspace

TRAINED = ("prior", "autoregressive_prior", "decoder", "decoder_longer", "super_resolution")  # in this order
_STARTS_FROM = {"decoder_longer": "decoder"}  # with its weights, a fresh optimizer and a learning rate that rises again


def train_network(name: str, workspace: UnclipWorkspace, recipe: Recipe, *, workers: int) -> None:
    """Train one of TRAINED and write its averaged weights; an earlier run's are left alone."""
    if _weights(name, workspace).exists():
        return
    if not workspace.embeddings.exists():
        raise FileNotFoundError(f"{workspace.embeddings} is missing: run the step `embeddings` first")
    if workers == WORKERS:
        run_workers(_train_as_worker, name, workspace, recipe)
    else:
        torch.set_num_threads(1)
        _train(name, workspace, recipe, Crew())


def load_trained(workspace: UnclipWorkspace, recipe: Recipe) -> StarterNetworks:
    """Give the networks of the layout with their averaged weights."""
    networks = _fresh(Album.load(workspace), recipe)
    last: dict[str, Any] = {
        "prior": networks.prior,
        "decoder_longer": networks.decoder,
        "super_resolution": networks.super_resolution,
    }
    for name, network in last.items():
        network.load_state_dict(load_file(_weights(name, workspace)))
        network.eval()
    return networks


def load_autoregressive_prior(workspace: UnclipWorkspace, recipe: Recipe) -> AutoregressivePrior:
    """Give the autoregressive prior with its averaged weights."""
    prior = fresh_autoregressive_prior(Album.load(workspace), recipe.autoregressive_shape, seed=recipe.seed)
    prior.load_state_dict(load_file(workspace.autoregressive_prior))
    return prior.eval()


def lesson_of(name: str, album: Album, recipe: Recipe) -> Lesson:
    """Build an untrained network, the same each time, and what it is taught."""
    if name == "autoregressive_prior":
        return AutoregressiveLesson(
            album, fresh_autoregressive_prior(album, recipe.autoregressive_shape, seed=recipe.seed)
        )
    lessons: dict[str, Callable[[Album, StarterNetworks], Lesson]] = {
        "prior": PriorLesson,
        "decoder": DecoderLesson,
        "decoder_longer": DecoderLesson,
        "super_resolution": SuperResolutionLesson,
    }
    return lessons[name](album, _fresh(album, recipe))


def _train_as_worker(name: str, workspace: UnclipWorkspace, recipe: Recipe) -> None:
    _train(name, workspace, recipe, Crew.of_workers())


def _train(name: str, workspace: UnclipWorkspace, recipe: Recipe, crew: Crew) -> None:
    lesson = lesson_of(name, Album.load(workspace), recipe)
    if name in _STARTS_FROM:
        lesson.network.load_state_dict(load_file(_weights(_STARTS_FROM[name], workspace)))
    if crew.rank == 0:
        size = sum(weight.numel() for weight in lesson.network.parameters() if weight.requires_grad)
        print(f"{name}: {size / 1e6:.2f} M parameters", flush=True)
    plan: Plan = getattr(recipe, name)
    fit(name, lesson, plan, target=_weights(name, workspace), crew=crew)


def _fresh(album: Album, recipe: Recipe) -> StarterNetworks:
    torch.manual_seed(recipe.seed)
    mean, std = album.cache.whitening()
    return StarterNetworks.fresh(recipe.shape, mean=mean, std=std)


def _weights(name: str, workspace: UnclipWorkspace) -> Path:
    path: Path = getattr(workspace, name)
    return path
