"""The demo catalogue and its hand-checked queries."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from training.clip.starter import Starter

HITS = 5


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


def report_golden(model: Path, demo: Path) -> dict[str, object]:
    """Score the golden queries of the demo folder with a model folder."""
    starter = Starter.load(model)
    catalogue = DemoCatalogue.read(demo / "catalogue.tar", starter)
    return score_golden(catalogue, starter, demo / "golden.jsonl")
