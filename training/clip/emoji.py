"""Emoji sets with CLDR names and keywords, and icon sets whose file names say what they show."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.clip.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.clip.workspace import Workspace

EMOJI_SETS = {
    "noto": "Apache-2.0",
    "noto-v1": "Apache-2.0",
    "fxemoji": "Apache-2.0",
    "fluent-emoji": "MIT",
    "fluent-emoji-flat": "MIT",
    "fluent-emoji-high-contrast": "MIT",
    "twemoji": "CC-BY-4.0",
    "emojione": "CC-BY-4.0",
}
ICON_SETS = {
    "flat-color-icons": "MIT",
    "fluent-color": "MIT",
    "healthicons": "MIT",
    "ph": "MIT",
    "game-icons": "CC-BY-3.0",
    "streamline-emojis": "CC-BY-4.0",
    "streamline-freehand-color": "CC-BY-4.0",
    "streamline-ultimate-color": "CC-BY-4.0",
}
_SKIPPED_ICONS = re.compile(
    r"(-(outline|24px|bold|light|thin|outline-24px|negative)$)|logo|arrow|chevron|^(number|letter|align|text)-"
)
_ICON_SUFFIXES = re.compile(r"(-(fill|duotone|\d+|bold|s))+$")
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{body}</svg>'
)


@dataclass(frozen=True)
class EmojiConcept:
    """What Unicode's CLDR says of one emoji, skin tones aside."""

    code: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str


def read_concepts(workspace: Workspace) -> dict[str, EmojiConcept]:
    """All emoji by code; a code is lower-case hex without variation selectors."""
    folder = workspace.npm / "emojibase-data" / "en"
    messages = _read_json(folder / "messages.json")
    groups = {entry["order"]: entry["message"] for entry in messages["groups"]}
    subgroups = {entry["order"]: entry["message"] for entry in messages["subgroups"]}
    concepts = {}
    for entry in _read_json(folder / "data.json"):
        if "group" not in entry or groups[entry["group"]] == "components":
            continue
        name = entry["label"].lower()
        keywords = tuple(tag.lower() for tag in entry.get("tags", ()) if tag.lower() != name and len(tag) > 1)
        code = plain_code(entry["hexcode"])
        group, subgroup = groups[entry["group"]], subgroups[entry["subgroup"]]
        concepts[code] = EmojiConcept(code, name, keywords, group, subgroup.replace("-", " "))
    return concepts


def training_emoji(workspace: Workspace) -> Iterator[Picture]:
    """Every emoji of every set that may be trained on."""
    concepts = read_concepts(workspace)
    for style, licence in EMOJI_SETS.items():
        folder = workspace.npm / "@iconify-json" / style
        for code, document in _emoji_documents(folder, concepts).items():
            yield _emoji_picture(concepts[code], style, licence, document)
    for path in sorted((workspace.npm / "@lobehub/fluent-emoji-3d/assets").glob("*.webp")):
        concept = concepts.get(plain_code(path.stem))
        if concept is not None:
            yield _emoji_picture(concept, "fluent-emoji-3d", "MIT", str(path.relative_to(workspace.root)))


def openmoji(workspace: Workspace) -> Iterator[Picture]:
    """Yield the style that is never trained on; Noto's pictures are among `training_emoji`."""
    concepts = read_concepts(workspace)
    folder = workspace.npm / "openmoji"
    for entry in _read_json(folder / "data" / "openmoji.json"):
        path = folder / "color" / "svg" / f"{entry['hexcode']}.svg"
        concept = concepts.get(plain_code(entry["hexcode"]))
        if entry["skintone"] or concept is None or not path.exists():
            continue
        yield _emoji_picture(concept, "openmoji", "CC-BY-SA-4.0", str(path.relative_to(workspace.root)))


def training_icons(workspace: Workspace) -> Iterator[Picture]:
    """Icons whose names are concepts: rarely beautiful, but thousands of things no emoji shows."""
    for style, licence in ICON_SETS.items():
        icons = _read_json(workspace.npm / "@iconify-json" / style / "icons.json")
        taken: set[tuple[str, bool]] = set()
        for name in sorted(icons["icons"], reverse=True):
            label = _ICON_SUFFIXES.sub("", name).replace("-", " ")
            variant = (label, "duotone" in name)
            if _SKIPPED_ICONS.search(name) or variant in taken or not re.fullmatch(r"[a-z][a-z ]{2,39}", label):
                continue
            taken.add(variant)
            yield Picture(
                style=style,
                concept=f"icon:{label}",
                label=label,
                keywords=(),
                categories=("icons",),
                source=_svg_document(icons, name),
                licence=licence,
                split="train",
            )


def _emoji_picture(concept: EmojiConcept, style: str, licence: str, source: str) -> Picture:
    return Picture(
        style=style,
        concept=f"emoji:{concept.code}",
        label=concept.name,
        keywords=concept.keywords,
        categories=(concept.group, concept.subgroup),
        source=source,
        licence=licence,
        split="openmoji" if style == "openmoji" else "train",
    )


def _emoji_documents(folder: Path, concepts: dict[str, EmojiConcept]) -> dict[str, str]:
    """SVG documents by emoji code; sets without a code table are matched by the CLDR name."""
    icons = _read_json(folder / "icons.json")
    code_table = folder / "chars.json"
    names: dict[str, str] = {}
    if code_table.exists() and (codes := _read_json(code_table)):
        for code, name in codes.items():
            names.setdefault(plain_code(code), name)
    else:
        by_name = {_slug(concept.name): code for code, concept in concepts.items()}
        by_name |= {_slug(concept.name).replace("-", ""): code for code, concept in concepts.items()}
        for name in [*icons["icons"], *icons.get("aliases", {})]:
            squeezed = name.replace("-", "")
            matched = by_name.get(name) or by_name.get(squeezed) or by_name.get(squeezed + "face")
            if matched:
                names.setdefault(matched, name)
    documents = {}
    for code, name in names.items():
        known = name if name in icons["icons"] else icons.get("aliases", {}).get(name, {}).get("parent")
        if code in concepts and known in icons["icons"]:
            documents[code] = _svg_document(icons, known)
    return documents


def _svg_document(icons: dict[str, Any], name: str) -> str:
    icon = icons["icons"][name]
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    body = icon["body"].replace("currentColor", "#222222")
    left, top = icon.get("left", 0), icon.get("top", 0)
    return _SVG.format(width=width, height=height, left=left, top=top, body=body)


def plain_code(code: str) -> str:
    """Return an emoji's code in lower-case hex, without leading zeros and variation selectors."""
    return "-".join(part.lstrip("0") or "0" for part in code.lower().split("-") if part != "fe0f")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("\u2019", "").replace("'", "")).strip("-")


def _read_json(path: Path) -> Any:  # noqa: ANN401 - the packages' own formats
    return json.loads(path.read_text(encoding="utf-8"))
