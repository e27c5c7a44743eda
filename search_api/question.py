"""What is asked, from whatever edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import InvalidQuery
from phosphene.filters import Filter
from phosphene.types import AssetId

DEFAULT_LIMIT = 24
MAX_LIMIT = 100
MAX_TEXT = 2_000  # characters; models read some 30 to 100 words and leave out the rest

Numbers = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SearchQuery:
    """One question: exactly one of text, image, asset_id and vector.

    `image` is the bytes of a picture file, `vector` is (d,) numbers of any length but 0, in the space of the engine.
    `prior_search`: a text that finds no match is asked again with the embedding that the prior predicts for it.
    """

    text: str | None = None
    image: bytes | None = None
    asset_id: AssetId | None = None
    vector: Numbers | None = None
    filter: Filter | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    prior_search: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no question. Raises InvalidQuery."""
        if sum(part is not None for part in (self.text, self.image, self.asset_id, self.vector)) != 1:
            raise InvalidQuery("ask with exactly one of text, image, asset_id and vector")
        if not 1 <= self.limit <= MAX_LIMIT:
            msg = f"limit is 1 to {MAX_LIMIT}, not {self.limit}"
            raise InvalidQuery(msg)
        if self.prior_search and self.text is None:
            raise InvalidQuery("prior_search is for questions in words: the prior expects what a text looks like")


def normalised_text(text: str) -> str:
    """Collapse white space. Raises InvalidQuery for text that is empty or much too long."""
    words = " ".join(text.split())
    if not words:
        raise InvalidQuery("the text is empty: describe the picture in a few words")
    if len(words) > MAX_TEXT:
        msg = f"the text has {len(words)} characters, {MAX_TEXT} are allowed: models read a sentence or two"
        raise InvalidQuery(msg)
    return words
