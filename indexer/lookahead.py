"""Reading and decoding ahead of the encoder: in order, and never more than a bounded number of pictures and bytes."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from indexer.sources.items import SourceItem
from phosphene import metrics
from phosphene.decoding import DecodedPicture, DecoderPool
from phosphene.errors import PictureError, PictureFault
from phosphene.life import show_life
from phosphene.types import PixelSpec

READERS = 8  # threads; they wait for disks and servers most of the time
MAX_BYTES_AHEAD = 256 * 2**20
UNKNOWN_SIZE = 8 * 2**20  # what a picture of unknown size is taken for, e.g. one on the web


@dataclass(frozen=True, slots=True, eq=False)
class ReadPicture:
    """A picture that was read and decoded, or the reason why not; None: its source says that it is the known one."""

    item: SourceItem
    data: bytes
    decoded: DecodedPicture | PictureError | None


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    item: SourceItem
    weight: int  # bytes
    reading: Future[_Read]


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    item: SourceItem
    data: bytes
    decoding: Future[DecodedPicture] | None


def decode_ahead(
    items: Iterable[SourceItem],
    *,
    decoders: DecoderPool,
    spec: PixelSpec | None,
    max_ahead: int,
    stop: threading.Event,
    max_bytes_ahead: int = MAX_BYTES_AHEAD,
    thumbnail: bool = True,
) -> Generator[ReadPicture]:
    """Yield each item with its picture, in order, while those behind it are being read and decoded.

    At most `max_ahead` pictures and, single large ones apart, `max_bytes_ahead` bytes are held at a time. Ends early
    once `stop` is set.
    """
    readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
    pending: deque[_Pending] = deque()
    held = 0

    def read(item: SourceItem) -> _Read:
        item, data = _read(item)
        if data is None:
            return _Read(item, b"", None)
        return _Read(item, data, decoders.decode(data, spec=spec, thumbnail=thumbnail))

    try:
        for item in items:
            weight = UNKNOWN_SIZE if item.size is None else item.size
            while pending and (len(pending) >= max_ahead or held + weight > max_bytes_ahead):
                held -= pending[0].weight
                yield _finished(pending.popleft())
            if stop.is_set():
                return
            pending.append(_Pending(item, weight, readers.submit(read, item)))
            held += weight
        while pending and not stop.is_set():
            yield _finished(pending.popleft())
    finally:
        readers.shutdown(wait=False, cancel_futures=True)


def _finished(pending: _Pending) -> ReadPicture:
    read = _Read(pending.item, b"", None)
    try:
        read = pending.reading.result()
        decoded: DecodedPicture | PictureError | None = None if read.decoding is None else read.decoding.result()
    except PictureError as error:
        decoded = error
    show_life()
    return ReadPicture(read.item, read.data, decoded)


def _read(item: SourceItem) -> tuple[SourceItem, bytes | None]:
    """Read a picture, None where it is the known one; what is asked gets its fingerprint now."""
    try:
        with metrics.EMBED_STAGES.labels("read").time():
            if item.ask is None:
                return item, item.read()
            answer = item.ask(item.fingerprint)
            return replace(item, fingerprint=answer.fingerprint), answer.data
    except OSError as error:
        raise PictureError(PictureFault.UNREADABLE, f"can't be read: {error.strerror or error}") from error


T = TypeVar("T")
_LOOK_UP_S = 0.2  # how often a waiting thread looks whether it should stop


class Background(Generic[T]):
    """Runs an iterable in a thread of its own, at most `depth` items ahead of whoever iterates here.

    What the iterable raises is raised here, in its place in the order.
    """

    def __init__(self, source: Iterable[T], *, depth: int, stop: threading.Event) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._stop = stop
        here = contextvars.copy_context()  # log lines and signs of life there belong to the job here
        self._thread = threading.Thread(target=here.run, args=(self._run, source), name="intake", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        """Yield the items; end early once `stop` is set."""
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end, after `stop` was set or the last item was taken."""
        self._thread.join(timeout_s)

    def _run(self, source: Iterable[T]) -> None:
        end = _End(None)
        try:
            for item in source:
                if not self._put(item):
                    break
        except BaseException as error:  # noqa: BLE001  raised again in the thread that iterates
            end = _End(error)
        self._put(end)

    def _put(self, item: T | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_UP_S)
            except queue.Full:
                continue
            return True
        return False


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in the queue."""

    error: BaseException | None
