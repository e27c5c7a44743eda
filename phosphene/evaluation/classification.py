"""Zero-shot classification of pictures in a folder for each class, as ImageNet's validation set is laid out.

The protocol is that of the OpenCLIP tables: each class is named by the mean of its sentences' unit embeddings, and a
picture belongs to the class whose name is nearest (Radford et al. 2021, arXiv 2103.00020, section 3.1). Folders of all
1,000 WordNet ids get OpenCLIP's names and 80 sentences of ImageNet; other folders are classes by their own names.
`--labels` and `--templates` say otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phosphene.encoders import Encoder, PromptTemplates, imagenet_prompts
from phosphene.errors import InvalidInput
from phosphene.evaluation.ranking import mean_interval
from phosphene.nomatch.curves import Interval
from phosphene.nomatch.logistic import Integers
from phosphene.types import Float32

_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif"})
_WORDNET = re.compile(r"n\d{8}")
_WORST = 10


@dataclass(frozen=True, slots=True)
class LabelledFolder:
    """Classes in the order of their folders' names, their labels, and the files: each with its class."""

    folders: tuple[str, ...]
    labels: tuple[str, ...]
    files: tuple[Path, ...]
    classes: tuple[int, ...]
    templates: PromptTemplates


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class went."""

    label: str
    pictures: int
    accuracy: float  # share whose first guess is right
    mistaken_for: str | None  # the label that wrong guesses name most often


@dataclass(frozen=True, slots=True)
class ZeroShotReport:
    """Accuracy of the first guess and of the first five, and of the first averaged over classes; each 0..1."""

    pictures: int
    classes: int
    accuracy_at_1: Interval
    accuracy_at_5: Interval
    mean_per_class: Interval  # over classes
    worst: tuple[ClassScore, ...]


def read_folder(folder: Path, *, labels: Path | None = None, templates: Path | None = None) -> LabelledFolder:
    """List a folder with a folder of pictures for each class. Raises InvalidInput.

    `labels`: a JSON object or lines of folder name and label, or a list of labels in the order of the folders' names.
    `templates`: lines of sentences with {} where the label goes.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder with a folder of pictures for each class")
    folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files, classes = [], []
    for number, name in enumerate(folders):
        found = sorted(file for file in (folder / name).rglob("*") if file.suffix.lower() in _SUFFIXES)
        files += found
        classes += [number] * len(found)
    if len(set(classes)) < 2:
        raise InvalidInput(f"{folder} needs two folders with pictures at least: one for each class, named after it")
    imagenet = imagenet_prompts() if len(folders) == 1000 and all(map(_WORDNET.fullmatch, folders)) else None
    named = _labels(folders, labels) if labels is not None else (imagenet[0] if imagenet else _plain(folders))
    if templates is not None:
        sentences = PromptTemplates(tuple(line for line in read_text(templates).splitlines() if line.strip()))
    else:
        sentences = PromptTemplates(imagenet[1]) if imagenet else PromptTemplates()
    return LabelledFolder(tuple(folders), tuple(named), tuple(files), tuple(classes), sentences)


def _plain(folders: Sequence[str]) -> list[str]:
    return [" ".join(name.replace("_", " ").replace("-", " ").split()) for name in folders]


def _labels(folders: Sequence[str], path: Path) -> list[str]:
    text = read_text(path)
    if text.lstrip().startswith(("{", "[")):
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InvalidInput(f"labels {path}: {error}") from error
    else:  # ImageNet's LOC_synset_mapping.txt: n01440764 tench, Tinca tinca
        content = dict(line.split(None, 1) for line in text.splitlines() if len(line.split(None, 1)) == 2)
    if isinstance(content, Mapping):
        missing = [name for name in folders if not isinstance(content.get(name), str)]
        if missing:
            raise InvalidInput(f"labels {path}: none for the folder {missing[0]!r}")
        return [content[name].split(",")[0].strip() for name in folders]
    if len(content) != len(folders) or not all(isinstance(label, str) for label in content):
        raise InvalidInput(f"labels {path}: {len(content)} labels for {len(folders)} folders")
    return list(content)


def read_text(path: Path) -> str:
    """Read a file of lines. Raises InvalidInput."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def class_rows(folder: LabelledFolder, *, encoder: Encoder) -> Float32:
    """Embed the labels in their sentences: (classes, d) float32 of length 1."""
    return folder.templates.embed(folder.labels, encoder=encoder).rows


def score_classes(pictures: Float32, classes: Integers, names: Float32, labels: Sequence[str]) -> ZeroShotReport:
    """Score picture rows (n, d) of classes (n,) against the rows of the classes' names (c, d), all of length 1."""
    guesses = np.argsort(-(pictures @ names.T), axis=1, kind="stable")[:, :5]
    first = guesses[:, 0] == classes
    among = (guesses == classes[:, None]).any(axis=1)
    scores = []
    for number in np.unique(classes):
        mine = classes == number
        wrong = guesses[mine & ~first, 0]
        mistaken = labels[int(np.bincount(wrong).argmax())] if len(wrong) else None
        scores.append(ClassScore(labels[number], int(mine.sum()), float(first[mine].mean()), mistaken))
    return ZeroShotReport(
        pictures=len(pictures),
        classes=len(names),
        accuracy_at_1=mean_interval(first.astype(np.float64)),
        accuracy_at_5=mean_interval(among.astype(np.float64)),
        mean_per_class=mean_interval(np.array([score.accuracy for score in scores])),
        worst=tuple(sorted(scores, key=lambda score: score.accuracy)[:_WORST]),
    )
