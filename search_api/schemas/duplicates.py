"""Near-duplicates."""

from __future__ import annotations

from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from phosphene.catalog.records import Pair
from search_api.duplicates import ClusterPage, ShownCluster
from search_api.schemas.assets import AssetOut, asset_fields
from search_api.schemas.values import Body


class PairOut(BaseModel):
    """Two pictures of a cluster that were found to be the same, and the evidence."""

    asset_id: UUID
    other_id: UUID
    probability: float = Field(description="that both are one picture, 0.7..1")
    bits: int = Field(description="of 64, by which their perceptual hashes differ")
    likeness: float = Field(description="correlation of what they look like, at most 1; cut edges are allowed for")
    cosine: float = Field(description="of their embeddings, -1..1")
    recoloured: float = Field(description="how far their colours differ: 0 not at all, 1 all of them")
    mirrored: bool

    @classmethod
    def of(cls, pair: Pair) -> Self:
        """Show a pair."""
        return cls(**{name: getattr(pair, name) for name in cls.model_fields})


class DuplicateOut(AssetOut):
    """A picture of a cluster."""

    keep: bool = Field(description="this one is to be kept, the others may go")
    places: list[str] = Field(description="where its bytes were found")


class ClusterOut(BaseModel):
    """Near-duplicates of each other, or the same bytes at several places."""

    cluster_id: UUID
    kind: Literal["near", "exact"]
    keep: UUID = Field(description="the picture that is suggested to be kept")
    reason: str = Field(description="why that one", examples=["the largest, 1200 x 800"])
    count: int = Field(description="pictures of the cluster")
    assets: list[DuplicateOut] = Field(description="the one to keep first, then by age; the first 100 of them")
    pairs: list[PairOut] = Field(description="among those that are shown")

    @classmethod
    def of(cls, shown: ShownCluster) -> Self:
        """Show a cluster."""
        return cls(
            cluster_id=shown.id,
            kind=shown.kind,
            keep=shown.keep,
            reason=shown.reason,
            count=shown.count,
            assets=[
                DuplicateOut(
                    **asset_fields(asset), keep=asset.id == shown.keep, places=list(shown.places.get(asset.id, ()))
                )
                for asset in shown.assets
            ],
            pairs=[PairOut.of(pair) for pair in shown.pairs],
        )


class ClusterList(BaseModel):
    """Clusters in the order of their ids."""

    clusters: list[ClusterOut]
    next_after: UUID | None = Field(description="pass it as `after` for more; null at the end")
    waiting: int = Field(description="pictures in the index that were not compared with the others yet")

    @classmethod
    def of(cls, page: ClusterPage) -> Self:
        """Show a page."""
        return cls(
            clusters=[ClusterOut.of(one) for one in page.clusters], next_after=page.next_after, waiting=page.waiting
        )


class CompareRequest(Body):
    """Have pictures compared."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"again": False}]})

    again: bool = Field(
        default=False, description="forget all pairs and clusters first, and compare every picture anew"
    )


class CompareResponse(BaseModel):
    """What is to be done."""

    waiting: int = Field(description="pictures in the index that wait to be compared")
