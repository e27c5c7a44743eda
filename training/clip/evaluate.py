"""Measure a starter folder on what it never saw, through open_clip's ordinary loading path."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from training.clip.demo import shown_title
from training.clip.golden import report_golden
from training.clip.picture import read_pictures
from training.clip.render import Renderer, on_white
from training.clip.scores import Retrieval, score_retrieval
from training.clip.starter import BATCH, Starter
from training.clip.translations import LANGUAGES, emoji_texts
from training.clip.wordnet import english_lemmas
from training.clip.workspace import STARTER, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.clip.picture import Picture

HELD_OUT_CLIPART = 700
MAX_TITLE_USES = 5
_KEYWORD = re.compile(r"[a-z ]{3,20}")
_PHOTOGRAPHS = Path(__file__).with_name("photographs.json")
_RENDER_SIDE = 256


@dataclass(frozen=True)
class Gallery:
    """Pictures with their embeddings, in one order."""

    pictures: list[Picture]
    embeddings: Tensor

    def take(self, rows: Sequence[int]) -> Gallery:
        """Keep some of the pictures."""
        return Gallery([self.pictures[row] for row in rows], self.embeddings[list(rows)])


class Evaluation:
    """All figures of the model card."""

    def __init__(self, starter: Starter, workspace: Workspace) -> None:
        self.starter, self.workspace = starter, workspace
        self.renderer = Renderer(workspace.root, max_side=_RENDER_SIDE)
        self.pictures = read_pictures(workspace.pictures)

    def run(self) -> dict[str, object]:
        """Measure everything; the keys are those of the JSON report."""
        openmoji = self.gallery([picture for picture in self.pictures if picture.split == "openmoji"])
        noto = self.gallery([picture for picture in self.pictures if picture.style == "noto"])
        demo = self.gallery([picture for picture in self.pictures if picture.split == "demo"])
        held_out = demo.take(held_out_rows(demo.pictures, seed=0))
        others = [demo.take(held_out_rows(demo.pictures, seed=seed)) for seed in (1, 2)]
        english = english_lemmas(self.workspace.wordnet)
        return {
            "openmoji_by_name": self.by_name(openmoji, flags=False).report(),
            "openmoji_by_name_with_flags": self.by_name(openmoji, flags=True).report(),
            "openmoji_by_name_in_other_languages": {
                language: self.by_translated_name(openmoji, language).report() for language in LANGUAGES
            },
            "clipart_by_title": self.by_title(held_out).report(),
            "clipart_by_title_other_samples": [self.by_title(gallery).report() for gallery in others],
            "clipart_by_keyword": self.by_keyword(held_out).report(),
            "clipart_by_keyword_other_samples": [self.by_keyword(gallery).report() for gallery in others],
            "clipart_by_english_title": self.by_title(held_out, vocabulary=english).report(),
            "demo_by_title": self.by_title(demo).report(),
            "openmoji_to_noto": same_concept(openmoji, noto).report(),
            "photographs": self.photographs(),
            "speed": self.speed(),
        }

    def validation(self) -> dict[str, object]:
        """Measure the figures to tune by: clip art of the validation split only."""
        gallery = self.gallery([picture for picture in self.pictures if picture.split == "validation"])
        return {
            "validation_by_title": self.by_title(gallery).report(),
            "validation_by_keyword": self.by_keyword(gallery).report(),
        }

    def gallery(self, pictures: list[Picture]) -> Gallery:
        """Render pictures as a catalogue would hold them, margins and all, and embed them."""
        images = (on_white(self.renderer.render(picture)) for picture in pictures)
        parts, batch = [], []
        for image in images:
            batch.append(image)
            if len(batch) == BATCH:
                parts.append(self.starter.embed_images(batch))
                batch = []
        if batch:
            parts.append(self.starter.embed_images(batch))
        return Gallery(pictures, torch.cat(parts))

    def by_name(self, gallery: Gallery, *, flags: bool) -> Retrieval:
        """Each CLDR name must find its own picture."""
        names = {row: picture.label for row, picture in enumerate(gallery.pictures) if flags or not picture.is_flag}
        return self._each_its_own(names, gallery)

    def by_translated_name(self, gallery: Gallery, language: str) -> Retrieval:
        """Each CLDR name in another language must find its own picture; flags are not asked."""
        texts = emoji_texts(self.workspace, language)
        codes = {
            row: picture.concept.removeprefix("emoji:")
            for row, picture in enumerate(gallery.pictures)
            if not picture.is_flag
        }
        return self._each_its_own({row: texts[code][0] for row, code in codes.items() if texts.get(code)}, gallery)

    def _each_its_own(self, queries: dict[int, str], gallery: Gallery) -> Retrieval:
        """Each text must find the picture in the row of the gallery that it stands for."""
        rows = list(queries)
        relevant = torch.zeros(len(rows), len(gallery.pictures), dtype=torch.bool)
        relevant[torch.arange(len(rows)), torch.tensor(rows)] = True
        return score_retrieval(self.starter.embed_texts(list(queries.values())) @ gallery.embeddings.T, relevant)

    def by_title(self, gallery: Gallery, *, vocabulary: set[str] | None = None) -> Retrieval:
        """Each title that at most MAX_TITLE_USES pictures share must find one; all its words in `vocabulary`.

        Titles are those that the catalogue shows.
        """
        titles = [shown_title(picture.label).lower() for picture in gallery.pictures]
        uses = Counter(titles)
        asked = [title for title in titles if uses[title] <= MAX_TITLE_USES and re.search("[a-z]", title)]
        if vocabulary is not None:
            asked = [title for title in asked if set(re.findall("[a-z]+", title)) <= vocabulary]
        relevant = torch.tensor([[title == query for title in titles] for query in asked])
        return score_retrieval(self.starter.embed_texts(asked) @ gallery.embeddings.T, relevant)

    def by_keyword(self, gallery: Gallery) -> Retrieval:
        """Each keyword that 3 to 60 pictures carry must find one of them."""
        carriers: dict[str, list[int]] = defaultdict(list)
        for row, picture in enumerate(gallery.pictures):
            for keyword in set(picture.keywords):
                if _KEYWORD.fullmatch(keyword):
                    carriers[keyword].append(row)
        asked = sorted(keyword for keyword, rows in carriers.items() if 3 <= len(rows) <= 60)
        relevant = torch.zeros(len(asked), len(gallery.pictures), dtype=torch.bool)
        for query, keyword in enumerate(asked):
            relevant[query, carriers[keyword]] = True
        return score_retrieval(self.starter.embed_texts(asked) @ gallery.embeddings.T, relevant)

    def photographs(self) -> dict[str, object]:
        """Name each unseen photograph among twenty everyday categories."""
        categories = cast("dict[str, list[str]]", json.loads(_PHOTOGRAPHS.read_text(encoding="utf-8")))
        names = list(categories)
        texts = self.starter.embed_texts([f"a photo of a {name}" for name in names] + names)
        classes = functional.normalize(texts[: len(names)] + texts[len(names) :], dim=-1)
        by_category = {}
        wrong = []
        for place, name in enumerate(names):
            images = [on_white(Image.open(self._photograph(path))) for path in categories[name]]
            answers = (self.starter.embed_images(images) @ classes.T).argmax(dim=1).tolist()
            by_category[name] = sum(answer == place for answer in answers) / len(answers)
            wrong += [f"{path} as {names[a]}" for path, a in zip(categories[name], answers, strict=True) if a != place]
        count = sum(len(paths) for paths in categories.values())
        return {
            "photographs": count,
            "categories": len(names),
            "right_percent": round(100 * (1 - len(wrong) / count), 1),
            "mean_over_categories_percent": round(100 * float(np.mean(list(by_category.values()))), 1),
            "by_category": {name: round(100 * share) for name, share in by_category.items()},
            "wrong": wrong,
        }

    def speed(self) -> dict[str, float]:
        """Time loading, and the image tower on one thread, on decoded pictures and on ready tensors."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        images = [Image.new("RGB", (_RENDER_SIDE, _RENDER_SIDE), (shade, 90, 160)) for shade in range(BATCH)]
        self.starter.embed_images(images[:8])
        started = time.perf_counter()
        self.starter.embed_images(images)
        elapsed = time.perf_counter() - started
        torch.set_num_threads(threads)
        return {
            "load_s": round(self.starter.load_s, 2),
            "megabytes": round(self.starter.megabytes, 1),
            "pictures_a_second_one_thread": round(BATCH / elapsed, 1),
        }

    def _photograph(self, path: str) -> Path:
        if path.startswith("skimage:"):
            from importlib.resources import files

            return Path(str(files("skimage") / "data" / f"{path.removeprefix('skimage:')}.png"))
        return self.workspace.stamps / f"{path}.png"


def held_out_rows(pictures: Sequence[Picture], *, seed: int) -> list[int]:
    """Rows of HELD_OUT_CLIPART pictures in whole look-alike groups, or a few more to complete the last group."""
    groups = sorted({picture.group for picture in pictures})
    np.random.default_rng(seed).shuffle(groups)
    rows: list[int] = []
    for group in groups:
        if len(rows) >= HELD_OUT_CLIPART:
            break
        rows += [row for row, picture in enumerate(pictures) if picture.group == group]
    return sorted(rows)


def same_concept(queries: Gallery, gallery: Gallery) -> Retrieval:
    """Each picture must find the picture of the same concept in another style; flags are not asked."""
    places = {picture.concept: place for place, picture in enumerate(gallery.pictures)}
    rows = [row for row, picture in enumerate(queries.pictures) if picture.concept in places and not picture.is_flag]
    relevant = torch.zeros(len(rows), len(gallery.pictures), dtype=torch.bool)
    for query, row in enumerate(rows):
        relevant[query, places[queries.pictures[row].concept]] = True
    return score_retrieval(queries.embeddings[rows] @ gallery.embeddings.T, relevant)


def print_report(report: dict[str, object]) -> None:
    """One line a figure, for people."""
    for name, value in report.items():
        shown = json.dumps(value, ensure_ascii=False)
        print(f"{name:36s} {shown}")


def main() -> None:
    """`python -m training.clip.evaluate --data training-data --json figures.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("training-data"), help="the recipe's work folder")
    parser.add_argument("--model", type=Path, default=STARTER / "clip", help="an open_clip folder")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--validation", action="store_true", help="only the split to tune by")
    arguments = parser.parse_args()
    evaluation = Evaluation(Starter.load(arguments.model), Workspace(arguments.data.resolve()))
    report = evaluation.validation() if arguments.validation else evaluation.run()
    if not arguments.validation:
        report["golden_queries"] = report_golden(arguments.model, STARTER / "demo")
    print_report(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
