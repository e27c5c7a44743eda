"""Pack the demo catalogue: held-out public-domain clip art as one WebDataset tar."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from training.clip.picture import read_pictures
from training.clip.render import Renderer, on_white
from training.clip.workspace import STARTER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.clip.picture import Picture
    from training.clip.workspace import Workspace

DEMO = STARTER / "demo" / "catalogue.tar"
MAX_SIDE = 512
_SHARP_ENOUGH = 400  # pixels; smaller bitmaps are drawn again from their SVG
_SAME_DRAWING = 0.9  # correlation of two renderings in grey
_QUALITY = 82
_TIMESTAMP = 1_735_689_600  # 2025-01-01, so that the tar is the same each time
_JUNK_KEYWORDS = {"unsorted", "hash", "appicon", "0x8863bcc", "contour", "externalsource", "computersym", "networksym"}
_AUTHORS_IN_TITLES = re.compile(r"\b(zazou|aj|md|wt|rollandin|francesco|benji|ganson|sek|peterm|v)\b\.?")
# Taken out after looking at every picture: weapons, real people, brands, and what some would rather not meet.
_EXCLUDED = (
    "a-man-singing-01", "adult-astrid-graebe", "bach-ganson", "beethoveo-ganson",
    "breakdance-julian", "brozo-the-clown", "chav-01", "chomper-charles-mccolm-01", "crossbones",
    "elfish-girl-mo1", "emule-icon-emule-org-01", "enthusiast", "evel-knievel", "evolution-steps-marcelo-01",
    "female-rollandin", "future-beckham", "gallows-frouke-01", "grandpa-01", "handel-ganson", "hummer",
    "insecticide", "jacob-leisler", "jazz-enrique", "nunchaku", "packman", "pacman", "pantyhose", "pimp-hat", "silvia",
    "soviet-shuttle", "stripper", "sunwheel", "cartoon-vgcats", "saku-robot", "us-capitol", "a-boy-plays",
    "a-happy-boy", "old-folks" )  # fmt: skip
_NO_CREATOR = re.compile(r"public domain|open ?clip ?art|unknown|https?:|^\W*$|anonym", re.IGNORECASE)


@dataclass(frozen=True)
class DemoEntry:
    """One member pair of the tar: NAME.webp and NAME.json."""

    name: str
    picture: Picture

    @property
    def metadata(self) -> dict[str, object]:
        """What the catalogue shows and filters by; fields the author left empty are absent."""
        picture = self.picture
        fields: dict[str, object] = {
            "title": shown_title(picture.label),
            "keywords": [keyword for keyword in picture.keywords if keyword not in _JUNK_KEYWORDS],
            "category": picture.categories[0],
            "licence": picture.licence,
            "source": "Open Clip Art Library 0.18",
        }
        if len(picture.categories) > 1:
            fields["subcategory"] = picture.categories[-1]
        if not _NO_CREATOR.search(picture.creator):
            fields["creator"] = picture.creator
        if picture.year is not None:
            fields["year"] = picture.year
        return fields


def demo_entries(workspace: Workspace) -> Iterator[DemoEntry]:
    """Yield the demo's pictures under stable, readable names, in the order of the library."""
    taken: set[str] = set()
    for picture in read_pictures(workspace.pictures):
        if picture.split != "demo":
            continue
        stem = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(picture.source).stem.lower()).strip("-")[:48] or "picture"
        name, copy = stem, 2
        while name in taken:
            name, copy = f"{stem}-{copy}", copy + 1
        taken.add(name)
        if not name.startswith(_EXCLUDED):
            yield DemoEntry(name, picture)


def pack_demo(workspace: Workspace, target: Path = DEMO) -> None:
    """Write the tar; nothing in it depends on the time or the machine."""
    renderer = Renderer(workspace.root, max_side=MAX_SIDE)
    target.parent.mkdir(parents=True, exist_ok=True)
    packed: set[bytes] = set()
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in demo_entries(workspace):
            data = _webp(_sharpest(entry.picture, renderer, workspace))
            if data in packed:
                continue
            packed.add(data)
            _add(tar, f"{entry.name}.webp", data)
            metadata = json.dumps(entry.metadata, ensure_ascii=False, indent=1)
            _add(tar, f"{entry.name}.json", metadata.encode("utf-8"))
    target.chmod(0o644)
    print(f"{len(packed)} pictures, {target.stat().st_size / 1e6:.1f} MB in {target.name}")


def _sharpest(picture: Picture, renderer: Renderer, workspace: Workspace) -> Image.Image:
    """Take the library's bitmap, or where that is small its SVG, provided both show the same."""
    bitmap = on_white(renderer.render(picture))
    if max(bitmap.size) < _SHARP_ENOUGH:
        svg = (workspace.root / picture.source.replace("/png/", "/svg/")).with_suffix(".svg")
        try:
            drawn = on_white(renderer.render_svg(svg))
        except (OSError, ValueError):
            drawn = bitmap
        if _correlation(bitmap, drawn) > _SAME_DRAWING:
            bitmap = drawn
    bitmap.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return bitmap


def _correlation(first: Image.Image, second: Image.Image) -> float:
    grey, other = (
        np.asarray(image.convert("L").resize((24, 24)), dtype=np.float64).ravel() for image in (first, second)
    )
    if np.ptp(grey) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(grey, other)[0, 1])


def shown_title(label: str) -> str:
    """Return the label without what is left of authors' names, with a capital."""
    title = " ".join(_AUTHORS_IN_TITLES.sub(" ", label).split()).strip(" -") or label
    return title[:1].upper() + title[1:]


def _webp(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY, method=6)
    return data.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), _TIMESTAMP, 0o644
    tar.addfile(member, io.BytesIO(data))
