"""Curators' boards."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from phosphene.catalog.collections import Collection, CollectionItem, Share
from phosphene.catalog.records import Asset
from search_api.fitting import LISTED, THRESHOLD, Fits
from search_api.schemas.assets import AssetOut, asset_fields
from search_api.schemas.values import Body

MAX_NAME = 200
MAX_NOTE = 4_000
MAX_AT_ONCE = 1_000  # pictures in one change
MAX_PAGE = 500
MAX_DAYS = 3_650
_EXAMPLE = "d65f4f4f-0185-5c7b-a1a3-27b80011ee91"


def _storable(value: object) -> object:
    if isinstance(value, str) and "\x00" in value:
        msg = "text can't hold the character NUL"
        raise ValueError(msg)
    return value


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"\S"), BeforeValidator(_storable)]
Note = Annotated[str, Field(max_length=MAX_NOTE), BeforeValidator(_storable)]
Pictures = Annotated[list[UUID], Field(min_length=1, max_length=MAX_AT_ONCE)]


class ExportFormat(StrEnum):
    """What a board is exported as."""

    CSV = "csv"
    JSON = "json"
    PDF = "pdf"
    PNG = "png"

    @property
    def media_type(self) -> str:
        """Its media type."""
        return {"csv": "text/csv", "json": "application/json", "pdf": "application/pdf", "png": "image/png"}[self]


class CollectionRequest(Body):
    """A new board."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "Drinks", "asset_ids": [_EXAMPLE]}]}
    )

    name: Name
    notes: Note = ""
    asset_ids: list[UUID] = Field(default_factory=list, max_length=MAX_AT_ONCE, description="pictures, in order")


class CollectionChange(Body):
    """New name or notes; what is left out stays."""

    name: Name | None = None
    notes: Note | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.name is None and self.notes is None:
            msg = "give a name or notes to change"
            raise ValueError(msg)
        return self


class CollectionOut(BaseModel):
    """A board."""

    id: UUID
    name: str
    notes: str
    count: int = Field(description="pictures on it; deleted ones leave it")
    etag: str = Field(description="send it as If-Match to change only what you have seen", examples=['"7-12"'])
    created_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, board: Collection) -> Self:
        """Show a board."""
        return cls(
            id=board.id,
            name=board.name,
            notes=board.notes,
            count=board.count,
            etag=board.etag,
            created_at=board.created_at,
            changed_at=board.changed_at,
        )


class CollectionList(BaseModel):
    """Boards, the newest first."""

    collections: list[CollectionOut]
    next_before: UUID | None = Field(description="pass it as `before` for older ones; null at the end")


class ItemOut(AssetOut):
    """A picture on a board."""

    note: str = Field(description="what the curator says about it here")
    put_at: datetime = Field(description="since when it is on the board")

    @classmethod
    def on_board(cls, item: CollectionItem, asset: Asset) -> Self:
        """Show a picture with its note."""
        return cls(**asset_fields(asset), note=item.note, put_at=item.added_at)


class ItemPage(BaseModel):
    """Pictures of a board, in its order."""

    collection: CollectionOut
    items: list[ItemOut]
    next_after: UUID | None = Field(description="pass it as `after` for more; null at the end")


class ItemsRequest(Body):
    """Pictures to put on a board: last, or else behind `after`, or first. Those on it already stay where they are."""

    asset_ids: Pictures
    note: Note = ""
    after: UUID | None = Field(None, description="a picture of the board")
    first: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.first and self.after is not None:
            msg = "first and after name two places: leave one out"
            raise ValueError(msg)
        return self


class MoveRequest(Body):
    """Pictures of the board to be put together, in the order given: last, or else behind `after`, or first."""

    asset_ids: Pictures
    after: UUID | None = Field(None, description="a picture of the board that is not moved")
    first: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.first and self.after is not None:
            msg = "first and after name two places: leave one out"
            raise ValueError(msg)
        return self


class RemoveRequest(Body):
    """Pictures to take off a board."""

    asset_ids: Pictures


class NoteRequest(Body):
    """What to say about a picture on a board; empty: nothing."""

    note: Note


class ItemsChanged(BaseModel):
    """What became of a change."""

    changed: int = Field(description="pictures that were put on the board, or taken off it")
    collection: CollectionOut


class ShareRequest(Body):
    """A link that shows a board, and nothing else, to whoever has it."""

    expires_in_days: float | None = Field(None, gt=0, le=MAX_DAYS, description="null: until it is revoked")
    with_notes: bool = Field(default=True, description="whether it shows the notes of board and pictures")


class ShareOut(BaseModel):
    """A link to a board."""

    id: UUID
    with_notes: bool
    made_at: datetime
    expires_at: datetime | None
    path: str | None = Field(description="where the board is shown; told once, when the link is made")

    @classmethod
    def of(cls, share: Share, token: str | None = None) -> Self:
        """Show a link."""
        return cls(
            id=share.id,
            with_notes=share.with_notes,
            made_at=share.made_at,
            expires_at=share.expires_at,
            path=None if token is None else f"/shared/{token}",
        )


class ShareList(BaseModel):
    """Links to a board, the latest first."""

    shares: list[ShareOut]


class FittingOut(AssetOut):
    """A picture, and how well it fits a board."""

    fit: float = Field(description="mean cosine with the three pictures of the board that are most like it, -1..1")


class MoreOut(BaseModel):
    """Pictures that fit a board and are not on it, best first."""

    space: str = Field(description="fits of two spaces can't be compared")
    compared: int = Field(description="pictures of the board that were compared with")
    hits: list[FittingOut]
    next_cursor: str | None = Field(
        description="pass it as cursor, with the filter as it was, for the pictures after these; null at the end, "
        f"{LISTED} pictures deep at most"
    )

    @classmethod
    def of(cls, found: Fits) -> Self:
        """Show what was found."""
        hits = [FittingOut(**asset_fields(one.asset), fit=one.fit) for one in found.found]
        return cls(space=found.space, compared=found.compared, hits=hits, next_cursor=found.next_cursor)


class OddOut(FittingOut):
    """A picture of a board, and how far it is from fitting it."""

    z_score: float = Field(
        description="robust: (fit - median) / (1.4826 * MAD) over the board, each compared with the others"
    )
    outlier: bool = Field(description=f"z_score of -{THRESHOLD} or below: it does not fit")


class OutliersOut(BaseModel):
    """The pictures of a board that fit it least, worst first; `outlier` tells which do not fit."""

    space: str
    compared: int
    pictures: list[OddOut]

    @classmethod
    def of(cls, found: Fits) -> Self:
        """Show what was found."""
        shown = []
        for one in found.found:
            z = one.z if one.z is not None else 0.0
            shown.append(OddOut(**asset_fields(one.asset), fit=one.fit, z_score=z, outlier=z <= -THRESHOLD))
        return cls(space=found.space, compared=found.compared, pictures=shown)


class SharedPicture(BaseModel):
    """A picture of a shared board."""

    asset_id: UUID
    title: str | None
    note: str
    width: int
    height: int
    generated: bool = Field(description="drawn by a model")
    thumbnail_url: str
    image_url: str


class SharedOut(BaseModel):
    """A board as its link shows it."""

    name: str
    notes: str
    count: int
    pictures: list[SharedPicture]
    next_after: UUID | None = Field(description="pass it as `after` for more; null at the end")
