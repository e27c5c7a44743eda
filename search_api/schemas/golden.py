"""Questions that people have judged."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from phosphene.evaluation.golden import GoldenQuery
from search_api.schemas.values import Body, Text

MAX_GOLDEN = 10_000
MAX_RELEVANT = 10_000

Gain = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class GoldenIn(Body):
    """A question, and the pictures that answer it."""

    query: Annotated[Text, Field(min_length=1, max_length=2000)]
    relevant: dict[Text, Gain] = Field(
        min_length=1,
        max_length=MAX_RELEVANT,
        description="file name, end of the place, asset id or sha256 of a picture -> how good it is",
    )

    @classmethod
    def of(cls, query: GoldenQuery) -> Self:
        """Send a query."""
        return cls(query=query.text, relevant=dict(query.relevant))

    def query_of(self) -> GoldenQuery:
        """Receive it."""
        return GoldenQuery(self.query, self.relevant)
