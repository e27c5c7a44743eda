"""The search itself: a question becomes an embedding, its nearest points, and the assets they stand for.

text, picture, asset or vector -> unit embedding -> points of the tenant, nearest first -> rows of the catalogue; and
whether the first of them is a match at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from phosphene.assemble import Engine
from phosphene.catalog.records import Asset
from phosphene.errors import InvalidQuery
from phosphene.filters import Filter, tenant_filter
from phosphene.nomatch.decision import Match, Question
from phosphene.nomatch.evidence import HEAD
from phosphene.types import AssetId, Modality, PointId, RawEmbeddings, TenantId, UnitEmbeddings, point_id
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery, asset_of
from search_api import cursor as cursors
from search_api.cursor import Cursor

DEFAULT_LIMIT = 24
MAX_LIMIT = 100
MAX_DEPTH = 10_000  # hits that can be paged through; narrow the question beyond
MAX_TEXT = 2_000  # characters; models read some 30 to 100 words and leave out the rest

Numbers = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SearchQuery:
    """One question: exactly one of text, image, asset_id and vector.

    `image` is the bytes of a picture file, `vector` is (d,) numbers of any length but 0, in the space of the engine.
    """

    text: str | None = None
    image: bytes | None = None
    asset_id: AssetId | None = None
    vector: Numbers | None = None
    filter: Filter | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no question. Raises InvalidQuery."""
        if sum(part is not None for part in (self.text, self.image, self.asset_id, self.vector)) != 1:
            raise InvalidQuery("ask with exactly one of text, image, asset_id and vector")
        if not 1 <= self.limit <= MAX_LIMIT:
            msg = f"limit is 1 to {MAX_LIMIT}, not {self.limit}"
            raise InvalidQuery(msg)


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that was found; score is the cosine, -1..1."""

    asset: Asset
    score: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a search spent; embed includes decoding of a picture."""

    embed: float
    vectors: float
    catalogue: float
    match: float
    total: float


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Hits, best first; next_cursor leads to those after them. `match` is of the question: the same on every page."""

    hits: tuple[Hit, ...]
    match: Match
    next_cursor: str | None
    timing_ms: Timing


def run_search(query: SearchQuery, *, engine: Engine, tenant: TenantId) -> SearchAnswer:
    """Answer a question from the pictures of a tenant.

    A page can be shorter than the limit where pictures were deleted meanwhile; next_cursor tells whether it goes on.
    Raises InvalidQuery, InvalidCursor, PictureError, NotFound (asset_id) and Unavailable.
    """
    start = perf_counter()
    text = normalised_text(query.text) if query.text is not None else None
    embedding = _embed(query, text, engine, tenant)
    embedded = perf_counter()

    question = _fingerprint(query, text, embedding, tenant)
    before = cursors.decode(query.cursor, query=question) if query.cursor is not None else None
    itself = point_id(query.asset_id, embedding.space.id) if query.asset_id is not None else None
    asked = VectorQuery(embedding.rows[0], query.limit, tenant_filter(tenant, query.filter))
    points, head, more = _first_and_page(asked, before=before, itself=itself, index=engine.index)
    found = perf_counter()

    ids = [asset_of(point) for point in points]
    assets = engine.catalog.assets(tenant, ids) if ids else {}
    hits = tuple(Hit(assets[i], point.score) for i, point in zip(ids, points, strict=True) if i in assets)
    read = perf_counter()

    match = engine.judge.judge(
        Question(tenant, asked.vector, _modality(query), head, query.filter, itself=query.asset_id)
    )
    done = perf_counter()

    following = cursors.after(points, query=question, before=before) if more else None
    return SearchAnswer(
        hits=hits,
        match=match,
        next_cursor=following.encode() if following is not None and following.seen < MAX_DEPTH else None,
        timing_ms=Timing(
            embed=_ms(start, embedded),
            vectors=_ms(embedded, found),
            catalogue=_ms(found, read),
            match=_ms(read, done),
            total=_ms(start, perf_counter()),
        ),
    )


def normalised_text(text: str) -> str:
    """Collapse white space. Raises InvalidQuery for text that is empty or much too long."""
    words = " ".join(text.split())
    if not words:
        raise InvalidQuery("the text is empty: describe the picture in a few words")
    if len(words) > MAX_TEXT:
        msg = f"the text has {len(words)} characters, {MAX_TEXT} are allowed: models read a sentence or two"
        raise InvalidQuery(msg)
    return words


def embed_pictures(files: Sequence[bytes], *, engine: Engine) -> UnitEmbeddings:
    """Decode picture files in the pool and embed them: (n, d). Raises PictureError."""
    spec = engine.encoder.space.pixels
    decoding = [engine.decoders.decode(data, spec=spec, thumbnail=False) for data in files]
    pixels = [decoded.pixels for decoded in (future.result() for future in decoding) if decoded.pixels is not None]
    return engine.encoder.encode_pixels(np.stack(pixels)).unit()


def _embed(query: SearchQuery, text: str | None, engine: Engine, tenant: TenantId) -> UnitEmbeddings:
    if text is not None:
        return engine.texts.embed(text)
    if query.image is not None:
        return embed_pictures([query.image], engine=engine)
    if query.asset_id is not None:
        return _embedding_of(query.asset_id, engine, tenant)
    return _checked_vector(query.vector, engine)


def _embedding_of(asset: AssetId, engine: Engine, tenant: TenantId) -> UnitEmbeddings:
    engine.catalog.asset(tenant, asset)  # NotFound, also where it is another tenant's
    space = engine.index.space
    point = point_id(asset, space.id)
    vector = engine.index.vectors([point]).get(point)
    if vector is None:
        msg = f"asset {asset} has no embedding yet: try again when its ingest has finished"
        raise InvalidQuery(msg)
    return UnitEmbeddings(space, np.asarray(vector, dtype=np.float32)[None])


def _checked_vector(vector: Numbers | None, engine: Engine) -> UnitEmbeddings:
    space = engine.index.space
    row = np.asarray(vector, dtype=np.float64)
    if row.shape != (space.dimension,):
        msg = f"a vector of {space.id} has {space.dimension} numbers, not {row.size}"
        raise InvalidQuery(msg)
    if not np.isfinite(row).all():
        raise InvalidQuery("the vector has numbers that are not finite")
    largest = float(np.abs(row).max())
    if largest == 0:
        raise InvalidQuery("the vector has length 0 and so no direction")
    scaled = np.asarray(row / largest, dtype=np.float32)  # so that no square overflows
    return RawEmbeddings(space, scaled[None]).unit()


def page_of(
    query: VectorQuery, *, before: Cursor | None, itself: PointId | None, index: VectorIndex
) -> tuple[list[ScoredPoint], bool]:
    """Give the points behind a cursor, without `itself`, and whether there are more of them."""
    fetch = query.limit + 1 + (before.seen if before else 0) + (itself is not None)
    while True:
        points = index.query([VectorQuery(query.vector, fetch, query.filter)])[0]
        fresh = [point for point in points if point.id != itself and not (before is not None and before.shown(point))]
        if len(fresh) > query.limit or len(points) < fetch or fetch >= 2 * MAX_DEPTH:
            return fresh[: query.limit], len(fresh) > query.limit
        fetch *= 2  # pictures came in since the first page


def _first_and_page(
    query: VectorQuery, *, before: Cursor | None, itself: PointId | None, index: VectorIndex
) -> tuple[list[ScoredPoint], list[ScoredPoint], bool]:
    """Give the page, the first hits of all (HEAD, whatever the page), and whether there are more behind the page."""
    first = replace(query, limit=max(query.limit, HEAD))
    head, more = page_of(first, before=None, itself=itself, index=index)
    if before is None:
        return head[: query.limit], head[:HEAD], more or len(head) > query.limit
    points, more = page_of(query, before=before, itself=itself, index=index)
    return points, head[:HEAD], more


def _modality(query: SearchQuery) -> Modality | None:
    if query.text is not None:
        return Modality.TEXT
    return None if query.vector is not None else Modality.IMAGE


def _fingerprint(query: SearchQuery, text: str | None, embedding: UnitEmbeddings, tenant: TenantId) -> str:
    """Name the question, but not the page: 20 hex digits."""
    if text is not None:
        asked = f"text {text}"
    elif query.image is not None:
        asked = f"image {hashlib.sha256(query.image).hexdigest()}"
    elif query.asset_id is not None:
        asked = f"asset {query.asset_id}"
    else:
        asked = f"vector {embedding.rows.tobytes().hex()}"
    name = repr((tenant, embedding.space.id, asked, query.filter))
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 3)
