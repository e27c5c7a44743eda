"""Embeddings of queries: remembered, and computed together for callers who ask at the same time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Self

from phosphene import metrics
from phosphene.encoders import Encoder
from phosphene.errors import Unavailable
from phosphene.types import UnitEmbeddings


class _Request:
    """One text that is not embedded yet, of the caller who asked first; later ones wait for it too."""

    __slots__ = ("error", "finished", "result", "text", "turn")

    def __init__(self, text: str) -> None:
        self.text = text
        self.turn = threading.Event()  # its caller goes on: the result is there, or the next batch is its to run
        self.finished = threading.Event()
        self.result: UnitEmbeddings | None = None
        self.error: BaseException | None = None

    def finish(self, *, result: UnitEmbeddings | None = None, error: BaseException | None = None) -> None:
        self.result, self.error = result, error
        self.finished.set()
        self.turn.set()

    def outcome(self) -> UnitEmbeddings:
        if self.result is not None:
            return self.result
        raise self.error or Unavailable("the text was not embedded")


class TextEmbedder:
    """Embeds texts for many threads at once. Thread-safe.

    There is no thread of its own: a caller who finds nobody at work runs the encoder right away, in its own thread,
    and those who come meanwhile form the next batch, which the first of them runs. So a lone query pays nothing for
    batching, no error can end the machinery, and an error reaches only those who asked for that text.
    """

    def __init__(self, encoder: Encoder, *, cache_size: int = 10_000, max_batch: int = 64) -> None:
        self._encoder = encoder
        self._cache_size = cache_size
        self._max_batch = max_batch
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, UnitEmbeddings] = OrderedDict()
        self._unfinished: dict[str, _Request] = {}
        self._waiting: deque[_Request] = deque()
        self._busy = False
        self._began: float | None = None  # when the batch under way began, by time.monotonic()
        self._closed = False

    def embed(self, text: str) -> UnitEmbeddings:
        """Embed one text: (1, d), its rows read-only as they are shared. Raises what the encoder raises."""
        with self._lock:
            remembered = self._remembered.get(text)
            if remembered is not None:
                self._remembered.move_to_end(text)
                metrics.TEXT_EMBEDDINGS.labels("hit").inc()
                return remembered
            if self._closed:
                raise Unavailable("the text embedder is closed")
            request = self._unfinished.get(text)
            first = request is None
            metrics.TEXT_EMBEDDINGS.labels("miss" if first else "shared").inc()
            if request is None:
                request = self._unfinished[text] = _Request(text)
                if self._busy:
                    self._waiting.append(request)
                else:
                    self._busy = True
                    request.turn.set()
        if not first:
            request.finished.wait()
            return request.outcome()
        try:
            request.turn.wait()
        except BaseException:  # Ctrl-C in this thread: others must not wait for it
            self._give_up(request)
            raise
        if not request.finished.is_set():
            self._run_batch_of(request)
        return request.outcome()

    @property
    def busy_s(self) -> float:
        """How long the model has been at the batch under way; 0 where it rests."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def close(self) -> None:
        """Take no more texts, forget the known ones; those in work are finished by their callers."""
        with self._lock:
            self._closed = True
            self._remembered.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_batch_of(self, request: _Request) -> None:
        """Embed this request and the waiting ones with it, then hand the work to the next who waits."""
        with self._lock:
            batch = [request]
            while self._waiting and len(batch) < self._max_batch:
                batch.append(self._waiting.popleft())
        self._began = time.monotonic()
        try:
            self._embed_all(batch)
        finally:
            self._began = None
            self._finish_rest(batch)
            self._hand_over()

    def _embed_all(self, batch: Sequence[_Request]) -> None:
        try:
            unit = self._encoder.encode_texts([request.text for request in batch]).unit()
        except Exception as error:  # noqa: BLE001  # told to the callers
            if len(batch) == 1:
                batch[0].finish(error=error)
                return
            for request in batch:  # one of them is at fault; the others are not
                self._embed_all([request])
            return
        metrics.TEXT_BATCH.observe(len(batch))
        unit.rows.flags.writeable = False
        results = [UnitEmbeddings(unit.space, unit.rows[at : at + 1]) for at in range(len(batch))]
        with self._lock:
            for request, result in zip(batch, results, strict=True):
                self._remember(request.text, result)
        for request, result in zip(batch, results, strict=True):
            request.finish(result=result)

    def _remember(self, text: str, result: UnitEmbeddings) -> None:
        if self._cache_size < 1 or self._closed:
            return
        self._remembered[text] = result
        while len(self._remembered) > self._cache_size:
            self._remembered.popitem(last=False)

    def _finish_rest(self, batch: Sequence[_Request]) -> None:
        """Forget what is done; after Ctrl-C in the middle of the work, tell the others too."""
        with self._lock:
            for request in batch:
                self._unfinished.pop(request.text, None)
        for request in batch:
            if not request.finished.is_set():
                request.finish(error=Unavailable("embedding was interrupted; try again"))

    def _hand_over(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().turn.set()
            else:
                self._busy = False

    def _give_up(self, request: _Request) -> None:
        with self._lock:
            was_waiting = request in self._waiting
            if was_waiting:
                self._waiting.remove(request)
        if not request.finished.is_set():
            self._finish_rest([request])
            if not was_waiting and request.turn.is_set():  # it had been handed the work
                self._hand_over()
