from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.embedding import embed_assets
from indexer.lookahead import Background, decode_ahead
from indexer.sources.items import SourceItem
from phosphene.decoding import DecoderPool
from phosphene.errors import PictureError, PictureFault, Unavailable
from phosphene.types import Pixels
from tests.indexer.conftest import OpenEngine, save_pictures, watch
from tests.indexer.running import assert_all_is_well, registered_only


class StandInDecoders:
    """Answers at once, for tests of order and bounds; the real ones decode in every other test."""

    def decode(self, data: bytes, *, spec: object, thumbnail: bool) -> Future[Any]:
        assert spec is None
        assert thumbnail
        answer: Future[Any] = Future()
        if data == b"bad":
            answer.set_exception(PictureError(PictureFault.BROKEN, "bad"))
        else:
            answer.set_result(SimpleNamespace(info=data))
        return answer


DECODERS = cast("DecoderPool", StandInDecoders())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 50) | st.none(), max_size=40),
    st.integers(1, 8),
    st.integers(1, 100),
)
def test_order_is_kept_and_bounds_hold(sizes: list[int | None], max_ahead: int, max_bytes: int) -> None:
    lock = threading.Lock()
    held: dict[int, int] = {}
    most = [0, 0]

    def read(number: int, size: int | None) -> bytes:
        with lock:
            held[number] = size or 0
            most[0] = max(most[0], len(held))
            most[1] = max(most[1], sum(held.values()) if len(held) > 1 else 0)
        if number % 7 == 3:
            raise PictureError(PictureFault.UNREADABLE, "gone")
        if number % 7 == 5:
            raise FileNotFoundError(2, "No such file")
        return b"bad" if number % 5 == 4 else str(number).encode()

    def items() -> Any:  # noqa: ANN401  an iterator
        for number, size in enumerate(sizes):
            yield SourceItem(str(number), None, partial(read, number, size), size=size)

    seen = []
    for picture in decode_ahead(
        items(), decoders=DECODERS, spec=None, max_ahead=max_ahead, max_bytes_ahead=max_bytes, stop=threading.Event()
    ):
        seen.append(int(picture.item.uri))
        with lock:
            del held[int(picture.item.uri)]
        number = int(picture.item.uri)
        bad = number % 7 in (3, 5) or number % 5 == 4
        assert isinstance(picture.decoded, PictureError) is bad
    assert seen == list(range(len(sizes)))
    assert most[0] <= max_ahead
    assert most[1] <= max_bytes


def test_stop_ends_reading_ahead() -> None:
    stop = threading.Event()
    taken = 0

    def items() -> Any:  # noqa: ANN401  an iterator
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield SourceItem(str(number), None, lambda: b"x", size=1)

    pictures = decode_ahead(items(), decoders=DECODERS, spec=None, max_ahead=4, stop=stop)
    next(pictures)
    stop.set()
    assert len(list(pictures)) <= 1
    assert taken < 10


def test_the_background_hands_on_items_and_errors_in_order() -> None:
    def source() -> Any:  # noqa: ANN401  an iterator
        yield from range(5)
        raise ValueError("the source broke")

    background = Background(source(), depth=2, stop=threading.Event())
    seen: list[int] = []
    with pytest.raises(ValueError, match="the source broke"):
        seen.extend(background)
    assert seen == [] or seen == list(range(5))
    background.join(10)


def test_the_background_is_never_more_than_its_depth_ahead() -> None:
    made = 0

    def source() -> Any:  # noqa: ANN401  an iterator
        nonlocal made
        for number in range(20):
            made += 1
            yield number

    for taken, _ in enumerate(Background(source(), depth=2, stop=threading.Event()), start=1):
        time.sleep(0.005)
        assert made <= taken + 4


def test_stop_frees_both_sides() -> None:
    stop = threading.Event()
    background = Background(iter(int, 1), depth=2, stop=stop)
    assert next(iter(background)) == 0
    stop.set()
    background.join(10)
    assert not background._thread.is_alive()
    assert list(background) == []


def test_a_task_reads_encodes_and_writes_at_the_same_time(
    tmp_path: Path, open_with: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps wait for a forward pass that could not begin if the parts of a chunk came one after the other."""
    save_pictures(tmp_path / "pictures", 32)
    with open_with(batch_size=32) as engine:
        waiting = registered_only(engine, tmp_path / "pictures")
        begun = [threading.Event() for _ in range(4)]
        read, write = engine.blobs.get, engine.index.upsert
        unread = iter(range(32))
        unwritten = iter(range(4))

        def read_the_last_during_the_first_pass(key: str) -> bytes:
            if next(unread) == 31:
                assert begun[0].wait(60)
            return read(key)

        def write_the_first_during_the_second_pass(*points: Any) -> None:  # noqa: ANN401  the index's
            if next(unwritten) == 0:
                assert begun[1].wait(60)
            write(*points)

        def begin(_: Pixels) -> None:
            next(one for one in begun if not one.is_set()).set()

        monkeypatch.setattr(engine.blobs, "get", read_the_last_during_the_first_pass)
        monkeypatch.setattr(engine.index, "upsert", write_the_first_during_the_second_pass)
        watched = watch(engine, begin)
        assert embed_assets([asset.id for asset in waiting], engine=engine) == 32
        assert watched.batches == [8, 8, 8, 8]
        monkeypatch.undo()
        assert_all_is_well(engine, 32)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_write_that_fails_is_told_and_the_other_part_is_kept(
    tmp_path: Path, open_with: OpenEngine, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    save_pictures(tmp_path / "pictures", 16)
    with open_with(batch_size=16) as engine:
        ids = [asset.id for asset in registered_only(engine, tmp_path / "pictures")]
        write, number = engine.index.upsert, iter(range(2))

        def fail_once(*points: Any) -> None:  # noqa: ANN401  the index's
            if next(number) == failing:
                raise Unavailable("the index is away")
            write(*points)

        monkeypatch.setattr(engine.index, "upsert", fail_once)
        with pytest.raises(Unavailable):
            embed_assets(ids, engine=engine)
        monkeypatch.undo()
        assert embed_assets(ids, engine=engine) == 8
        assert_all_is_well(engine, 16)
