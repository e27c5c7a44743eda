from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from phosphene.encoders import Encoder, load_encoder
from phosphene.errors import InvalidInput, Unavailable
from phosphene.text_embedding import TextEmbedder
from phosphene.types import Pixels, RawEmbeddings, UnitEmbeddings
from tests.encoders.checkpoints import SMALL_CLIP, save_model

WAIT_S = 20


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_model(tmp_path_factory.mktemp("texts") / "tiny", SMALL_CLIP)))


class GatedEncoder:
    """A real encoder that notes its batches, may be held up, and refuses texts with "bad" in them."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.space = encoder.space
        self.logit_scale = encoder.logit_scale
        self.batches: list[list[str]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        return self._encoder.encode_pixels(pixels)

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        self.batches.append(list(texts))
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if any("interrupt" in text for text in texts):
            raise KeyboardInterrupt
        if any("bad" in text for text in texts):
            raise InvalidInput("a bad text")
        return self._encoder.encode_texts(texts)


@pytest.fixture
def gated(encoder: Encoder) -> GatedEncoder:
    return GatedEncoder(encoder)


@contextmanager
def callers_of(embedder: TextEmbedder, count: int = 16) -> Iterator[ThreadPoolExecutor]:
    """Give threads to ask from. Where a test fails, those that still wait are let go, or it would hang instead."""
    with ThreadPoolExecutor(count) as threads:
        try:
            yield threads
        except BaseException:
            for request in list(embedder._unfinished.values()):
                request.finish(error=Unavailable("left waiting"))
            raise


def ask_while_busy(
    embedder: TextEmbedder, gated: GatedEncoder, threads: ThreadPoolExecutor, texts: Sequence[str]
) -> list[Future[UnitEmbeddings]]:
    """Hold the encoder up with the first text while the others arrive."""
    gated.gate.clear()
    futures = [threads.submit(embedder.embed, texts[0])]
    assert gated.entered.acquire(timeout=WAIT_S)
    distinct = {texts[0]}
    for text in texts[1:]:
        futures.append(threads.submit(embedder.embed, text))
        distinct.add(text)
        for _ in range(10_000):  # until it has arrived, so that the order is certain
            if len(embedder._unfinished) == len(distinct):
                break
            threading.Event().wait(0.001)
    threading.Event().wait(0.05)  # repeated texts leave no trace to wait for
    return futures


def test_an_embedding_is_that_of_the_encoder_at_unit_length(encoder: Encoder) -> None:
    with TextEmbedder(encoder) as embedder:
        made = embedder.embed("a red bus")
    assert made.rows.shape == (1, 48)
    assert made.space == encoder.space
    assert np.allclose(made.rows, encoder.encode_texts(["a red bus"]).unit().rows, atol=1e-6)


def test_known_texts_are_not_embedded_again(gated: GatedEncoder) -> None:
    embedder = TextEmbedder(gated)
    first = embedder.embed("cat")
    assert embedder.embed("cat") is first
    assert gated.batches == [["cat"]]
    with pytest.raises(ValueError, match="read-only"):
        first.rows[0, 0] = 7


def test_the_least_recently_used_text_is_forgotten(gated: GatedEncoder) -> None:
    embedder = TextEmbedder(gated, cache_size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        embedder.embed(text)
    assert gated.batches == [["a"], ["b"], ["c"], ["b"]]
    nothing = TextEmbedder(gated, cache_size=0)
    nothing.embed("x")
    nothing.embed("x")
    assert gated.batches[-2:] == [["x"], ["x"]]


def test_a_lone_caller_embeds_in_its_own_thread(encoder: Encoder) -> None:
    seen: list[int] = []

    class Noting(GatedEncoder):
        def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
            seen.append(threading.get_ident())
            return super().encode_texts(texts)

    TextEmbedder(Noting(encoder)).embed("cat")
    assert seen == [threading.get_ident()]


def test_callers_who_arrive_during_a_batch_form_the_next(gated: GatedEncoder) -> None:
    embedder = TextEmbedder(gated, max_batch=3)
    with callers_of(embedder) as threads:
        futures = ask_while_busy(embedder, gated, threads, ["first", "a", "b", "c", "d", "e"])
        gated.gate.set()
        rows = [future.result(WAIT_S).rows for future in futures]
    assert gated.batches == [["first"], ["a", "b", "c"], ["d", "e"]]
    for text, row in zip(["first", "a", "b", "c", "d", "e"], rows, strict=True):
        assert np.allclose(row, gated._encoder.encode_texts([text]).unit().rows, atol=1e-5)


def test_equal_texts_in_flight_are_embedded_once(gated: GatedEncoder) -> None:
    embedder = TextEmbedder(gated)
    with callers_of(embedder) as threads:
        futures = ask_while_busy(embedder, gated, threads, ["cat", "cat", "cat", "dog", "dog"])
        gated.gate.set()
        results = [future.result(WAIT_S) for future in futures]
    assert gated.batches == [["cat"], ["dog"]]
    assert results[0] is results[1] is results[2]


def test_an_error_reaches_only_those_who_asked_for_it(gated: GatedEncoder) -> None:
    embedder = TextEmbedder(gated)
    with callers_of(embedder) as threads:
        futures = ask_while_busy(embedder, gated, threads, ["bad first", "good", "bad second", "bad second", "fine"])
        gated.gate.set()
        for future, text in zip(futures, ("bad", "good", "bad", "bad", "fine"), strict=True):
            if text == "bad":
                with pytest.raises(InvalidInput, match="a bad text"):
                    future.result(WAIT_S)
            else:
                assert len(future.result(WAIT_S)) == 1
    assert embedder.embed("afterwards").rows.shape == (1, 48)
    with pytest.raises(InvalidInput):
        embedder.embed("bad second")  # an error is not remembered: the encoder is asked again
    assert gated.batches[-1] == ["bad second"]


def test_an_interrupted_caller_leaves_nobody_waiting(gated: GatedEncoder) -> None:
    embedder = TextEmbedder(gated)
    with callers_of(embedder) as threads:
        futures = ask_while_busy(embedder, gated, threads, ["interrupt", "a", "b"])
        gated.gate.set()
        with pytest.raises(KeyboardInterrupt):
            futures[0].result(WAIT_S)
        assert [len(future.result(WAIT_S)) for future in futures[1:]] == [1, 1]
    assert len(embedder.embed("afterwards")) == 1


def test_a_closed_embedder_finishes_its_work_and_takes_no_more(gated: GatedEncoder) -> None:
    embedder = TextEmbedder(gated)
    embedder.embed("known")
    with callers_of(embedder) as threads:
        futures = ask_while_busy(embedder, gated, threads, ["a", "b"])
        embedder.close()
        for text in ("new", "known"):
            with pytest.raises(Unavailable, match="closed"):
                embedder.embed(text)
        gated.gate.set()
        assert [len(future.result(WAIT_S)) for future in futures] == [1, 1]


# Not shrunk: each failure may take WAIT_S.
@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(st.sampled_from(["cat", "dog", "bus", "bad", "boat", "sky"]), min_size=1, max_size=40))
def test_any_mixture_of_callers_gets_what_each_asked_for(encoder: Encoder, texts: list[str]) -> None:
    embedder = TextEmbedder(GatedEncoder(encoder), cache_size=3, max_batch=4)

    def ask(text: str) -> UnitEmbeddings | str:
        try:
            return embedder.embed(text)
        except InvalidInput as error:
            return str(error)

    with callers_of(embedder, 12) as threads:
        answers = list(threads.map(ask, texts, timeout=WAIT_S))
    for text, answer in zip(texts, answers, strict=True):
        if text == "bad":
            assert answer == "a bad text"
        else:
            assert isinstance(answer, UnitEmbeddings)
            assert np.allclose(answer.rows, encoder.encode_texts([text]).unit().rows, atol=1e-5)
    assert not embedder._unfinished
    assert not embedder._busy
