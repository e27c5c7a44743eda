"""First step: read every source, render it once, split the clip art, and write the picture list."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from training.clip import clipart, emoji
from training.clip.lookalikes import group_lookalikes
from training.clip.picture import write_pictures
from training.clip.render import Renderer, render_tiles
from training.clip.splits import assign_splits

if TYPE_CHECKING:
    from training.clip.workspace import Workspace


def assemble_pictures(workspace: Workspace) -> None:
    """Write `workspace.pixels` and `workspace.pictures`, in one order."""
    if workspace.pictures.exists():
        return
    sources = [
        *emoji.training_emoji(workspace),
        *emoji.training_icons(workspace),
        *emoji.openmoji(workspace),
        *clipart.read_clipart(workspace),
    ]
    pictures = render_tiles(sources, Renderer(workspace.root), workspace.pixels)
    tiles = np.load(workspace.pixels, mmap_mode="r")
    rows = [row for row, picture in enumerate(pictures) if picture.style == clipart.STYLE]
    grouped = assign_splits(group_lookalikes([pictures[row] for row in rows], tiles[rows]))
    for row, picture in zip(rows, grouped, strict=True):
        pictures[row] = picture
    write_pictures(workspace.pictures, pictures)
    for (style, split), count in sorted(Counter((p.style, p.split) for p in pictures).items()):
        print(f"{style:28s} {split:10s} {count:6d}")
