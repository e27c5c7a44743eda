"""What calibrating costs, and what it learns from, in a catalogue where each picture has a title of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from phosphene.assemble import Engine, open_engine
from phosphene.catalog.records import NewAsset
from phosphene.errors import Cancelled
from phosphene.nomatch import asking
from phosphene.nomatch.asking import COMPARED, Examination
from phosphene.nomatch.background import SIZE
from phosphene.nomatch.words import WordEmbeddings
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import Float32, RawEmbeddings, point_id, sha256_of
from phosphene.vectors.base import VectorQuery, asset_of
from tests.catalog.samples import Facts
from tests.nomatch.test_deciding import CountingEncoder
from tests.search_api.served import settings_for

PICTURES = 6000
CAPTIONS, ASKED_PICTURES = 30, 20
QUESTIONS = CAPTIONS + ASKED_PICTURES  # nothing can be filtered by


def fill(engine: Engine, titles: Sequence[str], rows: Float32) -> None:
    """Put in pictures with these titles and vectors (n, d)."""
    chance = np.random.default_rng(1)
    looks = [f"{number:016x}" for number in chance.integers(0, 2**63, len(titles)).tolist()]
    facts = [Facts(sha256_of(str(number).encode()), phash=look) for number, look in enumerate(looks)]
    new = [NewAsset(said, f"file:///{said.phash}", title=title) for said, title in zip(facts, titles, strict=True)]
    ids = [one.asset_id for one in engine.catalog.register(None, T, engine.encoder.space.id, new)]
    embeddings = RawEmbeddings(engine.encoder.space, rows).unit()
    points = [point_id(id_, engine.encoder.space.id) for id_ in ids]
    said = [{"tenant": T, "asset_id": str(id_), "title": title} for id_, title in zip(ids, titles, strict=True)]
    engine.index.upsert(points, embeddings, said)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An empty catalogue of which few captions and pictures are asked."""
    monkeypatch.setattr(asking, "MOST_CAPTIONS", CAPTIONS)
    monkeypatch.setattr(asking, "MOST_PICTURES", ASKED_PICTURES)
    with open_engine(settings_for(tmp_path / "data"), command="tests") as opened:
        yield opened


def scattered(engine: Engine) -> Float32:
    shape = (PICTURES, engine.encoder.space.dimension)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("said", ["{}", "photo of {}"])
def test_few_titles_are_embedded_however_many_there_are(made: Engine, said: str) -> None:
    """Also where all of them share a word; else a large catalogue would have most of its titles embedded."""
    fill(made, [said.format(f"x{number:x}") for number in range(PICTURES)], scattered(made))
    counting = CountingEncoder(made.encoder)
    examination = Examination(T, catalog=made.catalog, index=made.index, words=WordEmbeddings(counting))
    assert len(examination.ask_texts()) + len(examination.ask_pictures()) > QUESTIONS
    assert counting.texts > SIZE
    compared = COMPARED if said == "{}" else 2 * COMPARED
    assert counting.texts <= SIZE + CAPTIONS + ASKED_PICTURES + QUESTIONS * (compared + 1)


def test_what_was_met_does_not_stay_for_ever(made: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "SAMPLE", 600)
    monkeypatch.setattr(asking, "_MET", 100)
    fill(made, [f"x{number:x}" for number in range(PICTURES)], scattered(made))
    examination = Examination(T, catalog=made.catalog, index=made.index, words=WordEmbeddings(made.encoder))
    examination.ask_texts()
    assert 600 < len(examination._described) <= 600 + 100 + 2 * asking._DEEPEST


def test_a_list_that_is_cut_off_is_not_learned_from(made: Engine) -> None:
    """Nearly all that is ever fetched is right; what little is left of it would pass for a list of a few hits."""
    rows = np.random.default_rng(0).normal(size=(550, made.encoder.space.dimension)).astype(np.float32)
    alike = 250
    rows[:alike] = rows[0] + 0.05 * rows[:alike]
    fill(made, ["same"] * alike + [f"x{number:x}" for number in range(300)], rows)
    examination = Examination(T, catalog=made.catalog, index=made.index, words=WordEmbeddings(made.encoder))
    trials = examination.ask_pictures()
    right = [trials.right[trials.groups == group].tolist() for group in range(ASKED_PICTURES)]
    assert [True, True] in right  # one of those alike: itself, then another one, and no third question
    assert [True, False, False] in right
    assert [True, True, False] not in right


def test_what_people_judged_is_learned_from_whatever_the_titles_say(made: Engine) -> None:
    """Three pictures are nearest to three texts; people say that two of these are right, and one is not."""
    texts = ["a red boat", "a dog asleep", "an old mill"]
    rows = scattered(made)[:600]
    rows[:3] = made.encoder.encode_texts(texts).unit().rows
    fill(made, [f"IMG_{number}" for number in range(600)], rows)
    answered = made.index.query([VectorQuery(row, 1) for row in rows[:3]])
    boat, dog, _ = (asset_of(points[0]) for points in answered)
    answers = dict(zip(texts, ([boat], [dog], [boat]), strict=True))
    examination = Examination(T, catalog=made.catalog, index=made.index, words=WordEmbeddings(made.encoder))
    trials = examination.ask_golden(answers | {"nothing answers this": []})
    own = [trials.right[trials.groups == len(examination.captions) + number].tolist() for number in range(4)]
    assert own == [[True, False], [True, False], [False, False], []]


def test_stopping_ends_it_while_captions_are_embedded(made: Engine) -> None:
    fill(made, [f"x{number:x}" for number in range(PICTURES)], scattered(made))
    stop = threading.Event()

    class StoppingEncoder(CountingEncoder):
        def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
            stop.set()
            return super().encode_texts(texts)

    stopping = StoppingEncoder(made.encoder)
    with pytest.raises(Cancelled):
        Examination(T, catalog=made.catalog, index=made.index, words=WordEmbeddings(stopping), stop=stop)
    assert 0 < stopping.texts < SIZE
