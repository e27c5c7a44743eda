"""Vectors and similarities as a service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Self
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from phosphene.types import AssetId, Float32, Space
from search_api.embedding import Embeddable, Encoding, from_base64, to_base64, written
from search_api.question import MAX_TEXT
from search_api.schemas.search import MAX_DIMENSION
from search_api.schemas.values import Body, PictureBytes, SpaceName, VectorSpace, require_beside_vector
from search_api.similarity import Similarity

MAX_EMBEDDED = 64  # texts, and pictures, in one request
MAX_ASSETS = 256
MAX_FETCHED = 16
_KINDS = ("text", "image", "image_url", "asset_id", "vector")

Fetch = Callable[[str], bytes]  # the picture at an address

Caption = Annotated[str, Field(min_length=1, max_length=2 * MAX_TEXT)]
Address = Annotated[str, Field(max_length=2048)]
EncodingIn = Annotated[
    Encoding, Field(description="float: lists of numbers; base64: of little-endian float32, a quarter of the size")
]
Vectors = list[list[float]] | list[str]


class EmbeddingsRequest(Body):
    """What to embed: any of the lists, each answered under its own name, in its own order."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"texts": ["a cat", "a red car"]}, {"texts": ["a cat"], "encoding": "base64"}]},
    )

    texts: list[Caption] = Field(default_factory=list, max_length=MAX_EMBEDDED)
    images: list[PictureBytes] = Field(
        default_factory=list, max_length=MAX_EMBEDDED, description="picture files as base64"
    )
    image_urls: list[Address] = Field(
        default_factory=list,
        max_length=MAX_FETCHED,
        description="public http(s) addresses; only where PHOSPHENE_FETCH_URLS is on",
    )
    asset_ids: list[UUID] = Field(
        default_factory=list, max_length=MAX_ASSETS, description="pictures of the catalogue: their stored vectors"
    )
    encoding: EncodingIn = Encoding.FLOAT
    space: SpaceName = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.texts or self.images or self.image_urls or self.asset_ids):
            msg = "send texts, images, image_urls, asset_ids, or several of them"
            raise ValueError(msg)
        return self

    def to_embeddables(self, fetch: Fetch) -> list[Embeddable]:
        """Make what is to be embedded: texts, images, image_urls, asset_ids; `fetch` gets what addresses lead to."""
        return [
            *(Embeddable(f"texts.{at}", text=text) for at, text in enumerate(self.texts)),
            *(Embeddable(f"images.{at}", image=image) for at, image in enumerate(self.images)),
            *(Embeddable(f"image_urls.{at}", image=fetch(url)) for at, url in enumerate(self.image_urls)),
            *(Embeddable(f"asset_ids.{at}", asset_id=AssetId(id_)) for at, id_ in enumerate(self.asset_ids)),
        ]


class EmbeddingsResponse(BaseModel):
    """Vectors of length 1, in the order of what was sent: lists of numbers, or base64 of little-endian float32."""

    space: str = Field(description="compare vectors of one space only")
    model: str
    dimension: int
    texts: Vectors
    images: Vectors
    image_urls: Vectors
    asset_ids: Vectors

    @classmethod
    def of(cls, asked: EmbeddingsRequest, space: Space, rows: Float32) -> Self:
        """Show the rows (n, d) of `asked.to_embeddables`."""
        counts = [len(asked.texts), len(asked.images), len(asked.image_urls), len(asked.asset_ids)]
        texts, images, image_urls, asset_ids = np.split(rows, np.cumsum(counts)[:-1])
        return cls(
            space=space.id,
            model=space.model,
            dimension=space.dimension,
            texts=written(texts, asked.encoding),
            images=written(images, asked.encoding),
            image_urls=written(image_urls, asked.encoding),
            asset_ids=written(asset_ids, asked.encoding),
        )


class ComparedIn(Body):
    """One thing to compare: exactly one of text, image, image_url, asset_id and vector."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"oneOf": [{"required": [name]} for name in _KINDS]})

    text: Caption | None = None
    image: PictureBytes | None = Field(None, description="a picture file as base64, with or without a data: prefix")
    image_url: Address | None = Field(
        None, description="a public http(s) address; only where PHOSPHENE_FETCH_URLS is on"
    )
    asset_id: UUID | None = Field(None, description="a picture of the catalogue")
    vector: (
        Annotated[list[FiniteFloat], Field(min_length=1, max_length=MAX_DIMENSION)]
        | Annotated[str, Field(min_length=1, max_length=8 * MAX_DIMENSION)]
        | None
    ) = Field(None, description="an embedding in this server's space, as numbers or as base64, of any length")
    space: VectorSpace = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"{' and '.join(given)} at once" if given else "none of them"
            msg = f"give exactly one of {', '.join(_KINDS)}, not {said}"
            raise ValueError(msg)
        require_beside_vector(self.space, self.vector)
        return self

    def to_embeddable(self, name: str, fetch: Fetch) -> Embeddable:
        """Make what is to be embedded."""
        image = self.image if self.image_url is None else fetch(self.image_url)
        vector = None
        if self.vector is not None:
            vector = from_base64(self.vector) if isinstance(self.vector, str) else np.array(self.vector, np.float64)
        return Embeddable(
            name,
            text=self.text,
            image=image,
            asset_id=AssetId(self.asset_id) if self.asset_id is not None else None,
            vector=vector,
            space=self.space,
        )


class SimilarityRequest(Body):
    """Two lists to compare: each with each, or in pairs. Without `right`, `left` with itself."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"left": [{"text": "a cat"}, {"text": "a red car"}], "right": [{"text": "a kitten"}]}]
        },
    )

    left: list[ComparedIn] = Field(min_length=1, max_length=MAX_EMBEDDED)
    right: list[ComparedIn] | None = Field(None, min_length=1, max_length=MAX_EMBEDDED)
    pairs: bool = Field(default=False, description="the first with the first, the second with the second, and so on")
    encoding: EncodingIn = Encoding.FLOAT
    space: SpaceName = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        fetched = sum(one.image_url is not None for one in [*self.left, *(self.right or ())])
        if fetched > MAX_FETCHED:
            msg = f"{fetched} addresses to fetch, {MAX_FETCHED} are allowed in one request"
            raise ValueError(msg)
        return self

    def to_embeddables(self, fetch: Fetch) -> tuple[list[Embeddable], list[Embeddable] | None]:
        """Make both lists; `fetch` gets what addresses lead to."""
        return _side("left", self.left, fetch), None if self.right is None else _side("right", self.right, fetch)


class SimilarityResponse(BaseModel):
    """How alike they are. A matrix has a row for each of `left`, pairs have one number each."""

    space: str = Field(description="scores of two spaces can't be compared")
    model: str
    shape: list[int] = Field(description="[left, right], or [pairs]", examples=[[2, 1]])
    cosines: list[list[float]] | list[float] | str = Field(
        description="-1..1; with encoding base64: little-endian float32, row by row"
    )
    clip_scores: list[list[float]] | list[float] | str = Field(
        description="0..2.5, written in the same way: 2.5 * max(cosine, 0), the CLIP score of Hessel et al. 2021"
    )

    @classmethod
    def of(cls, found: Similarity, encoding: Encoding) -> Self:
        """Show a comparison."""
        as_text = encoding is Encoding.BASE64
        return cls(
            space=found.space.id,
            model=found.space.model,
            shape=list(found.cosines.shape),
            cosines=to_base64(found.cosines) if as_text else found.cosines.tolist(),
            clip_scores=to_base64(found.clip_scores) if as_text else found.clip_scores.tolist(),
        )


def _side(name: str, compared: Sequence[ComparedIn], fetch: Fetch) -> list[Embeddable]:
    return [one.to_embeddable(f"{name}.{at}", fetch) for at, one in enumerate(compared)]
