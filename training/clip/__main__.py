"""Make the starter from nothing: `python -m training.clip --data training-data`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from training.clip.contact_sheet import draw_contact_sheet
from training.clip.corpus import assemble_corpus
from training.clip.demo import pack_demo
from training.clip.download import download
from training.clip.export import export_starter
from training.clip.features import cache_features
from training.clip.head import HeadSchedule, train_head
from training.clip.image_tower import ImageSchedule, train_image_tower
from training.clip.languages import LanguageSchedule, train_languages
from training.clip.pictures import assemble_pictures
from training.clip.teacher import ask_teacher
from training.clip.text_tower import TextSchedule, train_text_tower
from training.clip.workspace import STARTER, Workspace

Step = Callable[[Workspace], None]


def steps(target: Path) -> dict[str, Step]:
    """Every step by name, in order; each leaves alone what an earlier run has finished."""
    return {
        "download": download,
        "pictures": assemble_pictures,
        "corpus": assemble_corpus,
        "teacher": ask_teacher,
        "text": lambda workspace: train_text_tower(workspace, TextSchedule()),
        "image": lambda workspace: train_image_tower(workspace, ImageSchedule()),
        "languages": lambda workspace: train_languages(workspace, LanguageSchedule()),
        "features": cache_features,
        "head": lambda workspace: train_head(workspace, HeadSchedule()),
        "export": lambda workspace: export_starter(workspace.starter, target / "clip"),
        "demo": lambda workspace: pack_demo(workspace, target / "demo" / "catalogue.tar"),
        "sheet": lambda _: draw_contact_sheet(target),
    }


def main() -> None:
    """Run all steps, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m training.clip", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("training-data"), help="work folder, about 5 GB")
    parser.add_argument("--target", type=Path, default=STARTER, help="where the starter and its demo are written")
    parser.add_argument("steps", nargs="*", help="only these steps; all if none is named")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.data.resolve())
    workspace.root.mkdir(parents=True, exist_ok=True)
    available = steps(arguments.target)
    unknown = sorted(set(arguments.steps) - set(available))
    if unknown:
        parser.error(f"no such step: {', '.join(unknown)}; there are {', '.join(available)}")
    for name, step in available.items():
        if arguments.steps and name not in arguments.steps:
            continue
        started = time.monotonic()
        step(workspace)
        print(f"{name}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
