"""How a list is to be arranged, and what is counted beside it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from phosphene.types import FieldKind
from search_api import facets
from search_api.aim import MOST_BARRED
from search_api.arrange import ARRANGED, MAX_GROUP, NEAR_DUPLICATES, SPREAD, Arrangement
from search_api.facets import BEST, DEFAULT_VALUES, MAX_FACETS, MAX_RANGES, MAX_VALUES, FacetAsked
from search_api.rerank import RERANKED
from search_api.schemas.values import Body

FieldName = Annotated[str, Field(max_length=63)]


class FacetIn(Body):
    """A field whose values are to be counted."""

    field: str = Field(max_length=63)
    limit: int = Field(DEFAULT_VALUES, ge=1, le=MAX_VALUES, description="values, or ranges, at most")


class ListOptions(Body):
    """How a list is to be arranged, and what is counted beside it; as it comes it is by score, and nothing is."""

    model_config = ConfigDict(extra="forbid")

    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description=f"how much a hit loses for being like one above it, 0..1 (maximal marginal relevance); of the best "
        f"{SPREAD} hits, behind which the others follow by score",
    )
    collapse: Literal["duplicates"] | None = Field(
        None,
        description="leave out what is nearly the same picture as one above it, by the clusters of /v1/duplicates, and "
        "by cosine where pictures were not compared yet; `folded` counts them. Behind the best "
        f"{ARRANGED} hits clusters alone tell; in mode words the list ends there",
    )
    group_by: str | None = Field(
        None,
        max_length=63,
        description=f"a field of words or whole numbers, or {NEAR_DUPLICATES}: of each value the best hit is listed, "
        f"with `group`. Of a list of words the first counts. The list ends with the best {ARRANGED} hits",
        examples=["creator"],
    )
    group_size: int = Field(4, ge=1, le=MAX_GROUP, description="hits of a group, the listed one included")
    rerank: bool | None = Field(
        None,
        description=f"whether the deployment's own function (PHOSPHENE_RERANK) orders the best {RERANKED} hits; null: "
        "where there is one",
    )
    facets: list[FieldName | FacetIn] = Field(
        default_factory=list,
        max_length=MAX_FACETS,
        description="fields whose values are to be counted, over all pictures that the question lets through (its "
        "filter, `exclude`, `context`; in mode words those that carry one; less the picture asked with) and over "
        f"the best {BEST} hits; a condition on a field does not narrow its own counts. Numbers and dates: in ranges, "
        f"up to {MAX_RANGES} in one request",
        examples=[["category", {"field": "year", "limit": 6}]],
    )

    def to_arrangement(self) -> Arrangement:
        """Make the arrangement. Raises InvalidQuery."""
        return Arrangement(
            diversity=self.diversity,
            collapse=self.collapse is not None,
            group_by=self.group_by,
            group_size=self.group_size,
            rerank=self.rerank,
        )

    def to_facets(self) -> tuple[FacetAsked, ...]:
        """Make what is to be counted."""
        return tuple(
            FacetAsked(one) if isinstance(one, str) else FacetAsked(one.field, one.limit) for one in self.facets
        )


class FacetValueOut(BaseModel):
    """A value, and how many pictures have it."""

    value: str | int | float | bool
    count: int = Field(description="of the pictures that the question lets through")
    among_best: int = Field(description="of the best hits")


class FacetRangeOut(BaseModel):
    """A range of numbers or dates, as a filter takes it, and how many pictures lie in it."""

    gte: float | str
    lt: float | str
    count: int = Field(description="of the pictures that the question lets through")
    among_best: int = Field(description="of the best hits")


class FacetOut(BaseModel):
    """How the values of a field are spread."""

    field: str
    kind: FieldKind
    exact: bool = Field(
        description=f"false: pictures that the question keeps out are counted still, those beyond {MOST_BARRED:,} and "
        "those near negative examples of best_score"
    )
    pictures: int = Field(description="that the question lets through, conditions on this very field apart")
    missing: int = Field(description="of these, without a value")
    best: int = Field(description=f"best hits that `among_best` is of, {BEST} at most")
    more: bool = Field(description="there are values beyond those listed")
    values: list[FacetValueOut] = Field(description="of words and truths, those of most pictures first")
    ranges: list[FacetRangeOut] = Field(description="of numbers and dates, in order; each ends where the next begins")

    @classmethod
    def of(cls, facet: facets.Facet) -> Self:
        """Show what was counted."""
        return cls(
            field=facet.field,
            kind=facet.kind,
            exact=facet.exact,
            pictures=facet.pictures,
            missing=facet.missing,
            best=facet.best,
            more=facet.more,
            values=[FacetValueOut(value=o.value, count=o.count, among_best=o.among_best) for o in facet.values],
            ranges=[FacetRangeOut(gte=o.gte, lt=o.lt, count=o.count, among_best=o.among_best) for o in facet.ranges],
        )
