"""Decide which clip art is trained on, which tunes the recipe, and which is the demo catalogue."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.clip.picture import Picture, Split

DEMO_PICTURES = 1_120
VALIDATION_PICTURES = 400
MAX_HELD_OUT_GROUP = 6
SEED = 1

_DEMO_FOLDERS = {
    "animals",
    "buildings",
    "computer",
    "containers",
    "decorations",
    "education",
    "electronics",
    "food",
    "geography",
    "office",
    "people",
    "plants",
    "recreation",
    "science",
    "tools",
    "transportation",
}
_EXCLUDED_FOLDERS = {
    "religion",
    "weapons",
    "flags",
    "buttons",
    "folders",
    "icons",
    "diagrams",
    "connectors",
    "roadsigns",
    "aiga-symbols",
    "disability",
    "hazard",
}
_UNFIT = re.compile(
    r"\b(gun|guns|rifle|pistol|revolver|weapon|sword|knife|bomb|grenade|bullet|dagger|axe|tank|missile|war|army|soldier|"
    r"military|dead|death|kill|blood|skull|skeleton|devil|demon|hell|satan|sexy|nude|naked|bikini|pinup|penis|breast|"
    r"nipple|underwear|lingerie|bra|panties|drug|cannabis|marijuana|cigarette|smoking|smoke|cigar|beer|wine|whisky|"
    r"god|jesus|christ|christian|church|cross|crucifix|bible|buddha|allah|islam|muslim|mosque|jew|jewish|menorah|"
    r"hindu|om|priest|pope|nun|angel|religion|religious|flag|flags|communis\w*|hitler|nazi|swastika|politic\w*|"
    r"president|bush|obama|lenin|stalin|guevara|mao|tux|linux|gnu|debian|ubuntu|firefox|logo|president|einstein|"
    r"portrait|indian|native|eskimo|gypsy|terrorist|torture|hang|hanging|toilet|poop|fart|condom|drunk|stupid|map|mapa)\b"
)


def assign_splits(clipart: Sequence[Picture]) -> list[Picture]:
    """Take whole look-alike groups out of training, first for the demo, then for validation.

    The demo takes only what anyone may see (SFW, no flags, weapons, politics or religion); validation and training
    take the rest as it comes.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, picture in enumerate(clipart):
        members[picture.group].append(index)
    order = sorted(members)
    random.Random(SEED).shuffle(order)
    splits: dict[int, Split] = {}
    taken = {"demo": 0, "validation": 0}
    for group in order:
        size = len(members[group])
        if size > MAX_HELD_OUT_GROUP:
            continue
        fit = all(_is_fit_for_demo(clipart[index]) for index in members[group])
        if fit and taken["demo"] < DEMO_PICTURES:
            splits[group] = "demo"
            taken["demo"] += size
        elif taken["validation"] < VALIDATION_PICTURES and taken["demo"] >= DEMO_PICTURES:
            splits[group] = "validation"
            taken["validation"] += size
    return [replace(picture, split=splits.get(picture.group, "train")) for picture in clipart]


def _is_fit_for_demo(picture: Picture) -> bool:
    folders = set(picture.categories)
    words = " ".join((picture.label, *picture.keywords, picture.source.rsplit("/", 1)[-1].replace("_", " "))).lower()
    return (
        bool(folders & _DEMO_FOLDERS)
        and not folders & _EXCLUDED_FOLDERS
        and not _UNFIT.search(words)
        and re.search(r"[a-z]{3}", picture.label) is not None
    )
