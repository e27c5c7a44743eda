"""One picture with its words, as every step of the recipe reads and writes it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Split = Literal["train", "validation", "demo", "openmoji"]


@dataclass(frozen=True)
class Picture:
    """A picture that can be rendered again from `source`, and the words that go with it."""

    style: str
    concept: str
    label: str
    keywords: tuple[str, ...]
    categories: tuple[str, ...]
    source: str  # an SVG document, or a path relative to the workspace
    licence: str
    split: Split
    creator: str = ""
    year: int | None = None
    group: int = -1  # look-alikes of a style share a number, and a split

    @property
    def is_flag(self) -> bool:
        """Flags are many, alike, and of little use to learn from."""
        return self.categories[:1] == ("flags",)


def write_pictures(path: Path, pictures: Iterable[Picture]) -> None:
    """Write one JSON line for each picture."""
    with path.open("w", encoding="utf-8") as lines:
        for picture in pictures:
            lines.write(json.dumps(asdict(picture), ensure_ascii=False) + "\n")


def read_pictures(path: Path) -> list[Picture]:
    """Read what `write_pictures` wrote; the order is that of the pixel cache."""
    return [_from_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _from_json(line: str) -> Picture:
    fields = json.loads(line)
    for name in ("keywords", "categories"):
        fields[name] = tuple(fields[name])
    return Picture(**fields)
