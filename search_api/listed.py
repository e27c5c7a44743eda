"""The list that a question gets, by the picture alone or with words looked up; and what can be in it at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from phosphene.catalog.records import Asset
from phosphene.filters import Filter
from phosphene.nomatch.evidence import HEAD
from phosphene.types import AssetId
from phosphene.vectors.base import ScoredPoint, VectorIndex, asset_of
from phosphene.words.fusion import Blend, Mode
from search_api.compose import Composed
from search_api.facets import BEST
from search_api.hybrid import Explanation, WordedList, explain_picture, points_of, worded_list
from search_api.listing import Stretches, stretches_by_score
from search_api.question import both


@dataclass(frozen=True, slots=True)
class Listed:
    """A question and its list; `name` names that in cursors, `worded` is None where it goes by the picture alone."""

    asked: Composed
    blend: Blend
    mode: Mode
    name: str
    index: VectorIndex
    worded: WordedList | None

    @classmethod
    def of(cls, asked: Composed, blend: Blend, mode: Mode, *, name: str, index: VectorIndex) -> Listed:
        """Look words up where the mode asks for it. Raises Unavailable."""
        return cls(asked, blend, mode, name, index, worded_list(asked, blend, mode, name=name, index=index))

    def under(self, within: Filter | None) -> Listed:
        """Ask the same with another filter."""
        return Listed.of(replace(self.asked, filter=within), self.blend, self.mode, name=self.name, index=self.index)

    def nearest(self, limit: int) -> list[ScoredPoint]:
        """Give the best so many by the picture, best first."""
        return self.asked.nearest(limit, index=self.index)

    def cosines(self, assets: Sequence[AssetId]) -> dict[AssetId, float]:
        """Give the cosines of those of some pictures that the question lets through."""
        return {asset_of(point): point.score for point in points_of(self.asked, assets, index=self.index)}

    @property
    def stretches(self) -> Stretches:
        """Gives the hits in their order."""
        return stretches_by_score(self.nearest, self.name) if self.worded is None else self.worded.stretch

    def head(self) -> list[ScoredPoint]:
        """Give the first HEAD by the picture: what is judged."""
        return self.nearest(HEAD) if self.worded is None else list(self.worded.head)

    def best_hits(self, within: Filter | None) -> Sequence[ScoredPoint]:
        """Give the best BEST hits under another filter."""
        listed = self.under(within)
        return listed.nearest(BEST) if listed.worded is None else listed.worded.stretch(BEST, None).points

    def let_in(self, within: Filter | None) -> tuple[Filter | None, bool]:
        """Narrow a filter to what can be in the list under it, and say whether nothing else is left in."""
        kept, exact = replace(self.asked, filter=within).let_in(index=self.index)
        worded = self.under(within).worded if self.mode is Mode.WORDS else None
        return both(kept, worded.only() if worded is not None else None), exact

    def explain(self, asset: Asset, cosine: float) -> Explanation:
        """Say which part gave what to a hit."""
        if self.worded is None:
            return explain_picture(asset, cosine, self.asked.text)
        return self.worded.explain(asset, cosine)
