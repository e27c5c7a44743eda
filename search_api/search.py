"""The search itself: a question becomes an embedding, its nearest points, and the assets they stand for.

text, picture, asset or vector -> unit embedding -> points of the tenant, nearest first -> rows of the catalogue; and
whether the first of them is a match at all. Where it is none, and the question says so, pictures are searched once more
with what the generator's prior expects a text to look like.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phosphene import metrics, tracing
from phosphene.assemble import Engine
from phosphene.catalog.records import Asset
from phosphene.decoding import DecoderPool
from phosphene.encoders import Encoder
from phosphene.errors import InvalidCursor, InvalidInput, InvalidQuery, Overloaded
from phosphene.filters import Filter, tenant_filter
from phosphene.generation.retrieve import towards
from phosphene.nomatch.decision import Match, Question
from phosphene.nomatch.evidence import HEAD
from phosphene.open_space import OpenSpace
from phosphene.types import (
    AssetId,
    Float32,
    Modality,
    PointId,
    RawEmbeddings,
    Space,
    SpaceId,
    TenantId,
    UnitEmbeddings,
    point_id,
)
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


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that was found; score is its cosine with what was searched with, -1..1.

    Found by the prior: the text by itself has not shown it by this place of its list.
    """

    asset: Asset
    score: float
    found_by: Literal["search", "prior"] = "search"


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a search spent; embed includes decoding of a picture, and the prior."""

    embed: float
    vectors: float
    catalogue: float
    match: float
    total: float


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Hits, best first; next_cursor leads to those after them. `match` is of the question: the same on every page.

    All of it is of one space.
    """

    space: SpaceId
    hits: tuple[Hit, ...]
    match: Match
    next_cursor: str | None
    timing_ms: Timing


def run_search(query: SearchQuery, *, engine: Engine, tenant: TenantId) -> SearchAnswer:
    """Answer a question from the pictures of a tenant.

    A page can be shorter than the limit where pictures were deleted meanwhile; next_cursor tells whether it goes on.
    All of an answer comes from one space. While the model is being changed, a cursor goes on in the space that it came
    from. Raises InvalidQuery, InvalidCursor, PictureError, NotFound (asset_id) and Unavailable; with prior_search also
    ModelError and SpaceMismatch, where there is no generator of the catalogue's CLIP space.
    """
    with engine.answering() as space:
        try:
            return _answer(query, space, engine=engine, tenant=tenant)
        except InvalidQuery as error:  # as a vector of the other space
            if query.cursor is None:
                raise
            refused: InvalidInput = error
        except InvalidCursor as error:
            refused = error
    for other in engine.written():
        if other is not space:
            with other.held(), contextlib.suppress(InvalidCursor, InvalidQuery):
                return _answer(query, other, engine=engine, tenant=tenant)
    raise refused


def _answer(query: SearchQuery, space: OpenSpace, *, engine: Engine, tenant: TenantId) -> SearchAnswer:
    watch = _Stopwatch()
    text = normalised_text(query.text) if query.text is not None else None
    embedding = _embed(query, text, space, engine=engine, tenant=tenant)
    watch.lap("embed")

    question = _fingerprint(query, text, embedding, tenant)
    before, by_prior = _cursor(query, question)
    itself = point_id(query.asset_id, embedding.space.id) if query.asset_id is not None else None
    asked = VectorQuery(embedding.rows[0], query.limit, tenant_filter(tenant, query.filter))
    listed, head = _first_and_page(asked, before=None if by_prior else before, itself=itself, index=space.index)
    watch.lap("vectors")
    match = space.judge.judge(
        Question(tenant, asked.vector, _modality(query), head, query.filter, itself=query.asset_id)
    )
    watch.lap("match")

    expected: frozenset[PointId] | None = None  # what the text by itself shows by this place, where the prior searches
    if text is not None and (by_prior or (query.prior_search and before is None and head and not match.matched)):
        try:
            mixed = towards(embedding, space.predictor.predict(text))
        except Overloaded as error:
            if by_prior:
                raise  # the page before was of a list that can't be gone on with now
            match = replace(match, note=f"{match.note}; not searched by the prior: {error}")
        else:
            watch.lap("embed")
            question = _by_prior(question)
            listed, expected = _expected(asked, mixed.rows[0], before=before, index=space.index)
            match = replace(
                match, note=f"{match.note}; this is of the text by itself, hits of the prior are not judged"
            )
            watch.lap("vectors")

    ids = [asset_of(point) for point in listed.points]
    assets = engine.catalog.assets(tenant, ids) if ids else {}
    hits = tuple(
        Hit(assets[i], point.score, "search" if expected is None or point.id in expected else "prior")
        for i, point in zip(ids, listed.points, strict=True)
        if i in assets
    )
    following = cursors.after(listed.points, query=question, before=before) if listed.more else None
    watch.lap("catalogue")
    watch.tell()
    metrics.SEARCHES.labels(_kind(query), "yes" if match.matched else "no").inc()
    return SearchAnswer(
        space=space.space.id,
        hits=hits,
        match=match,
        next_cursor=following.encode() if following is not None and following.seen < MAX_DEPTH else None,
        timing_ms=watch.timing(),
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


def embed_pictures(files: Sequence[bytes], *, encoder: Encoder, decoders: DecoderPool) -> UnitEmbeddings:
    """Decode picture files in the pool and embed them: (n, d). Raises PictureError."""
    spec = encoder.space.pixels
    decoding = [decoders.decode(data, spec=spec, thumbnail=False) for data in files]
    pixels = [decoded.pixels for decoded in (future.result() for future in decoding) if decoded.pixels is not None]
    return encoder.encode_pixels(np.stack(pixels)).unit()


def _embed(
    query: SearchQuery, text: str | None, space: OpenSpace, *, engine: Engine, tenant: TenantId
) -> UnitEmbeddings:
    if text is not None:
        return space.texts.embed(text)
    if query.image is not None:
        return embed_pictures([query.image], encoder=space.encoder, decoders=engine.decoders)
    if query.asset_id is not None:
        engine.catalog.asset(tenant, query.asset_id)  # NotFound, also where it is another tenant's
        return _embedding_of(query.asset_id, space.index)
    return _checked_vector(query.vector, space.space)


def _embedding_of(asset: AssetId, index: VectorIndex) -> UnitEmbeddings:
    space = index.space
    point = point_id(asset, space.id)
    vector = index.vectors([point]).get(point)
    if vector is None:
        msg = f"asset {asset} has no embedding yet: try again when its ingest has finished"
        raise InvalidQuery(msg)
    return UnitEmbeddings(space, np.asarray(vector, dtype=np.float32)[None])


def _checked_vector(vector: Numbers | None, space: Space) -> UnitEmbeddings:
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


@dataclass(frozen=True, slots=True)
class _Page:
    points: list[ScoredPoint]
    more: bool  # behind these


def _first_and_page(
    query: VectorQuery, *, before: Cursor | None, itself: PointId | None, index: VectorIndex
) -> tuple[_Page, list[ScoredPoint]]:
    """Give the page, and the first hits of all (HEAD, whatever the page)."""
    first = replace(query, limit=max(query.limit, HEAD))
    head, more = page_of(first, before=None, itself=itself, index=index)
    if before is None:
        return _Page(head[: query.limit], more or len(head) > query.limit), head[:HEAD]
    return _Page(*page_of(query, before=before, itself=itself, index=index)), head[:HEAD]


def _expected(
    query: VectorQuery, vector: Float32, *, before: Cursor | None, index: VectorIndex
) -> tuple[_Page, frozenset[PointId]]:
    """Give a page of what is nearest to a vector (d,), and what the query's own list shows by the end of that page."""
    page = _Page(*page_of(replace(query, vector=vector), before=before, itself=None, index=index))
    shown = len(page.points) + (before.seen if before is not None else 0)
    own = index.query([replace(query, limit=shown)])[0] if shown else []
    return page, frozenset(point.id for point in own)


def _cursor(query: SearchQuery, question: str) -> tuple[Cursor | None, bool]:
    """Read the cursor, and whether it goes on with a list of the prior: that was decided on the first page."""
    if query.cursor is None:
        return None, False
    if query.prior_search:
        with contextlib.suppress(InvalidCursor):
            return cursors.decode(query.cursor, query=_by_prior(question)), True
    return cursors.decode(query.cursor, query=question), False


def _by_prior(question: str) -> str:
    """Name the list that the prior finds for a question."""
    return hashlib.sha256(f"prior {question}".encode()).hexdigest()[:20]


class _Stopwatch:
    """Adds up what each part of a search takes."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._spent = dict.fromkeys(("embed", "vectors", "catalogue", "match"), 0.0)

    def lap(self, part: str) -> None:
        now = perf_counter()
        tracing.past_span(f"search.{part}", now - self._last)
        self._spent[part] += now - self._last
        self._last = now

    def tell(self) -> None:
        for part, seconds in self._spent.items():
            metrics.SEARCH_STAGES.labels(part).observe(seconds)

    def timing(self) -> Timing:
        spent = {part: round(1000 * seconds, 3) for part, seconds in self._spent.items()}
        return Timing(**spent, total=round(1000 * (perf_counter() - self._start), 3))


def _kind(query: SearchQuery) -> str:
    return next(kind for kind in ("text", "image", "asset_id", "vector") if getattr(query, kind) is not None)


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
    name = repr((tenant, embedding.space.id, asked, query.filter, query.prior_search))
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:20]
