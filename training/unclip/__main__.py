"""Make the starter's unCLIP: `python -m training.unclip --data training-data`, after `python -m training.clip`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from phosphene.encoders import load_encoder
from training.clip.download import download
from training.clip.pictures import assemble_pictures
from training.clip.workers import WORKERS
from training.clip.workspace import Workspace
from training.unclip.arguments import arguments_parser, workspace_of
from training.unclip.embeddings import CLIP_MODEL, embed_training_set
from training.unclip.export import export_networks
from training.unclip.recipe import FULL, PILOT, Recipe
from training.unclip.train import TRAINED, load_trained, train_network
from training.unclip.workspace import TARGET, UnclipWorkspace

Step = Callable[[], None]


def steps(workspace: UnclipWorkspace, recipe: Recipe, *, target: Path, workers: int) -> dict[str, Step]:
    """Every step by name, in order; each leaves alone what an earlier run has finished."""
    return {
        "pictures": lambda: _find_pictures(workspace.clip),
        "embeddings": lambda: embed_training_set(workspace, recipe, workers=workers),
        **{name: partial(train_network, name, workspace, recipe, workers=workers) for name in TRAINED},
        "export": lambda: export_networks(load_trained(workspace, recipe), target, space=workspace.space),
    }


def main() -> None:
    """Run all steps, or those that are named."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--target", type=Path, default=TARGET, help="where the weights are written")
    parser.add_argument("--workers", type=int, choices=(1, WORKERS), default=WORKERS, help="processes of one thread")
    parser.add_argument("steps", nargs="*", help="only these steps; all if none is named")
    arguments = parser.parse_args()
    if arguments.pilot and arguments.target == TARGET:
        parser.error("a pilot is not to be shipped: give it a --target of its own")
    workspace = workspace_of(arguments, space=load_encoder(CLIP_MODEL, threads=1).space.id)
    workspace.root.mkdir(parents=True, exist_ok=True)
    recipe = PILOT if arguments.pilot else FULL
    available = steps(workspace, recipe, target=arguments.target, workers=arguments.workers)
    unknown = sorted(set(arguments.steps) - set(available))
    if unknown:
        parser.error(f"no such step: {', '.join(unknown)}; there are {', '.join(available)}")
    for name, step in available.items():
        if arguments.steps and name not in arguments.steps:
            continue
        started = time.monotonic()
        step()
        print(f"{name}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


def _find_pictures(workspace: Workspace) -> None:
    """Take the pixel cache of the CLIP recipe, or make it as that recipe does."""
    if workspace.pictures.exists() and workspace.pixels.exists():
        return
    workspace.root.mkdir(parents=True, exist_ok=True)
    download(workspace)
    assemble_pictures(workspace)


if __name__ == "__main__":
    main()
