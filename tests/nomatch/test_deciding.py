"""Decisions on a real catalogue, calibrated and not. Nothing here depends on how good the model's weights are."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from phosphene.assemble import Engine, open_engine
from phosphene.catalog.records import Asset, CalibrationRecord
from phosphene.errors import InvalidInput, Overloaded
from phosphene.filters import Equals
from phosphene.nomatch import decision
from phosphene.nomatch.asking import Examination
from phosphene.nomatch.decision import Match, z_threshold
from phosphene.nomatch.evidence import FEATURES, GROUPS
from phosphene.nomatch.words import WordEmbeddings, words_of
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import Modality, RawEmbeddings, Sha256, TenantId, point_id
from phosphene.vectors.base import VectorQuery
from search_api.search import SearchQuery, run_search
from tests.search_api.served import PICTURES, png, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from phosphene.encoders import Encoder

NONSENSE = ("qwpoeiruty zzzxx", "gfhjdk slaqz", "0x7f 9981 %%%%", "lorem ipsum dolor", "nnnnnnnn")


def ask(engine: Engine, **question: object) -> Match:
    return run_search(SearchQuery(**question), engine=engine, tenant=T).match  # type: ignore[arg-type]  # a test's own


def pictures(engine: Engine) -> list[Asset]:
    return engine.catalog.page_assets(tenant=T, after=None, limit=1000)


def original(engine: Engine, asset: Asset) -> bytes:
    key = next(key for key in engine.blobs.keys("originals") if asset.sha256 in key)
    return engine.blobs.get(key)


def remove(engine: Engine, assets: Sequence[Asset]) -> None:
    for asset in assets:
        engine.index.delete([point_id(asset.id, engine.index.space.id)])
        engine.catalog.delete_asset(T, asset.id)
    engine.judge.forget(T)


def test_without_calibration_the_answer_says_so(uncalibrated: Engine) -> None:
    match = ask(uncalibrated, text="a dog")
    assert not match.calibrated
    assert not match.stale
    assert match.probability is None
    assert match.z_score is not None
    assert match.threshold == z_threshold(PICTURES)
    assert match.matched is (match.z_score >= match.threshold)
    assert "rule of thumb" in match.note
    assert "not calibrated: run `phosphene calibrate`" in match.note


def test_calibrated_answers_carry_a_probability_for_texts_and_pictures(engine: Engine) -> None:
    asset = pictures(engine)[0]
    for question in ({"text": "a dog"}, {"image": png(1)}, {"asset_id": asset.id}):
        match = ask(engine, **question)
        assert match.calibrated
        assert not match.stale
        assert match.probability is not None
        assert 0 < match.probability < 1
        assert match.matched is (match.probability >= match.threshold)
        assert ("nearest, not a match" in match.note) is not match.matched
    bare = ask(engine, vector=np.ones(engine.index.space.dimension))
    assert not bare.calibrated  # it could be of a text or of a picture
    assert not bare.stale
    assert "phosphene calibrate" not in bare.note  # would not help


def test_the_catalogues_own_pictures_are_matches_and_noise_is_not(engine: Engine) -> None:
    own = [ask(engine, image=original(engine, asset)) for asset in pictures(engine)[:20]]
    noise = [ask(engine, image=png(seed)) for seed in range(20)]
    assert sum(match.matched for match in own) >= 19
    assert sum(match.matched for match in noise) <= 3


def test_titles_are_likelier_matches_than_nonsense(engine: Engine) -> None:
    titles = [ask(engine, text=asset.title).probability for asset in pictures(engine)[:60] if asset.title]
    nonsense = [ask(engine, text=text).probability for text in NONSENSE]
    assert np.mean([p for p in titles if p is not None]) > 3 * np.mean([p for p in nonsense if p is not None])


def test_every_page_of_a_question_has_the_same_match(engine: Engine) -> None:
    first = run_search(SearchQuery(text="a dog", limit=3), engine=engine, tenant=T)
    second = run_search(SearchQuery(text="a dog", limit=3, cursor=first.next_cursor), engine=engine, tenant=T)
    large = run_search(SearchQuery(text="a dog", limit=50), engine=engine, tenant=T)
    assert not {hit.asset.id for hit in first.hits} & {hit.asset.id for hit in second.hits}
    for other in (second, large):
        assert other.match.probability == pytest.approx(first.match.probability, abs=1e-4)
        assert other.match.matched is first.match.matched


def test_the_picture_asked_with_is_no_match_of_itself(engine: Engine) -> None:
    """More-like-this leaves the picture out; once all its likes are gone, nothing matches as well as it did itself."""
    asset = pictures(engine)[0]
    uploaded = ask(engine, image=original(engine, asset)).probability
    like = ask(engine, asset_id=asset.id).probability
    assert uploaded is not None
    assert like is not None
    assert like < uploaded


def test_a_filter_that_nothing_passes_has_no_match(engine: Engine) -> None:
    match = ask(engine, text="a dog", filter=Equals("category", "no such category"))
    assert not match.matched
    assert match.note.startswith("nothing found")


def test_the_threshold_itself_is_a_match_and_what_is_just_below_is_not(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    probability = ask(engine, text="a dog").probability
    assert probability is not None
    (kept,) = [one for one in engine.catalog.calibrations(T) if one.modality is Modality.TEXT]
    for threshold, matched in ((probability, True), (float(np.nextafter(probability, 1)), False)):
        engine.catalog.store_calibration(T, replace(kept, content={**kept.content, "threshold": threshold}))
        engine.judge.forget(T)
        match = ask(engine, text="a dog")
        assert (match.probability, match.threshold, match.matched) == (probability, threshold, matched)
    # Without a calibration the same holds for the z-score.
    bare = {"vector": np.ones(engine.index.space.dimension)}
    z_score = ask(engine, **bare).z_score
    assert z_score is not None
    for threshold, matched in ((z_score, True), (float(np.nextafter(z_score, np.inf)), False)):
        monkeypatch.setattr(decision, "z_threshold", lambda _, at=threshold: at)
        assert ask(engine, **bare).matched is matched


def test_growth_by_a_fifth_makes_it_stale_and_it_still_answers(engine: Engine) -> None:
    assert not ask(engine, text="a dog").stale
    remove(engine, pictures(engine)[: PICTURES // 5 + 1])
    match = ask(engine, text="a dog")
    assert match.calibrated
    assert match.stale
    assert "has changed since this was calibrated" in match.note
    assert all(one.stale for one in engine.judge.standing(T))
    engine.calibrate(T)
    assert not ask(engine, image=png(1)).stale


def test_another_model_asks_for_another_calibration(uncalibrated: Engine) -> None:
    other = replace(uncalibrated.encoder.space, weights_sha256=Sha256("f" * 64))
    uncalibrated.catalog.record_space(other)
    now = pictures(uncalibrated)[0].added_at
    uncalibrated.catalog.store_calibration(T, CalibrationRecord(other.id, Modality.TEXT, {}, now))
    match = ask(uncalibrated, text="a dog")
    assert (match.calibrated, match.stale) == (False, True)
    assert "calibrated for another model" in match.note


def test_a_calibration_that_cannot_be_read_is_left_out(engine: Engine) -> None:
    unreadable = CalibrationRecord(engine.index.space.id, Modality.IMAGE, {"x": 1}, pictures(engine)[0].added_at)
    engine.catalog.store_calibration(T, unreadable)
    engine.judge.forget(T)
    assert ask(engine, text="a dog").calibrated
    assert not ask(engine, image=png(1)).calibrated
    assert [outcome.reason for outcome in engine.calibrate(T)] == [None, None]
    assert ask(engine, image=png(1)).calibrated


@pytest.mark.parametrize("damage", [lambda kept: kept[: len(kept) // 2], lambda _: b"", lambda _: b"garbage"])
def test_damaged_words_are_embedded_anew(
    calibrated_folder: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    folder = Path(shutil.copytree(calibrated_folder, tmp_path / "damaged"))
    kept = next(path for path in folder.rglob("*.npz") if "words" in str(path))
    kept.write_bytes(damage(kept.read_bytes()))
    with open_engine(settings_for(folder), command="tests") as opened:
        assert ask(opened, text="a dog").calibrated


def test_a_model_that_embeds_late_gets_its_background(uncalibrated: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    index, question = uncalibrated.index, {"vector": np.ones(uncalibrated.index.space.dimension)}
    points = [point_id(asset.id, index.space.id) for asset in pictures(uncalibrated)]
    vectors = index.vectors(points)
    payloads = {one.id: one.payload for one in index.query([VectorQuery(vectors[points[0]], PICTURES)])[0]}
    index.delete(points[1:])
    assert "too few pictures" in ask(uncalibrated, **question).note
    rows = RawEmbeddings(index.space, np.stack([vectors[point] for point in points])).unit()
    index.upsert(points, rows, [payloads[point] for point in points])
    monkeypatch.setattr(decision, "monotonic", lambda: time.monotonic() + 60)  # what was known is no longer fresh
    assert "standard deviations" in ask(uncalibrated, **question).note


def test_the_picture_asked_with_is_no_part_of_its_background(uncalibrated: Engine) -> None:
    everyone = pictures(uncalibrated)
    points = [point_id(asset.id, uncalibrated.index.space.id) for asset in everyone]
    vectors = uncalibrated.index.vectors(points)
    cosines = np.sort([vectors[points[0]] @ vectors[point] for point in points[1:]])
    z_score = ask(uncalibrated, asset_id=everyone[0].id).z_score
    assert z_score == pytest.approx((cosines[-1] - cosines[:-1].mean()) / cosines[:-1].std(), rel=0.02)


def test_what_was_read_before_a_calibration_is_not_kept_after_it(
    uncalibrated: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, read = uncalibrated.judge, uncalibrated.judge._read

    def slow_read(*known: Any) -> Any:  # noqa: ANN401  the judge's own
        found = read(*known)
        judge.forget(T)  # as a calibration does that is stored meanwhile
        return found

    monkeypatch.setattr(judge, "_read", slow_read)
    ask(uncalibrated, text="a dog")
    assert T not in judge._known


def test_tenants_calibrate_for_themselves(engine: Engine) -> None:
    match = run_search(SearchQuery(text="a dog"), engine=engine, tenant=TenantId("other")).match
    assert not match.matched
    assert not match.calibrated
    outcomes = engine.calibrate(TenantId("other"))
    assert all("too little to learn from" in str(one.reason) for one in outcomes)
    assert ask(engine, text="a dog").calibrated


def test_a_few_pictures_are_too_few_to_tell(engine: Engine) -> None:
    remove(engine, pictures(engine)[5:])
    match = ask(engine, text="a dog")
    assert not match.matched
    assert match.z_score is None
    assert "too few pictures" in match.note


def test_a_promise_that_is_none_is_refused(engine: Engine) -> None:
    for rate in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InvalidInput, match="false-match rate"):
            engine.calibrate(T, false_match_rate=rate)


def test_one_calibration_at_a_time(engine: Engine) -> None:
    engine._calibrating.acquire()
    with pytest.raises(Overloaded, match="under way"):
        engine.calibrate(T)


def test_a_stopped_calibration_leaves_what_was(engine: Engine) -> None:
    before = engine.catalog.calibrations(T)
    stop = threading.Event()
    stop.set()
    outcomes = engine.calibrate(T, stop=stop)
    assert [one.reason for one in outcomes] == ["stopped before it was done"] * 2
    assert engine.catalog.calibrations(T) == before


class CountingEncoder:
    """Passes texts on to the real encoder, and counts them."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self.space, self.texts = encoder, encoder.space, 0
        self.logit_scale = encoder.logit_scale

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        self.texts += len(texts)
        return self._encoder.encode_texts(texts)

    def encode_pixels(self, pixels: object) -> RawEmbeddings:
        raise NotImplementedError


def test_words_are_embedded_once_and_known_after_a_restart(engine: Engine) -> None:
    carried = sorted(
        {word for asset in pictures(engine) for word in words_of({**asset.metadata, "title": asset.title})}
    )
    counting = CountingEncoder(engine.encoder)
    words = WordEmbeddings(counting)
    words.load(engine.blobs)  # what calibrating kept
    rows = words.rows(carried)
    assert counting.texts == 0
    fresh = engine.encoder.encode_texts(carried).unit().rows
    assert np.abs(rows - fresh).max() < 2e-3  # kept with 16 bits
    words.rows(["a word that nobody carries", "a word that nobody carries"])
    words.rows(["a word that nobody carries"])
    assert counting.texts == 1


def test_few_words_are_remembered_where_few_may_be(engine: Engine) -> None:
    counting = CountingEncoder(engine.encoder)
    words = WordEmbeddings(counting, remembered=2)
    words.rows(["one", "two", "three"])
    words.rows(["two", "three"])
    assert counting.texts == 3
    words.rows(["one"])
    assert counting.texts == 4


def test_a_caption_that_is_not_heard_is_no_witness_of_its_own(engine: Engine) -> None:
    """Always heard, words would tell right from wrong nearly by themselves, and calibration would trust only them."""
    examination = Examination(T, catalog=engine.catalog, index=engine.index, words=engine.judge.words)
    unheard, heard = examination.ask_texts(heard=0.0), examination.ask_texts(heard=1.0)
    assert unheard.right.any()
    for trials, known in ((unheard, False), (heard, True)):
        best = trials.evidence[trials.right, FEATURES.index("words_at_best")]
        assert bool((best > 0.999).mean() > 0.5) is known  # the caption itself has a cosine of 1


def test_what_is_taken_out_leaves_only_wrong_hits(engine: Engine) -> None:
    examination = Examination(T, catalog=engine.catalog, index=engine.index, words=engine.judge.words)
    for trials in (examination.ask_texts(), examination.ask_pictures()):
        per_group = np.bincount(trials.groups)
        assert per_group.max() >= 3  # in place, taken out, under a filter
        assert trials.right.mean() <= 0.55
        assert np.isfinite(trials.evidence[:, FEATURES.index("top")]).all()
        assert (trials.evidence[:, FEATURES.index("selectivity")] < 0).any()
        for name in GROUPS["background"]:
            assert np.isfinite(trials.evidence[:, FEATURES.index(name)]).all()


def test_asking_the_same_catalogue_again_gives_the_same(engine: Engine) -> None:
    asked = [
        Examination(T, catalog=engine.catalog, index=engine.index, words=engine.judge.words).ask_texts()
        for _ in range(2)
    ]
    assert asked[0].evidence == pytest.approx(asked[1].evidence, nan_ok=True, abs=1e-4)
    assert (asked[0].right == asked[1].right).all()
