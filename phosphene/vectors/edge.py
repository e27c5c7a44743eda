"""The embedded index: Qdrant's Rust engine in this process, one folder a space, one process a folder.

What the engine does, as measured at 100,000 points of 512 numbers, and what follows from it here:
- Every call holds the GIL: writes go in steps of 256 points, long work (the graph) goes to a child process.
- An operation is safe from kill -9 when the call returns, and from a power cut when its write-ahead log is on the disk.
  The engine's `flush` takes 0.13 s with the GIL held, fsync of the log 0.02 s without: so a write call ends with an
  fsync of the log, which the engine replays on load, and a flush comes once in a few thousand points.
- A bad point in a batch leaves the good ones written and a log entry that fails again: all is checked before.
- Bool filters find nothing, NaN is taken silently: see conditions.py and checks.py.
- Damage can lose points without a word on load: `count()` against the catalogue tells.
- A child of a fork can't use it: open it after any fork.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self
from uuid import UUID

from phosphene.errors import SpaceMismatch, Unavailable
from phosphene.filters import Filter
from phosphene.types import Field, Float32, PointId, Space, UnitEmbeddings
from phosphene.vectors.base import Payload, ScoredPoint, StoredPoint, VectorQuery, WordQuery
from phosphene.vectors.checks import (
    RESERVED_FIELDS,
    check_query,
    check_words,
    checked_payload,
    checked_points,
    indexed_fields,
)
from phosphene.vectors.edge_shard import EdgeShard, ShardShape, Translated
from phosphene.vectors.folder import IndexFolder, Pointer, copy_sparse, seals
from phosphene.vectors.pointers import sync
from phosphene.vectors.ties import most_tied, nearest, parts

Profile = Literal["flat", "graph"]

GRAPH_FROM = 20_000  # points outside the graph that are worth a new one

_POINTS_A_CALL = 256
_QUERIES_A_CALL = 16
_FLUSH_AFTER_POINTS = 4096
_SPARE_BYTES = 128 * 2**20  # the log grows by 32 MB at a time, and a full disk under a memory map ends the process
_LATE_POINTS_UNDER_LOCK = 1024
_CATCH_UP_ROUNDS = 20


class EdgeIndex:
    """A VectorIndex in a folder of its own, thread-safe, held by one process.

    `flat`: TurboQuant codes of 4 bits compared one by one, the best 3 x limit again at full precision. `graph`: an HNSW
    graph over the same codes, for more than about 300,000 points; `optimise` builds it. A folder can change profile.
    """

    def __init__(self, folder: IndexFolder, *, shard: EdgeShard, space: Space, shape: ShardShape) -> None:
        self._folder, self._shard, self._space, self._shape = folder, shard, space, shape
        self._closed = False
        self._calls = threading.Lock()  # around each call, so that nobody uses a shard that is being swapped
        self._writes = threading.RLock()  # one write call at a time
        self._optimising = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._late: set[PointId] | None = None  # written since the copy that a child works on
        self._unflushed = 0

    @classmethod
    def open(cls, folder: Path, space: Space, *, profile: Profile, graph_from: int = GRAPH_FROM) -> Self:
        """Open or create the index of a space.

        Raises DataFolderInUse, SpaceMismatch if the folder holds another space, DamagedData.
        """
        shape = ShardShape(space.dimension, profile, graph_from)
        home = IndexFolder.claim(folder)
        try:
            pointer = home.pointer()
            if pointer is None:
                shard = _create(home, space, shape)
            else:
                _check_space(folder, pointer, space)
                shard = EdgeShard.load(home.shard(pointer.shard), shape)
                _declare_words(home, shard)
            home.sweep(shard.path.name)
        except BaseException:
            home.release()
            raise
        return cls(home, shard=shard, space=space, shape=shape)

    @staticmethod
    def discard(folder: Path) -> None:
        """Delete an index that can't be opened any more, to build it anew. Raises DataFolderInUse."""
        home = IndexFolder.claim(folder)
        try:
            shutil.rmtree(folder)
        finally:
            home.release()

    @property
    def space(self) -> Space:
        """The space of all vectors in here."""
        return self._space

    def declare(self, fields: Sequence[Field]) -> None:
        """Make the payload indexes that filters on these fields need."""
        with self._writing([]):
            for field in indexed_fields(fields):
                with self._calling() as shard:
                    shard.declare(field.name, field.kind)

    def upsert(self, ids: Sequence[PointId], embeddings: UnitEmbeddings, payloads: Sequence[Payload]) -> None:
        """Write points, replacing those of the same id."""
        points = checked_points(self._space, ids, embeddings, payloads)
        with self._writing(ids):
            for some in parts(points, _POINTS_A_CALL):
                with self._calling() as shard:
                    shard.upsert(some)

    def set_payloads(self, ids: Sequence[PointId], payloads: Sequence[Payload]) -> None:
        """Replace whole payloads of points that exist; an unknown id is ignored."""
        fresh = dict(zip(ids, map(checked_payload, payloads), strict=True))
        with self._writing(ids):
            for some in parts(fresh, _POINTS_A_CALL):
                with self._calling() as shard:
                    shard.overwrite_payloads({identifier: fresh[identifier] for identifier in some})

    def delete(self, ids: Sequence[PointId]) -> None:
        """Remove points; an unknown id is ignored."""
        with self._writing(ids):
            for some in parts(ids, _POINTS_A_CALL):
                with self._calling() as shard:
                    shard.delete(some)

    def query(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        """Answer each query with its nearest points, best first, ties by id."""
        for query in queries:
            check_query(self._space, query)
        return nearest(queries, self._ask, at_once=_QUERIES_A_CALL)

    def _ask(self, asked: Sequence[tuple[VectorQuery, int]]) -> list[list[ScoredPoint]]:
        with self._calling() as shard:
            return shard.query(asked)

    @property
    def ranks_words(self) -> bool:
        """Whether the engine can look words up."""
        return True

    def query_words(self, queries: Sequence[WordQuery]) -> list[list[ScoredPoint]]:
        """Answer each query with the points whose words fit it best, best first, ties by id."""
        for query in queries:
            check_words(query)
        return nearest(queries, self._ask_words, at_once=_QUERIES_A_CALL, most_tied=most_tied(queries))

    def _ask_words(self, asked: Sequence[tuple[WordQuery, int]]) -> list[list[ScoredPoint]]:
        with self._calling() as shard:
            return shard.query_words(asked)

    def vectors(self, ids: Sequence[PointId]) -> dict[PointId, Float32]:
        """Return the unit vectors, each (d,) float32, of those ids that exist."""
        found: dict[PointId, Float32] = {}
        for some in parts(ids, _POINTS_A_CALL):
            with self._calling() as shard:
                found |= shard.vectors(some)
        return found

    def scroll(self, *, after: PointId | None, limit: int) -> list[StoredPoint]:
        """List points in the order of their ids, those greater than `after`."""
        first = 0 if after is None else after.int + 1
        if limit < 1 or first >= 1 << 128:
            return []
        with self._calling() as shard:
            return shard.scroll(UUID(int=first), limit)

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002  the field's word for it
        """Count points exactly."""
        with self._calling() as shard:
            return shard.count(filter)

    def facet(self, key: str, *, limit: int, filter: Filter | None = None) -> list[tuple[str | int, int]]:  # noqa: A002  as above
        """Count points exactly by the values of a declared key, those with the most points first."""
        with self._calling() as shard:
            return shard.facet(key, limit, filter)

    def extremes(self, key: str, *, filter: Filter | None = None) -> tuple[float | str, float | str] | None:  # noqa: A002  as above
        """Give the least and the greatest value of a declared key of numbers or dates; None where no point has one."""
        with self._calling() as shard:
            return shard.extremes(key, filter)

    def size(self) -> int:
        """Count all points as the engine's own books have it: quick."""
        with self._calling() as shard:
            return shard.size()

    def optimise(self) -> bool:
        """Build or renew the graph in a child process; queries and writes go on meanwhile.

        Returns whether there was anything to do. Raises Unavailable if the child fails; the index is then as it was.
        """
        if self._shape.profile == "flat" or not self._optimising.acquire(blocking=False):
            return False
        try:
            with self._calling() as shard:
                worth_it = shard.unindexed() >= self._shape.graph_from
            if worth_it:
                self._rebuild(self._folder.new_shard())
        except Unavailable:
            if self._closed:
                return False
            raise
        else:
            return worth_it
        finally:
            self._optimising.release()

    def drop(self) -> None:
        """Delete the index and all in it."""
        self._shut()
        with self._optimising:
            shutil.rmtree(self._folder.path)
            self._folder.release()

    def close(self) -> None:
        """Let go of the folder; twice is fine. A graph in the making is given up."""
        self._shut()
        with self._optimising:
            self._folder.release()

    def _shut(self) -> None:
        with self._writes, self._calls, Translated(self._folder.path):
            if not self._closed:
                self._closed = True
                self._shard.close()  # flushes
        if (child := self._child) is not None:
            child.kill()

    @contextlib.contextmanager
    def _calling(self) -> Iterator[EdgeShard]:
        with self._calls, Translated(self._folder.path):
            if self._closed:
                raise Unavailable(f"the vector index in {self._folder.path} is closed")
            yield self._shard

    @contextlib.contextmanager
    def _writing(self, ids: Sequence[PointId]) -> Iterator[None]:
        """Hold other writers off, and leave only when all is on the disk."""
        with self._writes:
            self._check_room(len(ids))
            if self._late is not None:
                self._late.update(ids)
            self._unflushed += len(ids)
            yield
            if self._unflushed >= _FLUSH_AFTER_POINTS or not _sync_log(self._shard.path):
                self._flush()

    def _check_room(self, points: int) -> None:
        with self._calling():
            _check_room(self._folder.path, _SPARE_BYTES + points * self._space.dimension * 16)

    def _flush(self) -> None:
        with self._calling() as shard:
            shard.flush()
        self._unflushed = 0

    def _rebuild(self, copy: Path) -> None:
        try:
            with self._writes:
                self._flush()
                copy_sparse(self._shard.path, copy)
                self._late = set()
            self._run_child(copy)
            fresh = EdgeShard.load(copy)
            try:
                self._catch_up(fresh)
            except BaseException:
                fresh.close()
                raise
        finally:
            with self._writes:
                self._late = None
            if self._shard.path != copy:
                shutil.rmtree(copy, ignore_errors=True)

    def _run_child(self, copy: Path) -> None:
        code = "import sys; from phosphene.vectors.edge_shard import optimise_copy; optimise_copy(sys.argv[1])"
        with subprocess.Popen(  # noqa: S603  our own code in our own interpreter
            [sys.executable, "-c", code, str(copy)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as child:
            self._child = child
            if self._closed:
                child.kill()
            complaint = child.communicate()[1].decode(errors="replace").strip().splitlines()
            self._child = None
        if child.returncode:
            why = complaint[-1] if complaint else f"it ended with {child.returncode}"
            raise Unavailable(f"the graph of {self._folder.path} could not be built, the index is as it was: {why}")

    def _catch_up(self, fresh: EdgeShard) -> None:
        """Bring what was written since the copy into `fresh`, then make it the live shard."""
        for rounds_left in reversed(range(_CATCH_UP_ROUNDS)):
            with self._writes:
                late, self._late = list(self._late or ()), set()
                if len(late) <= _LATE_POINTS_UNDER_LOCK or not rounds_left:
                    self._replay(late, fresh)
                    self._go_live(fresh)
                    return
            self._replay(late, fresh)

    def _replay(self, late: Sequence[PointId], fresh: EdgeShard) -> None:
        for some in parts(late, _POINTS_A_CALL):
            with self._calling() as live:
                live.bring_up_to_date(fresh, some)

    def _go_live(self, fresh: EdgeShard) -> None:
        with self._calling() as old:
            old.share_schema(fresh)  # fields declared since the copy
            fresh.flush()
            sealed = seals(fresh.path)
            self._folder.point_to(Pointer(self._space.id, self._space.dimension, fresh.path.name, sealed))
            self._shard, self._unflushed = fresh, 0
            old.close()
        self._folder.sweep(fresh.path.name)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Unavailable(f"{folder} has {free // 2**20} MB left and writing needs {needed // 2**20}: make room there")


def _create(home: IndexFolder, space: Space, shape: ShardShape) -> EdgeShard:
    _check_room(home.path, _SPARE_BYTES)
    home.begin()
    shard = EdgeShard.create(home.new_shard(), shape)
    with Translated(home.path):
        for field in RESERVED_FIELDS:
            shard.declare(field.name, field.kind)
        shard.declare_words()
        shard.flush()
    home.point_to(Pointer(space.id, space.dimension, shard.path.name))
    return shard


def _declare_words(home: IndexFolder, shard: EdgeShard) -> None:
    """Give a folder that is older than word search the index for it; the next flush makes it last."""
    with Translated(home.path):
        shard.declare_words()


def _check_space(folder: Path, pointer: Pointer, space: Space) -> None:
    if (pointer.space, pointer.dimension) != (space.id, space.dimension):
        raise SpaceMismatch(
            f"{folder} holds embeddings of {pointer.space} ({pointer.dimension} numbers), not of {space.id} "
            f"({space.dimension}): use the model it was made with, or another folder"
        )


def _sync_log(shard: Path) -> bool:
    """Wait until the write-ahead log is on the disk; False where there is no log to be found."""
    log = shard / "wal"
    segments = list(log.iterdir()) if log.is_dir() else []
    for segment in segments:
        with contextlib.suppress(FileNotFoundError):  # a full segment gets another name in the background
            sync(segment)
    if segments:
        sync(log)
    return bool(segments)
