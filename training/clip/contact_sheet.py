"""One picture of what the starter finds in the demo catalogue, failures included."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont

from training.clip.evaluate import Starter

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

HITS = 5
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


@dataclass(frozen=True)
class DemoCatalogue:
    """The pictures of the tar with their names and embeddings, in one order."""

    names: list[str]
    images: list[Image.Image]
    embeddings: Tensor

    @classmethod
    def read(cls, path: Path, starter: Starter) -> DemoCatalogue:
        """Embed every picture of a tar."""
        names, images = [], []
        with tarfile.open(path) as tar:
            for member in tar:
                data = tar.extractfile(member)
                if member.name.endswith(".webp") and data is not None:
                    names.append(member.name)
                    images.append(Image.open(io.BytesIO(data.read())).convert("RGB"))
        return cls(names, images, starter.embed_images(images))

    def search(self, query: Tensor, limit: int) -> list[tuple[int, float]]:
        """Rows and cosines of the nearest pictures to a unit embedding (d,) float32."""
        scores, rows = (self.embeddings @ query).topk(limit)
        return list(zip(rows.tolist(), scores.tolist(), strict=True))


def score_golden(catalogue: DemoCatalogue, starter: Starter, golden: Path) -> dict[str, object]:
    """Share of hand-checked queries with a right picture first, and the share of right ones among the first five."""
    asked = [json.loads(line) for line in golden.read_text(encoding="utf-8").splitlines()]
    embeddings = starter.embed_texts([entry["query"] for entry in asked])
    first, precision, failed = [], [], []
    for entry, embedding in zip(asked, embeddings, strict=True):
        names = [catalogue.names[row] for row, _ in catalogue.search(embedding, 10)]
        right = [name in entry["relevant"] for name in names]
        first.append(float(right[0]))
        precision.append(sum(right[:HITS]) / min(HITS, len(entry["relevant"])))
        if not any(right):
            failed.append(entry["query"])
    return {
        "queries": len(asked),
        "right_first_percent": round(100 * sum(first) / len(first), 1),
        "right_among_first_five_percent": round(100 * sum(precision) / len(precision), 1),
        "recall_at_10_percent": round(100 * (1 - len(failed) / len(asked)), 1),
        "nothing_right_among_ten": failed,
    }


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
