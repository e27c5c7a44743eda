"""The first step of a search: a question becomes what the index is asked, in one space.

Here is all that knows of texts, pictures, assets and vectors. The steps behind take a `Composed`, and ask it for what
is nearest, as far down as they like.

Parts are balanced before they are added. A picture's cosines with the catalogue spread more than a text's (0.105 and
0.075 in the starter's space), so that in a plain sum of both the picture decides: of its first ten hits six are among
the picture's own ten and two among the text's. Each part is divided by the spread of its cosines over the catalogue's
background, which makes it four and three. This is the fusion of z-scores (Jain, Nandakumar and Ross 2005, "Score
normalization in multimodal biometric systems", section 3), written as one vector since cosines are linear. Taking the
mean of each modality away as well, which would close the gap that Liang et al. 2022 (arXiv 2203.02053) describe,
changed nothing: a ranking does not see what all pictures share.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from phosphene.assemble import Engine
from phosphene.decoding import DecoderPool
from phosphene.encoders import Encoder
from phosphene.errors import InvalidCursor, InvalidQuery, SpaceMismatch
from phosphene.filters import AnyOf, Filter, Not, tenant_filter
from phosphene.nomatch.evidence import HEAD
from phosphene.open_space import OpenSpace
from phosphene.types import (
    AssetId,
    Float32,
    Modality,
    RawEmbeddings,
    Space,
    TenantId,
    UnitEmbeddings,
    point_id,
)
from phosphene.unclip.geometry import direction, text_diff
from phosphene.vectors.base import ScoredPoint, VectorIndex, asset_of
from phosphene.vectors.similar import mean_direction
from search_api import exclusion
from search_api.aim import LEAST_SPREAD, Aim, Barrier, Scale, Scoring, Words
from search_api.question import ContextPair, Numbers, Part, SearchQuery, Strategy, both

_MODALITIES = {"text": Modality.TEXT, "image": Modality.IMAGE, "asset_id": Modality.IMAGE}
_MOST_CARRIED = 256  # numbers in a cursor
_MAX_CARRIED_TEXT = 16 * 1024  # characters of them


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """What the index of one space is asked. `embedding` is (1, d): the question as one direction."""

    tenant: TenantId
    embedding: UnitEmbeddings
    aim: Aim
    filter: Filter | None  # without the tenant's own
    left_out: frozenset[AssetId]  # asked with: never among the hits
    text: str | None  # where the whole question is one text
    modality: Modality | None  # None: composed, or a bare vector, which can be either
    kind: str  # text, image, asset_id, vector, composed: for counting
    fingerprint: str  # names the question, but not the page: 20 hex digits
    scales: tuple[Scale, ...]  # that it was balanced with; the pages behind go on with the same

    def nearest(self, limit: int, *, index: VectorIndex) -> list[ScoredPoint]:
        """Give the best `limit` points, best first; fewer: there are no more. Raises Unavailable."""
        left_out = frozenset(point_id(asset, self.embedding.space.id) for asset in self.left_out)
        within = tenant_filter(self.tenant, self.filter)
        return self.aim.nearest(limit, within=within, left_out=left_out, index=index)

    def let_in(self, *, index: VectorIndex) -> tuple[Filter | None, bool]:
        """Give a filter for what can be listed: less than the question's own where something stays out.

        False beside it: more than MOST_BARRED stay out, or what is told only by comparing two vectors; these pass.
        """
        own, within = (tenant_filter(self.tenant, one) for one in (None, self.filter))
        barred, is_all = self.aim.barred(within=within, own=own, index=index)
        out = sorted({str(asset_of(point)) for point in barred} | {str(asset) for asset in self.left_out})
        return both(self.filter, Not(AnyOf("asset_id", tuple(out))) if out else None), is_all

    def instead(self, embedding: UnitEmbeddings) -> Composed:
        """Ask the same with another embedding (1, d) of the same space; what keeps points out stays."""
        return replace(self, embedding=embedding, aim=replace(self.aim, best=Scoring.cosine(embedding.rows[0])))

    def judged(self, first: Sequence[ScoredPoint], *, index: VectorIndex) -> tuple[Float32, Sequence[ScoredPoint]]:
        """Give what is judged: a vector (d,), and the first hits with their cosines with it.

        Of several vectors it is the one that the best hit is nearest to.
        """
        if len(self.aim.best.rows) == 1 or not first:
            return np.asarray(self.aim.best.rows[0], dtype=np.float32), first
        stored = index.vectors([point.id for point in first])
        if first[0].id not in stored:  # deleted meanwhile
            return np.asarray(self.aim.best.rows[0], dtype=np.float32), ()
        row = np.asarray(self.aim.best.nearest_row(stored[first[0].id]), dtype=np.float32)
        return row, [
            replace(point, score=float(stored[point.id] @ row)) for point in first[:HEAD] if point.id in stored
        ]

    def carry(self, cursor: str) -> str:
        """Put the scales into a cursor: measured again, they would be a little different, and so would the list."""
        return join_cursor(self.scales, cursor)


def compose(
    query: SearchQuery,
    *,
    space: OpenSpace,
    engine: Engine,
    tenant: TenantId,
    carried: tuple[Scale, ...] = (),
) -> Composed:
    """Embed a question; `carried` are the scales of the page before.

    Raises InvalidQuery, PictureError, SpaceMismatch where another space is counted on, NotFound for an asset that is
    not the tenant's, and InvalidCursor where what was carried is not of this question.
    """
    require_space(query.space, space.space)
    embedder = _Embedder(space, engine, tenant)
    gauge = _Gauge(space, tenant, carried)
    parts = query.all_parts
    rows = [embedder.row(part) for part in parts]
    single = query.single
    barriers = (
        *(barrier for part in query.exclude for barrier in _exclusion(part, embedder, gauge)),
        *(_barrier_of_pair(pair, embedder, gauge) for pair in query.context),
    )
    if single is not None:
        aim = Aim(Scoring.cosine(rows[0]), barriers)
        towards = rows[0]
    else:
        scales = [gauge.scale(row) for row in rows]
        towards = _towards(query, rows, scales, embedder, gauge)
        aim = Aim(Scoring.cosine(towards), barriers)
        if query.strategy is Strategy.BEST_SCORE:
            aim = _best_score(parts, rows, scales, barriers)
    gauge.require_used_up()
    return Composed(
        tenant=tenant,
        embedding=UnitEmbeddings(space.space, towards[None]),
        aim=aim,
        filter=query.filter,
        left_out=frozenset(part.asset_id for part in _mentioned(query) if part.asset_id is not None),
        text=query.words,
        modality=None if single is None else _MODALITIES.get(single.kind),
        kind="composed" if single is None else single.kind,
        fingerprint=_fingerprint(query, tenant, space.space),
        scales=tuple(gauge.used),
    )


def join_cursor(scales: tuple[Scale, ...], cursor: str) -> str:
    """Put scales in front of a cursor, which has no dot, whatever list it is of."""
    if not scales:
        return cursor
    numbers = json.dumps([[one.mean, one.spread] for one in scales], separators=(",", ":"))
    return f"{base64.urlsafe_b64encode(numbers.encode()).decode().rstrip('=')}.{cursor}"


def split_cursor(cursor: str | None) -> tuple[tuple[Scale, ...], str | None]:
    """Take the scales out of a cursor. Raises InvalidCursor."""
    if cursor is None or "." not in cursor:
        return (), cursor
    numbers, _, rest = cursor.partition(".")
    if len(numbers) > _MAX_CARRIED_TEXT:
        raise InvalidCursor("the cursor is none of ours: pass next_cursor of the answer before, unchanged")
    try:
        pairs = json.loads(base64.b64decode(numbers + "=" * (-len(numbers) % 4), altchars=b"-_", validate=True))
        scales = tuple(Scale(float(mean), float(spread)) for mean, spread in pairs)
        sane = all(abs(one.mean) <= 1 and LEAST_SPREAD <= one.spread <= 1 for one in scales)
        sane = sane and len(scales) <= _MOST_CARRIED
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidCursor("the cursor is none of ours: pass next_cursor of the answer before, unchanged") from error
    if not sane:
        raise InvalidCursor("the cursor is none of ours: pass next_cursor of the answer before, unchanged")
    return scales, rest


def embed_pictures(files: Sequence[bytes], *, encoder: Encoder, decoders: DecoderPool) -> UnitEmbeddings:
    """Decode picture files in the pool and embed them: (n, d). Raises PictureError."""
    spec = encoder.space.pixels
    decoding = [decoders.decode(data, spec=spec, thumbnail=False) for data in files]
    pixels = [decoded.pixels for decoded in (future.result() for future in decoding) if decoded.pixels is not None]
    return encoder.encode_pixels(np.stack(pixels)).unit()


class _Embedder:
    """Embeds parts in one space."""

    def __init__(self, space: OpenSpace, engine: Engine, tenant: TenantId) -> None:
        self._space, self._engine, self._tenant = space, engine, tenant

    def row(self, part: Part) -> Float32:
        """Give the embedding (d,) of a part, of length 1."""
        if part.text is not None:
            found = self._space.texts.embed(part.text)
        elif part.image is not None:
            found = embed_pictures([part.image], encoder=self._space.encoder, decoders=self._engine.decoders)
        elif part.asset_id is not None:
            self._engine.catalog.asset(self._tenant, part.asset_id)  # NotFound, also where it is another tenant's
            found = _embedding_of(part.asset_id, self._space.index)
        else:
            found = checked_vector(part.vector, self._space.space, named_space=part.space)
        return np.asarray(found.rows[0], dtype=np.float32)

    def text(self, text: str) -> Float32:
        """Give the same of a text."""
        return np.asarray(self._space.texts.embed(text).rows[0], dtype=np.float32)


class _Gauge:
    """Measures embeddings on the background, or goes on with what was measured for the page before."""

    def __init__(self, space: OpenSpace, tenant: TenantId, carried: Sequence[Scale]) -> None:
        self._space, self._tenant, self._carried = space, tenant, carried
        self.used: list[Scale] = []

    def scale(self, vector: Float32) -> Scale:
        if not self._carried:
            scale = Scale.of(vector, self._space.judge.background(self._tenant).rows)
        elif len(self.used) < len(self._carried):
            scale = self._carried[len(self.used)]
        else:
            raise InvalidCursor("the cursor belongs to another question: repeat the query and the filter it came from")
        self.used.append(scale)
        return scale

    def require_used_up(self) -> None:
        if self._carried and len(self.used) != len(self._carried):
            raise InvalidCursor("the cursor belongs to another question: repeat the query and the filter it came from")


def _towards(
    query: SearchQuery, rows: Sequence[Float32], scales: Sequence[Scale], embedder: _Embedder, gauge: _Gauge
) -> Float32:
    """Give the one direction (d,) that a composed question has."""
    shares = [part.weight / scale.spread for part, scale in zip(query.all_parts, scales, strict=True)]
    rows = list(rows)
    if not rows:  # nothing is asked for but what stands on the right side, or does not show something
        parts = [pair.positive for pair in query.context] or list(query.exclude)
        rows = [embedder.row(part) for part in parts]
        sign = 1.0 if query.context else -1.0
        shares = [sign / gauge.scale(row).spread for row in rows]
    found = mean_direction(rows, shares)
    if query.edit is None:
        return found
    turned = text_diff(
        direction(found),
        before=direction(embedder.text(query.edit.before)),
        after=direction(embedder.text(query.edit.after)),
        theta=query.edit.theta,
    )
    return np.asarray(turned, dtype=np.float32)


def _best_score(
    parts: Sequence[Part], rows: Sequence[Float32], scales: Sequence[Scale], barriers: tuple[Barrier, ...]
) -> Aim:
    """Rank by the example that a point is nearest to, in spreads above the background, scaled into -1..1.

    A point that is as near to an example to be avoided stays out. Qdrant's strategy of this name puts it last.
    """
    weights = np.array([part.weight for part in parts])
    spreads = np.array([scale.spread for scale in scales])
    gains = np.abs(weights) * spreads.min() / spreads / np.abs(weights).max()
    means = np.array([scale.mean for scale in scales])
    every = Scoring(np.stack(rows), gains, means)
    return Aim(every.of(weights > 0), barriers, rivals=every.of(weights < 0) if (weights < 0).any() else None)


def _exclusion(part: Part, embedder: _Embedder, gauge: _Gauge) -> list[Barrier]:
    """Bar what shows a thing; a thing in words also where a picture's words name it."""
    words: tuple[Words, ...] = ()
    if part.text is None:
        rows = [embedder.row(part)]
    else:
        rows, words = [embedder.text(text) for text in exclusion.asked_for(part.text)], exclusion.named_by(part.text)
    barriers = []
    for row in rows:
        scale = gauge.scale(row)
        barriers.append(Barrier(row, scale.mean + exclusion.DISTANCE * scale.spread, words))
    return barriers


def _barrier_of_pair(pair: ContextPair, embedder: _Embedder, gauge: _Gauge) -> Barrier:
    """Bar what stands no further above the background with the positive than with the negative."""
    rows = [embedder.row(one) for one in (pair.positive, pair.negative)]
    wanted, unwanted = (gauge.scale(row) for row in rows)
    return Barrier(
        np.asarray(rows[1] / unwanted.spread - rows[0] / wanted.spread, dtype=np.float32),
        unwanted.mean / unwanted.spread - wanted.mean / wanted.spread,
    )


def _mentioned(query: SearchQuery) -> list[Part]:
    pairs = [part for pair in query.context for part in (pair.positive, pair.negative)]
    return [*query.all_parts, *query.exclude, *pairs]


def _embedding_of(asset: AssetId, index: VectorIndex) -> UnitEmbeddings:
    space = index.space
    point = point_id(asset, space.id)
    vector = index.vectors([point]).get(point)
    if vector is None:
        msg = f"asset {asset} has no embedding yet: try again when its ingest has finished"
        raise InvalidQuery(msg)
    return UnitEmbeddings(space, np.asarray(vector, dtype=np.float32)[None])


def require_space(named: str | None, space: Space) -> None:
    """Refuse to answer from another space than the caller counts on. Raises SpaceMismatch."""
    if named is not None and named != space.id:
        raise SpaceMismatch(f"this catalogue answers in {space.id} now, not in {named}: embed again with it")


def checked_vector(vector: Numbers | None, space: Space, *, named_space: str | None) -> UnitEmbeddings:
    """Make a vector (d,) of any length a unit embedding (1, d); `named_space`: what its owner says it is of.

    Raises InvalidQuery, SpaceMismatch.
    """
    require_space(named_space, space)
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


def _fingerprint(query: SearchQuery, tenant: TenantId, space: Space) -> str:
    """Name the question, but not the page: 20 hex digits."""
    asked = (
        tenant,
        space.id,
        [_name(part) for part in query.all_parts],
        [_name(part) for part in query.exclude],
        [(_name(pair.positive), _name(pair.negative)) for pair in query.context],
        query.edit,
        query.strategy,
        query.filter,
        query.prior_search,
    )
    return hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _name(part: Part) -> tuple[str, float]:
    if part.text is not None:
        return f"text {part.text}", part.weight
    if part.image is not None:
        return f"image {hashlib.sha256(part.image).hexdigest()}", part.weight
    if part.asset_id is not None:
        return f"asset {part.asset_id}", part.weight
    return f"vector {np.asarray(part.vector, dtype=np.float64).tobytes().hex()}", part.weight
