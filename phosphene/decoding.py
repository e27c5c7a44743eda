"""Decoding in processes that can die alone: a picture that crashes, hangs or fills the memory costs itself only.

Each decoder is a small process of its own (`phosphene.decoder_child`: Pillow and numpy, no torch) with its own socket,
its own memory to lay pixels in (`phosphene.decoder_memory`) and its own thread here, which starts it when there is
work, hands it one picture at a time, and replaces it when it died or took too long. Nothing is shared between decoders,
so nothing is left locked or half written by a dead one; there are no semaphores to leak, and `__main__` is not imported
again, as multiprocessing would.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from phosphene import decoder_memory, decoder_wire, metrics
from phosphene.attributes import Attributes
from phosphene.decoder_wire import OUT_OF_MEMORY, Frame
from phosphene.errors import PictureError, PictureFault, Unavailable
from phosphene.images import Limits, PictureInfo, check_bytes
from phosphene.types import Pixels, PixelSpec

MAX_PROCESSES = 8
_START_S = 60.0  # importing Pillow and numpy takes 0.3 s on an idle core
_CHANNEL_BYTES = 1 << 20
_THUMBNAIL_BYTES = 4 << 20  # no JPEG of a preview is larger
_CHILD = "phosphene.decoder_child"
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPicture:
    """What one picture came to: pixels (size, size, 3) for the encoder, a thumbnail as JPEG, each if asked for.

    Attributes come with the thumbnail.
    """

    info: PictureInfo
    pixels: Pixels | None
    thumbnail: bytes | None
    attributes: Attributes | None


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    header: dict[str, Any]
    data: bytes
    max_answer_bytes: int
    parse: Callable[[Frame, mmap.mmap | None], Any]
    future: Future[Any]


class DecoderPool:
    """Decoder processes, started as work arrives. `processes=None`: one for each core, at most 8.

    A task that runs longer than `timeout_s` loses its process; one that needs more than `memory_bytes` of address space
    too. Both are a PictureError of that one picture. Thread-safe. Not to be used across a fork.
    """

    def __init__(self, *, processes: int | None, limits: Limits, timeout_s: float, memory_bytes: int) -> None:
        self.processes = processes or min(os.cpu_count() or 1, MAX_PROCESSES)
        self._limits = limits
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._children: set[_Child] = set()
        self._unfinished = 0
        self._closed = False

    def decode(self, data: bytes, *, spec: PixelSpec | None, thumbnail: bool = True) -> Future[DecodedPicture]:
        """Decode one picture, its attributes with the thumbnail; result() raises PictureError if it can't be used."""
        header = {"spec": asdict(spec) if spec is not None else None, "thumbnail": thumbnail, "side": None}
        shape = (spec.size, spec.size, 3) if spec is not None else None

        def parse(answer: Frame, memory: mmap.mmap | None) -> DecodedPicture:
            return _parse(answer, memory, shape, wants_thumbnail=thumbnail)

        return self._submit(header, data, parse, max_answer_bytes=_THUMBNAIL_BYTES + math.prod(shape or (0,)))

    def resize(self, data: bytes, *, side: int) -> Future[bytes]:
        """Make a JPEG preview whose longer side is at most `side` pixels."""
        return self._submit(
            {"side": side}, data, lambda answer, _: bytes(answer.body), max_answer_bytes=4 * side * side
        )

    def close(self) -> None:
        """End the decoders. Waiting pictures are cancelled; one in work is answered with Unavailable."""
        with self._lock:
            self._closed = True
            threads, children = list(self._threads), list(self._children)
        self._cancel_waiting()
        for child in children:
            child.kill()
        for _ in threads:
            self._tasks.put(None)
        for thread in threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(
        self,
        header: dict[str, Any],
        data: bytes,
        parse: Callable[[Frame, mmap.mmap | None], Any],
        *,
        max_answer_bytes: int,
    ) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            check_bytes(data, self._limits)  # what is refused anyway is not carried over
        except PictureError as error:
            future.set_exception(error)
            return future
        with self._lock:
            if self._closed:
                raise Unavailable("the decoders are closed")
            self._unfinished += 1
            if self._unfinished > len(self._threads) and len(self._threads) < self.processes:
                name = f"phosphene-decoder-{len(self._threads)}"
                thread = threading.Thread(target=self._serve, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._tasks.put(_Task(header, data, max_answer_bytes, parse, future))
        return future

    def _cancel_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                task = self._tasks.get_nowait()
                if task is not None:
                    task.future.cancel()

    def _serve(self) -> None:
        """Run one decoder: the thread's whole life. The thread starts every child it has, as they die with it."""
        child: _Child | None = None
        while (task := self._tasks.get()) is not None:
            if task.future.set_running_or_notify_cancel():
                try:
                    if child is None or not child.alive:
                        self._forget(child)
                        child = self._start()
                    with metrics.EMBED_STAGES.labels("decode").time():
                        answer = child.ask(task, timeout_s=self._timeout_s)
                    task.future.set_result(answer)
                except Exception as error:  # noqa: BLE001  # handed to the caller; the thread goes on with the next picture
                    task.future.set_exception(self._told(error))
            del task
            with self._lock:
                self._unfinished -= 1
        self._forget(child)

    def _told(self, error: Exception) -> Exception:
        return Unavailable("the decoders were closed while they worked on this picture") if self._closed else error

    def _start(self) -> _Child:
        child = _Child(self._limits, memory_bytes=self._memory_bytes, timeout_s=self._timeout_s)
        with self._lock:
            self._children.add(child)
            closed = self._closed
        if closed:
            child.kill()
        try:
            child.wait_until_ready()
        except Unavailable:
            self._forget(child)
            raise
        return child

    def _forget(self, child: _Child | None) -> None:
        if child is not None:
            child.close()
            with self._lock:
                self._children.discard(child)


class _Child:
    """One decoder process, the socket to it, and the memory that it lays pixels in, until the next request."""

    def __init__(self, limits: Limits, *, memory_bytes: int, timeout_s: float) -> None:
        self._memory_bytes = memory_bytes
        self._channel, theirs = socket.socketpair()
        for end in (self._channel, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHANNEL_BYTES)
        cpu_s = math.ceil(2 * timeout_s)
        self.memory, file = decoder_memory.share()
        numbers = (os.getpid(), limits.max_pixels, limits.max_bytes, memory_bytes, cpu_s, file)
        try:
            # -P: a PIL.py in the working folder is not imported.
            self.process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                [sys.executable, "-P", "-m", _CHILD, *map(str, numbers)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_bare_environment(),
                pass_fds=[file] if file != decoder_memory.NO_FILE else [],
            )
        except OSError as error:
            self._let_go()
            raise Unavailable(f"a decoder process can't be started: {error}") from error
        finally:
            theirs.close()
            if file != decoder_memory.NO_FILE:
                os.close(file)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait for its first frame; raises Unavailable with the last line it printed where it can't start."""
        stderr = self.process.stderr
        try:
            decoder_wire.receive_frame(self._channel, max_body_bytes=0, deadline=time.monotonic() + _START_S)
        except (TimeoutError, decoder_wire.Closed) as error:
            self.kill()
            printed = stderr.read().decode(errors="replace").split("\n") if stderr is not None else []
            last = next((line for line in reversed(printed) if line.strip()), f"exit {self.process.returncode}")
            raise Unavailable(f"a decoder process can't be started: {last}") from error
        finally:
            if stderr is not None:
                stderr.close()

    def ask(self, task: _Task, *, timeout_s: float) -> Any:  # noqa: ANN401  what task.parse makes of the answer
        """Send one picture and read the answer. Raises PictureError; afterwards the process may be dead."""
        deadline = time.monotonic() + timeout_s
        try:
            decoder_wire.send_frame(self._channel, task.header, [task.data], deadline=deadline)
            answer = decoder_wire.receive_frame(self._channel, max_body_bytes=task.max_answer_bytes, deadline=deadline)
        except TimeoutError as error:
            self.kill()
            raise PictureError(
                PictureFault.DECODER_TIMED_OUT,
                f"decoding took longer than {timeout_s:g} s and was ended (PHOSPHENE_DECODE_TIMEOUT_S)",
            ) from error
        except decoder_wire.Closed as error:
            raise self._cause_of_death() from error
        try:
            if (fault := answer.header.get("fault")) is not None:
                raise PictureError(PictureFault(fault), str(answer.header.get("message")))
            return task.parse(answer, self.memory)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.kill()
            raise _broke_down() from error

    def _cause_of_death(self) -> PictureError:
        try:
            status = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # it lives, but talks nonsense
            self.kill()
            return _broke_down()
        if status == OUT_OF_MEMORY:
            return PictureError(
                PictureFault.DECODER_DIED,
                f"decoding takes more than {self._memory_bytes >> 20:,} MB of memory (PHOSPHENE_DECODE_MEMORY_BYTES)",
            )
        if status == -signal.SIGXCPU:
            return PictureError(PictureFault.DECODER_TIMED_OUT, "decoding took too much processor time and was ended")
        ended_by = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return PictureError(PictureFault.DECODER_DIED, f"the decoder died on this picture ({ended_by})")

    def kill(self) -> None:
        """End the process. May be called from any thread, and again."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process and leave nothing behind."""
        self.kill()
        self._let_go()

    def _let_go(self) -> None:
        self._channel.close()
        if self.memory is not None:
            self.memory.close()


def _broke_down() -> PictureError:
    return PictureError(PictureFault.DECODER_DIED, "the decoder broke down on this picture")


def _parse(
    answer: Frame, memory: mmap.mmap | None, shape: tuple[int, int, int] | None, *, wants_thumbnail: bool
) -> DecodedPicture:
    pixels, rest = _pixels(answer, memory, shape) if shape is not None else (None, memoryview(answer.body))
    return DecodedPicture(
        info=PictureInfo.of_json(answer.header["info"]),
        pixels=pixels,
        thumbnail=bytes(rest) if wants_thumbnail else None,
        attributes=Attributes.of_json(answer.header["attributes"]) if wants_thumbnail else None,
    )


def _pixels(answer: Frame, memory: mmap.mmap | None, shape: tuple[int, int, int]) -> tuple[Pixels, memoryview]:
    """Give the pixels, as an array that the decoder can't reach, and what the body holds beside them.

    They are as many as were asked for; of what the answer says of itself, only that it claims to have them is heard.
    """
    length, body = math.prod(shape), memoryview(answer.body)
    if answer.header.get("pixels") == list(shape):
        if decoder_memory.has_room(memory, length):
            return np.frombuffer(memory, np.uint8, count=length).reshape(shape).copy(), body
        if len(body) >= length:
            return np.frombuffer(body, np.uint8, count=length).reshape(shape), body[length:]
    raise PictureError(PictureFault.DECODER_DIED, "the decoder gave other pixels than were asked for")


def _bare_environment() -> dict[str, str]:
    """Give the child what Python needs to run and to find us; no keys, no passwords, one thread."""
    kept = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR")
    path = [_PACKAGE_PARENT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "PYTHONPATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
