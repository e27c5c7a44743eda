"""Asking a catalogue its own captions: with their pictures in place, and with these and their lookalikes taken out.

A title or keyword is asked as a text, a picture of the catalogue as a picture. Queries that people judged are asked
beside them. Three things keep that honest:
- Of every second question the caption is not heard as a witness where hits carry it: people ask in the words of the
  titles at times, and at times in others. Always heard, the evidence would be the answer, and nothing else would count;
  never heard, words that are merely near would count for too much.
- Taken out is every picture that would be right, and what looks like one: then whatever comes first is wrong.
- Every second question is asked again under a filter on a field and a value of the catalogue, so that the effect of
  filters is learned from filters.
How often people ask for what a catalogue lacks nobody knows; here it is every second time.

What this costs is bounded however many pictures and titles there are: questions, hits of each, and the titles that are
embedded to be compared with a caption. Only pictures with new words among the closest hits add to that.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

import numpy as np

from phosphene.catalog.catalog import Catalog
from phosphene.errors import Cancelled
from phosphene.filters import Equals, Filter, tenant_filter
from phosphene.life import show_life
from phosphene.nomatch.background import Background, sample_background
from phosphene.nomatch.calibration import Trials
from phosphene.nomatch.decision import gather
from phosphene.nomatch.evidence import FEATURES, HEAD, Float64
from phosphene.nomatch.rightness import Described, Rightness, tokens_of
from phosphene.nomatch.words import WordEmbeddings
from phosphene.types import AssetId, FieldKind, Float32, TenantId, point_id
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery, asset_of

SAMPLE = 20_000  # pictures whose words are read
MOST_CAPTIONS = 2000
MOST_PICTURES = 1000
_DEPTH = 64  # hits that are fetched at first
_DEEPEST = 256  # a caption that more pictures than this answer is asked with all in place only
COMPARED = 12  # hits whose titles are compared with the caption by meaning: HEAD that may be left, and two more
_MET = 10_000  # pictures outside of the sample that are kept in memory, at least
_AT_ONCE = 16
_EMBEDDED_AT_ONCE = 64
_PAGE = 1000
Thing = TypeVar("Thing")
Golden = Mapping[str, Collection[AssetId]]  # texts -> pictures that answer them, as people judged

_FILTERABLE = (FieldKind.KEYWORD, FieldKind.INTEGER, FieldKind.BOOL)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One question to the catalogue."""

    vector: Float32
    tokens: frozenset[str]  # of the caption
    caption: str | None  # plain; None for a picture that has none
    meaning: Float32 | None  # the caption by the text tower, (d,) of length 1
    own: frozenset[AssetId]  # pictures that it was taken from
    itself: AssetId | None  # the picture that is asked
    group: int
    filter: Filter | None
    heard: bool = True  # the caption may be a witness


@dataclass(slots=True)
class _Rows:
    evidence: list[Float64] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)

    def add(self, evidence: Float64 | None, *, right: bool, group: int) -> None:
        if evidence is not None:
            self.evidence.append(evidence)
            self.right.append(right)
            self.groups.append(group)

    def trials(self) -> Trials:
        rows = np.array(self.evidence).reshape(-1, len(FEATURES))
        return Trials(rows, np.array(self.right, dtype=np.bool_), np.array(self.groups, dtype=np.int64))


class Examination:
    """Asks one tenant's catalogue in one space. What it draws by chance follows from `seed`."""

    def __init__(
        self,
        tenant: TenantId,
        *,
        catalog: Catalog,
        index: VectorIndex,
        words: WordEmbeddings,
        stop: threading.Event | None = None,
        seed: int = 0,
    ) -> None:
        """Read a sample of the catalogue. Raises Cancelled once `stop` is set, as asking does."""
        self._stop = stop or threading.Event()
        self._tenant, self._catalog, self._index, self._words = tenant, catalog, index, words
        self._random = np.random.default_rng(seed)
        self._described = {picture.id: picture for picture in self._read_sample()}
        self._sample = list(self._described.values())
        self._background = sample_background(tenant, catalog=catalog, index=index)
        self._in_background = self._describe(self._background.ids)
        self._always_described = dict(self._described)
        self._titled_background = [picture for picture in self._in_background if picture.title]
        self._background_titles = self._embed([picture.title or "" for picture in self._titled_background])
        self.captions = self._captions()
        self._meanings = self._embed(list(self.captions))
        self._rightness = Rightness(self._sample, self._meanings)
        self._filters = self._possible_filters()
        self._shares: dict[Filter, float] = {}
        self._pictures = max(index.count(tenant_filter(tenant, None)), 1)

    def ask_texts(self, *, heard: float = 0.5) -> Trials:
        """Ask captions as texts; of this share of the questions the caption itself may be a witness."""
        asked = [
            Question(vector, tokens_of(caption), caption, vector, self.captions[caption], None, number, None)
            for number, (caption, vector) in enumerate(zip(self.captions, self._meanings, strict=True))
        ]
        rows = _Rows()
        for question, points, cut in self._answers(self._also_filtered(asked)):
            self._try(replace(question, heard=self._random.random() < heard), points, rows, cut=cut)
        return rows.trials()

    def ask_golden(self, queries: Golden) -> Trials:
        """Ask what people have judged: right is what they say answers a question, and what looks like that."""
        first = len(self.captions)
        asked = [
            Question(vector, frozenset(), None, None, frozenset(answers), None, group, None)
            for group, (answers, vector) in enumerate(
                zip(queries.values(), self._embed(list(queries)), strict=True), first
            )
            if answers
        ]
        rows = _Rows()
        for question, points, cut in self._answers(self._also_filtered(asked)):
            self._try(question, points, rows, cut=cut)
        return rows.trials()

    def ask_pictures(self) -> Trials:
        """Ask pictures as pictures: as a copy of one, as one that is not in the catalogue, as one with no like."""
        chosen = self._chosen(self._sample, MOST_PICTURES)
        points = {picture.id: point_id(picture.id, self._index.space.id) for picture in chosen}
        vectors = self._index.vectors(list(points.values()))
        titles = self._embed([picture.title or "" for picture in chosen])
        asked = [
            Question(
                vectors[points[picture.id]],
                tokens_of(picture.title or ""),
                picture.title,
                title if picture.title else None,
                frozenset([picture.id]),
                picture.id,
                number,
                None,
            )
            for number, (picture, title) in enumerate(zip(chosen, titles, strict=True))
            if points[picture.id] in vectors
        ]
        rows = _Rows()
        for question, found, cut in self._answers(self._also_filtered(asked)):
            if question.filter is None and found and asset_of(found[0]) == question.itself:
                rows.add(self.evidence_of(question, found, self._background), right=True, group=question.group)
            others = [point for point in found if asset_of(point) != question.itself]
            self._try(question, others, rows, cut=cut)
        return rows.trials()

    def evidence_of(self, question: Question, points: Sequence[ScoredPoint], background: Background) -> Float64 | None:
        """Give what the hits of a question tell, (features,); None where that is too little to judge by."""
        return gather(
            question.vector,
            points,
            background=background,
            index=self._index,
            words=self._words,
            share=self._share(question.filter),
            hidden=None if question.heard else question.caption,
        )

    def _try(self, question: Question, points: Sequence[ScoredPoint], rows: _Rows, *, cut: bool) -> None:
        """Judge a question's first hits with all in place, then with all that is right taken out.

        `cut`: there are more hits than these.
        """
        if not points:
            return
        right = self._right_among(question, points)
        background = self._background if question.itself is None else self._background.without(question.own)
        evidence = self.evidence_of(question, points, background)
        rows.add(evidence, right=asset_of(points[0]) in right, group=question.group)

        out = right | question.own
        looks = [self._described[id_].phash for id_ in out if id_ in self._described]
        left = list(islice((point for point in points if not self._goes(asset_of(point), out, looks)), HEAD))
        if cut and len(left) < HEAD:
            return  # more would follow what is left: its gaps would not be those of a real list
        out |= self._right_in_background(question)
        absent = frozenset(id_ for id_ in self._background.ids if self._goes(id_, out, looks))
        rows.add(self.evidence_of(question, left, self._background.without(absent)), right=False, group=question.group)

    def _goes(self, id_: AssetId, out: frozenset[AssetId], looks: Sequence[int]) -> bool:
        return id_ in out or (id_ in self._described and self._described[id_].looks_like(looks))

    def _right_among(self, question: Question, points: Sequence[ScoredPoint]) -> frozenset[AssetId]:
        pictures = self._describe([asset_of(point) for point in points])
        looks = [self._described[id_].phash for id_ in question.own if id_ in self._described]
        alike = {picture.id for picture in pictures if picture.looks_like(looks)}
        return self._right_of(question, pictures) | alike

    def _right_of(self, question: Question, hits: Sequence[Described]) -> frozenset[AssetId]:
        """Say which hits, best first, are right: by their words all of them, by what titles mean those compared."""
        compared = self._compared(question, hits)
        cosines: list[float] = []
        if question.meaning is not None and compared:
            cosines = (self._words.rows([picture.title or "" for picture in compared]) @ question.meaning).tolist()
        return self._right_by(question, hits, {hit.id: cosine for hit, cosine in zip(compared, cosines, strict=True)})

    def _compared(self, question: Question, hits: Sequence[Described]) -> list[Described]:
        """Choose the hits whose titles are embedded: the first that words leave open, and the next that share a word.

        Comparing all of them would embed most titles of a catalogue in which each picture has one of its own.
        """
        if question.meaning is None:
            return []
        open_ = [
            hit
            for hit in hits
            if hit.title and hit.id not in question.own and not self._rightness.has_words(question.tokens, hit)
        ]
        sharing = (hit for hit in open_[COMPARED:] if question.tokens & hit.tokens)
        return [*open_[:COMPARED], *islice(sharing, COMPARED)]

    def _right_in_background(self, question: Question) -> frozenset[AssetId]:
        """Say which pictures of the background are right; its titles were embedded once."""
        cosines: dict[AssetId, float] = {}
        if question.meaning is not None:
            found = (self._background_titles @ question.meaning).tolist()
            cosines = {picture.id: cosine for picture, cosine in zip(self._titled_background, found, strict=True)}
        return self._right_by(question, self._in_background, cosines)

    def _right_by(
        self, question: Question, pictures: Sequence[Described], cosines: Mapping[AssetId, float]
    ) -> frozenset[AssetId]:
        return frozenset(
            picture.id
            for picture in pictures
            if picture.id in question.own
            or (
                question.caption is not None
                and self._rightness.is_right(question.tokens, picture, cosine_with_title=cosines.get(picture.id, -1.0))
            )
        )

    def _share(self, asked: Filter | None) -> float:
        if asked is None:
            return 1.0
        if asked not in self._shares:
            self._shares[asked] = max(self._index.count(tenant_filter(self._tenant, asked)), 1) / self._pictures
        return self._shares[asked]

    def _answers(self, asked: Sequence[Question]) -> Iterator[tuple[Question, list[ScoredPoint], bool]]:
        """Ask the index, deeper where too few wrong hits come; tell whether a list is cut."""
        for at in range(0, len(asked), _AT_ONCE):
            self._go_on()
            some = asked[at : at + _AT_ONCE]
            answers = self._index.query([self._query(question, _DEPTH) for question in some])
            for question, points in zip(some, answers, strict=True):
                self._go_on()
                if len(self._described) > len(self._always_described) + _MET:
                    self._described = dict(self._always_described)
                yield question, *self._deep_enough(question, points)

    def _go_on(self) -> None:
        show_life()
        if self._stop.is_set():
            raise Cancelled("asking the catalogue was stopped before it was done")

    def _embed(self, words: Sequence[str]) -> Float32:
        """Embed words, (n, d), and look now and then whether to go on."""
        parts = [self._words.rows([])]
        for at in range(0, len(words), _EMBEDDED_AT_ONCE):
            self._go_on()
            parts.append(self._words.rows(words[at : at + _EMBEDDED_AT_ONCE]))
        return np.concatenate(parts)

    def _deep_enough(self, question: Question, points: list[ScoredPoint]) -> tuple[list[ScoredPoint], bool]:
        limit = _DEPTH
        while len(points) == limit < _DEEPEST and len(points) - len(self._right_among(question, points)) < 2 * HEAD:
            limit *= 2
            points = self._index.query([self._query(question, limit)])[0]
        return points, len(points) == limit

    def _query(self, question: Question, limit: int) -> VectorQuery:
        return VectorQuery(question.vector, limit, tenant_filter(self._tenant, question.filter))

    def _also_filtered(self, asked: Sequence[Question]) -> list[Question]:
        """Add every second question under a filter; half of these are of its own picture, so that it may be found."""
        filtered = []
        for question in asked[::2]:
            mine = self._random.random() < 0.5
            owners = [id_ for id_ in question.own if id_ in self._filters]
            pool = owners if mine and owners else list(self._filters)
            if pool:
                options = self._filters[pool[self._random.integers(len(pool))]]
                chosen = options[self._random.integers(len(options))]
                filtered.append(replace(question, filter=chosen))
        return [*asked, *filtered]

    def _possible_filters(self) -> dict[AssetId, list[Filter]]:
        names = [known.name for known in self._catalog.fields(self._tenant) if known.kind in _FILTERABLE]
        found: dict[AssetId, list[Filter]] = {}
        for at in range(0, len(self._sample), _PAGE):
            ids = [picture.id for picture in self._sample[at : at + _PAGE]]
            for id_, asset in self._catalog.assets(self._tenant, ids).items():
                values = ((name, asset.metadata.get(name)) for name in names)
                filters: list[Filter] = [Equals(name, value) for name, value in values if isinstance(value, str | int)]
                if filters:
                    found[id_] = filters
        return found

    def _captions(self) -> dict[str, frozenset[AssetId]]:
        """Give captions with the pictures that carry each, by chance MOST_CAPTIONS of them."""
        carriers: dict[str, set[AssetId]] = {}
        for picture in self._sample:
            for word in picture.words:
                if tokens_of(word):
                    carriers.setdefault(word, set()).add(picture.id)
        return {word: frozenset(carriers[word]) for word in self._chosen(sorted(carriers), MOST_CAPTIONS)}

    def _chosen(self, things: Sequence[Thing], most: int) -> list[Thing]:
        picked = self._random.permutation(len(things))[:most]
        return [things[at] for at in sorted(picked.tolist())]

    def _read_sample(self) -> Iterator[Described]:
        """Read pictures in the order of their ids, which are hashes: a fair sample."""
        after, read = None, 0
        while read < SAMPLE:
            self._go_on()
            page = self._catalog.page_assets(tenant=self._tenant, after=after, limit=min(_PAGE, SAMPLE - read))
            if not page:
                return
            yield from map(Described.of, page)
            after, read = page[-1].id, read + len(page)

    def _describe(self, ids: Sequence[AssetId]) -> list[Described]:
        unknown = [id_ for id_ in ids if id_ not in self._described]
        for id_, asset in (self._catalog.assets(self._tenant, unknown) if unknown else {}).items():
            self._described[id_] = Described.of(asset)
        return [self._described[id_] for id_ in ids if id_ in self._described]
