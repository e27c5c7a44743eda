"""The Open Clip Art Library 0.18: pictures, their metadata, and what of it may be shown or trained on."""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from training.clip.picture import Picture

if TYPE_CHECKING:
    from training.clip.workspace import Workspace

STYLE = "clipart"
MAX_TITLE_USES = 8  # a title that more pictures share is a series name, not a title
_SKIPPED_FOLDERS = {"special/patterns", "special/gradients", "special/examples", "unsorted/duplicates"}
_JUNK = re.compile(
    r"hash\(|clip ?art|\bsvg\b|contrib|unknown|untitled|remix|submission|sibmission|upload|"
    r"public domain|open ?clip|^\W*$|^image|externalsource|^drawing|^layer|inkscape|sodipodi|\bsimple \w+ icon",
    re.IGNORECASE,
)
_AUTHORS_IN_NAMES = re.compile(
    r"\b(archite?\w*|francois|arc|nicu|nicubunu|buculei|gerald|jean|victor|balin|ganson|yves|guillou|clip|art|"
    r"jonathan|dietrich|momar|mariano|lopez|ryan|lerch|jarno|vasamaa|mcol|michele|johnny|automatic|bryan|nielsen|"
    r"valessiobrito|liftarn|rygle|papapishu|warszawianka|molumen|secretlondon|matthew|gates|svg|png|kevin|"
    r"stephen|greg|bridges|erihu|tom|pitr|redondo|joao|daniel|gustavo|rezende|lineart|fda|usda)\b",
    re.IGNORECASE,
)
_TITLE_NOISE = re.compile(r"\(.*?\)|\bby\b.*$|clip ?art( by \w+ \w+)?( -)?|[_]+|\.svg|\barchite?\w*\b", re.IGNORECASE)
_METADATA = re.compile(r"<metadata.*?</metadata>", re.DOTALL)
_TITLE = re.compile(r"<dc:title[^>]*>([^<]*)")
_KEYWORD = re.compile(r"<rdf:li[^>]*>([^<]*)")
_CREATOR = re.compile(r"<dc:creator.*?<dc:title>([^<]*)", re.DOTALL)
_DATE = re.compile(r"<dc:date>([^<]*)")
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")


@dataclass(frozen=True)
class SvgMetadata:
    """The Dublin Core block of an SVG file, as its author left it."""

    title: str = ""
    keywords: tuple[str, ...] = ()
    creator: str = ""
    year: int | None = None


def read_clipart(workspace: Workspace) -> list[Picture]:
    """Every picture of the library that is no pattern and no known duplicate, all in the split `train`."""
    root = workspace.clipart / "png"
    pictures = []
    for path in sorted(root.rglob("*.png")):
        relative = path.relative_to(root)
        if path.is_symlink() or relative.parent.as_posix() in _SKIPPED_FOLDERS:
            continue
        pictures.append(_read_picture(path, relative, workspace))
    uses = Counter(picture.label for picture in pictures)
    return [_named_by_file(picture) if uses[picture.label] > MAX_TITLE_USES else picture for picture in pictures]


def read_metadata(svg: Path) -> SvgMetadata:
    """Parse title, keywords, creator and year; a missing file or block gives empty fields."""
    if not svg.exists():
        return SvgMetadata()
    block = _METADATA.search(svg.read_bytes().decode("utf-8", errors="ignore"))
    if block is None:
        return SvgMetadata()
    text = block.group(0)
    year = _YEAR.search(_first(_DATE, text))
    return SvgMetadata(
        title=_first(_TITLE, text),
        keywords=tuple(html.unescape(word).strip() for word in _KEYWORD.findall(text)),
        creator=html.unescape(_first(_CREATOR, text)).strip(),
        year=int(year.group(1)) if year else None,
    )


def file_words(path: str) -> str:
    """Return what the file name says, without numbers and authors' names."""
    words = re.sub(r"[-_]+", " ", Path(path).stem)
    words = _AUTHORS_IN_NAMES.sub(" ", re.sub(r"\d+|\b[a-zA-Z]\b", " ", words))
    return " ".join(words.split()).lower()


def _read_picture(path: Path, relative: Path, workspace: Workspace) -> Picture:
    metadata = read_metadata((workspace.clipart / "svg" / relative).with_suffix(".svg"))
    categories = tuple(part.replace("_", " ") for part in relative.parent.parts if part not in {"unsorted", "special"})
    title = _clean(metadata.title)
    if len(title) <= 2 or _JUNK.search(title):
        title = file_words(relative.name)
    return Picture(
        style=STYLE,
        concept=f"clipart:{relative.as_posix()}",
        label=title,
        keywords=_clean_keywords(metadata, title),
        categories=categories,
        source=str(path.relative_to(workspace.root)),
        licence="Public Domain",
        split="train",
        creator=metadata.creator,
        year=metadata.year,
    )


def _named_by_file(picture: Picture) -> Picture:
    return replace(picture, label=file_words(picture.source) or picture.label)


def _clean_keywords(metadata: SvgMetadata, title: str) -> tuple[str, ...]:
    keywords: dict[str, None] = {}
    for raw in metadata.keywords:
        word = _clean(raw)
        is_author = word in metadata.creator.lower()
        if 2 < len(word) < 30 and not _JUNK.search(word) and word != title and not is_author:
            keywords[word] = None
    return tuple(keywords)[:10]


def _clean(text: str) -> str:
    text = _TITLE_NOISE.sub(" ", html.unescape(text))
    text = re.sub(r"[\d#]+\b", " ", text)
    text = re.sub(r"[^\w\s'-]", " ", text)
    return " ".join(text.split()).strip(" -'").lower()


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group(1) if match else ""
