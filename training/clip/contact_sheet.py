"""One picture of what the starter finds in the demo catalogue, failures included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont

from training.clip.golden import HITS, DemoCatalogue
from training.clip.starter import Starter

if TYPE_CHECKING:
    from pathlib import Path


_TILE = 104  # pixels
_LINE = 16
_QUERIES = (
    "dog",
    "sailing ship",
    "birthday",
    "musical instrument",
    "something to drink",
    "fruit",
    "ice cream",
    "flower",
    "bird of prey",
    "insect",
    "wild cat with stripes",
    "vehicle with two wheels",
    "a house in the snow",
    "christmas",
    "love",
    "tool for cutting paper",
    "person reading a book",
    "red flower",
    "old computer",
    "blue car",
    "breakfast",
    "winter sport",
    "wedding",
    "moon",
)


def draw_contact_sheet(starter_folder: Path) -> None:
    """Write `contact_sheet.png` beside the weights: 24 queries with their first five hits and cosines."""
    torch.set_num_threads(1)
    starter = Starter.load(starter_folder / "clip")
    catalogue = DemoCatalogue.read(starter_folder / "demo" / "catalogue.tar", starter)
    columns, width, height = 2, HITS * _TILE + 12, _TILE + _LINE
    rows = -(-len(_QUERIES) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for place, (query, embedding) in enumerate(zip(_QUERIES, starter.embed_texts(_QUERIES), strict=True)):
        left, top = place % columns * width, place // columns * height
        draw.text((left + 4, top), query, fill="black", font=font)
        for rank, (row, score) in enumerate(catalogue.search(embedding, HITS)):
            tile = catalogue.images[row].copy()
            tile.thumbnail((_TILE - 6, _TILE - 6))
            sheet.paste(tile, (left + rank * _TILE + 4, top + _LINE))
            draw.text((left + rank * _TILE + 4, top + height - 14), f"{score:.2f}", fill="#c03020", font=font)
    target = starter_folder / "clip" / "contact_sheet.png"
    sheet.quantize(128).save(target, optimize=True)
    print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB")
