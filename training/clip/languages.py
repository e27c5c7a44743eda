"""Teach the text tower words of other languages: each means what the English names of the same emoji mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed
from torch.nn import functional

from training.clip.corpus import own_texts
from training.clip.model import tokenize
from training.clip.text_tower import Lessons, TextSchedule, build_text_model, distil
from training.clip.translations import foreign_words, is_foreign, read_translations
from training.clip.workers import is_first, run_workers

if TYPE_CHECKING:
    from training.clip.workspace import Workspace


@dataclass(frozen=True)
class LanguageSchedule(TextSchedule):
    """As for English, from where that ended."""

    steps: int = 900
    learning_rate: float = 7e-4
    token_learning_rate: float = 4e-4
    warmup: int = 30
    translation_weight: float = 5.0
    seed: int = 1


def train_languages(workspace: Workspace, schedule: LanguageSchedule) -> None:
    """Write `workspace.multilingual_text_tower`; English goes on being trained beside."""
    if workspace.multilingual_text_tower.exists():
        return
    run_workers(_train, workspace, schedule)


def _train(workspace: Workspace, schedule: LanguageSchedule) -> None:
    torch.manual_seed(schedule.seed)
    model = build_text_model()
    model.load_state_dict(load_file(workspace.text_tower))
    lessons = multilingual_lessons(workspace, schedule)
    distil(model, lessons, schedule, checkpoint=workspace.root / "languages.checkpoint.safetensors")
    if is_first():
        save_file(model.state_dict(), workspace.multilingual_text_tower)
    distributed.barrier()


def multilingual_lessons(workspace: Workspace, schedule: LanguageSchedule) -> Lessons:
    """English as before, without titles the English teacher cannot read, and the translations."""
    english = workspace.corpus.read_text(encoding="utf-8").splitlines()
    targets = torch.from_numpy(np.load(workspace.teacher)["texts"].astype(np.float32))
    translations = read_translations(workspace)
    foreign = foreign_words(translations, workspace)
    weights = np.ones(len(english))
    weights[: len(own_texts(workspace))] = schedule.own_text_weight
    weights[[text in translations or is_foreign(text, foreign) for text in english]] = 0.0
    rows = {text: row for row, text in enumerate(english)}
    meant = torch.stack([mean_target([rows[name] for name in names], targets) for names in translations.values()])
    print(f"{len(translations)} texts of other languages, {int((weights == 0).sum())} titles unread", flush=True)
    return Lessons(
        tokens=torch.cat([tokenize(english), tokenize(list(translations))]),
        targets=torch.cat([targets, meant]),
        weights=np.concatenate([weights, np.full(len(translations), schedule.translation_weight)]),
    )


def mean_target(rows: list[int], targets: Tensor) -> Tensor:
    """Return the direction between some unit targets (n, d): (d,) of length one."""
    return functional.normalize(targets[rows].mean(dim=0), dim=0)
