"""Which texts a picture should be found by, and how strongly."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

from training.clip.clipart import STYLE as CLIPART
from training.clip.clipart import file_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.clip.picture import Picture

_MIN_TEXT = 3
_BIG_GROUP = 6
_MIRRORED = re.compile(
    r"\b(left|right|arrow|clock|o.clock|thirty|flag|button|letter|text|sign|number|map|input|keycap)\b"
)
_STYLE_WEIGHTS = {
    "game-icons": 0.3,
    "ph": 0.25,
    "healthicons": 0.25,
    "fluent-color": 0.4,
    "flat-color-icons": 0.4,
    "streamline-ultimate-color": 0.7,
    "streamline-freehand-color": 0.6,
    "fluent-emoji-high-contrast": 0.7,
}


def picture_texts(picture: Picture) -> list[tuple[str, float]]:
    """Texts and weights: the name first, keywords sharing about as much, the category a little."""
    texts = [(picture.label, 1.0)]
    if picture.style == CLIPART:
        words = file_words(picture.source)
        if len(words) >= _MIN_TEXT and words != picture.label:
            texts.append((words, 0.4))
        texts += [(keyword, 0.6 / len(picture.keywords)) for keyword in picture.keywords]
        texts += [(category, 0.12) for category in picture.categories if len(category) >= _MIN_TEXT]
    else:
        texts += [(keyword, 0.5 / len(picture.keywords)) for keyword in picture.keywords]
        texts += [(category, 0.08) for category in picture.categories[1:]]
    return [(text, weight) for text, weight in texts if text]


def sampling_weights(pictures: Sequence[Picture]) -> list[float]:
    """How often each picture is drawn: few flags, few copies, fewer of the plain icon sets."""
    group_sizes = Counter(picture.group for picture in pictures if picture.group >= 0)
    return [_sampling_weight(picture, group_sizes) for picture in pictures]


def may_be_mirrored(picture: Picture) -> bool:
    """Arrows, clocks and letters mean something else in a mirror."""
    return not picture.is_flag and _MIRRORED.search(picture.label) is None


def _sampling_weight(picture: Picture, group_sizes: Counter[int]) -> float:
    if picture.is_flag:
        return 0.04
    if picture.style == CLIPART:
        size = group_sizes[picture.group]
        return 1.3 if size <= _BIG_GROUP else 1.3 * math.sqrt(_BIG_GROUP / size)
    weight = _STYLE_WEIGHTS.get(picture.style, 1.2)
    return weight * (0.5 if picture.categories[0] in {"people & body", "symbols"} else 1.0)
