"""The embedded index as a folder: who may open it, what survives, what is noticed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phosphene.errors import DamagedData, DataFolderInUse, SpaceMismatch, Unavailable
from phosphene.filters import Equals, Range
from phosphene.vectors import edge
from phosphene.vectors.edge import EdgeIndex
from tests.vectors.made import FIELDS, SPACE, ask, embeddings, numbered, payloads

ROOT = Path(__file__).parents[2]
COUNT = 700
HEAD = """
import sys
from pathlib import Path
from phosphene.errors import PhospheneError
from phosphene.types import PointId, UnitEmbeddings
from phosphene.vectors.edge import EdgeIndex
from tests.vectors.made import SPACE, ask, embeddings, numbered, payloads
folder = Path(sys.argv[1])
"""
WRITER = (
    HEAD
    + """
index = EdgeIndex.open(folder, SPACE, profile=sys.argv[2], graph_from=500)
rows, said = embeddings(4000), payloads(4000)
start = int(sys.argv[3])
while start < 4000:
    stop = start + 64
    index.upsert(numbered(64, start=start + 1), UnitEmbeddings(SPACE, rows.rows[start:stop]), said[start:stop])
    print(stop, flush=True)
    start = stop
"""
)
BUILDER = (
    HEAD
    + """
index = EdgeIndex.open(folder, SPACE, profile="graph", graph_from=500)
index.upsert(numbered(4000), embeddings(4000), payloads(4000))
index.optimise()
"""
)
READER = (
    HEAD
    + """
try:
    index = EdgeIndex.open(folder, SPACE, profile=sys.argv[2], graph_from=500)
    rows = embeddings(700).rows
    print(index.count(), len(index.vectors(numbered(700))), len(index.query([ask(rows[0])])[0]))
    index.close()
except PhospheneError as error:
    print(type(error).__name__, error)
"""
)


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def flat(folder: Path) -> EdgeIndex:
    return EdgeIndex.open(folder, SPACE, profile="flat")


def filled(folder: Path, *, graph: bool = False) -> EdgeIndex:
    index = EdgeIndex.open(folder, SPACE, profile="graph" if graph else "flat", graph_from=500)
    index.upsert(numbered(COUNT), embeddings(COUNT), payloads(COUNT))
    if graph:
        assert index.optimise()
    return index


def test_a_second_open_says_who_has_it(tmp_path: Path) -> None:
    index = filled(tmp_path / "index")
    with pytest.raises(DataFolderInUse, match=rf"in use by process {os.getpid()}: stop it, or ask it with --server"):
        flat(tmp_path / "index")
    said, _ = run(READER, tmp_path / "index", "flat").communicate(timeout=60)
    assert said.startswith("DataFolderInUse")
    assert str(os.getpid()) in said
    with pytest.raises(DataFolderInUse):
        EdgeIndex.discard(tmp_path / "index")
    index.close()
    again = flat(tmp_path / "index")
    assert again.count() == COUNT
    again.close()


def test_another_space_is_refused_and_named(tmp_path: Path) -> None:
    filled(tmp_path).close()
    other = replace(SPACE, model="other-model")
    with pytest.raises(SpaceMismatch, match=str(SPACE.id)):
        EdgeIndex.open(tmp_path, other, profile="flat")
    with pytest.raises(SpaceMismatch, match="32"):
        EdgeIndex.open(tmp_path, replace(SPACE, dimension=32), profile="flat")
    again = flat(tmp_path)
    assert again.count() == COUNT
    again.close()


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    index = filled(tmp_path)
    index.close()
    index.close()
    for call in (index.count, lambda: index.upsert(numbered(1), embeddings(1), [{}]), index.size):
        with pytest.raises(Unavailable, match="closed"):
            call()


def test_a_folder_can_change_its_profile(tmp_path: Path) -> None:
    filled(tmp_path).close()
    graph = EdgeIndex.open(tmp_path, SPACE, profile="graph", graph_from=500)
    assert graph.optimise()
    graph.close()
    again = flat(tmp_path)
    rows = embeddings(COUNT).rows
    assert again.count() == COUNT
    assert [points[0].id for points in again.query([ask(row) for row in rows[:50]])] == numbered(50)
    again.upsert(numbered(1), embeddings(1, seed=4), [{"tenant": "late"}])
    assert again.count(Equals("tenant", "late")) == 1
    again.close()


@pytest.mark.parametrize("profile", ["flat", "graph"])
def test_kill_9_while_writing_loses_nothing_that_was_acknowledged(tmp_path: Path, profile: str) -> None:
    acknowledged = 0
    for acknowledgements in (3, 11, 24):
        child = run(WRITER, tmp_path, profile, acknowledged)
        assert child.stdout is not None
        for _ in range(acknowledgements):
            acknowledged = int(child.stdout.readline())
        time.sleep(0.01)  # into the middle of the next write
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        acknowledged = int(rest.split()[-1]) if rest.split() else acknowledged
        index = EdgeIndex.open(tmp_path, SPACE, profile="graph" if profile == "graph" else "flat", graph_from=500)
        assert index.count() >= acknowledged
        if profile == "graph":
            index.optimise()
        found = index.vectors(numbered(acknowledged))
        assert len(found) == acknowledged
        back = np.stack([found[identifier] for identifier in numbered(acknowledged)])
        np.testing.assert_allclose(back, embeddings(4000).rows[:acknowledged], atol=1e-6)
        listed = index.scroll(after=None, limit=acknowledged)
        assert [point.payload["width"] for point in listed] == [p["width"] for p in payloads(4000)[:acknowledged]]
        index.close()


def test_a_power_cut_loses_nothing_that_the_log_has(tmp_path: Path) -> None:
    """Put the log, which a write waits for, beside segments as old as the last flush: what a disk may have then."""
    index = flat(tmp_path / "live")
    said = payloads(640)
    index.upsert(numbered(100), embeddings(100), said[:100])
    index._flush()
    shutil.copytree(tmp_path / "live", tmp_path / "cut", ignore=shutil.ignore_patterns("lock"))
    rows = embeddings(640).rows
    for start in range(100, 640, 60):
        some = slice(start, start + 60)
        index.upsert(numbered(640)[some], type(embeddings(1))(SPACE, rows[some]), said[some])
    index.delete(numbered(10))
    log, old_log = (next((tmp_path / name).glob("shards/*/wal")) for name in ("live", "cut"))
    shutil.rmtree(old_log)
    shutil.copytree(log, old_log)
    index.close()
    cut = flat(tmp_path / "cut")
    assert cut.count() == 630
    assert [point.id for point in cut.scroll(after=None, limit=700)] == numbered(630, start=11)
    cut.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a child that dies with its parent is asked for on Linux only")
def test_kill_9_while_the_graph_is_built_leaves_the_old_index_and_no_child(tmp_path: Path) -> None:
    builder = run(BUILDER, tmp_path)
    while not _command_lines_with(copies := tmp_path / "shards"):
        assert builder.poll() is None
        time.sleep(0.01)
    builder.kill()
    builder.communicate()
    while _command_lines_with(copies):
        time.sleep(0.01)
    index = EdgeIndex.open(tmp_path, SPACE, profile="graph", graph_from=500)
    assert index.count() == 4000
    assert len(list(copies.iterdir())) == 1
    assert index.optimise()
    index.close()


def _command_lines_with(path: Path) -> list[bytes]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(path).encode() in (line := process.read_bytes()):
                found.append(line)
    return found


def test_killed_while_it_was_first_made_it_opens_empty(tmp_path: Path) -> None:
    index = flat(tmp_path)
    index.close()
    (tmp_path / "current.json").unlink()
    (tmp_path / "making").touch()
    again = flat(tmp_path)
    assert again.count() == 0
    assert not (tmp_path / "making").exists()
    assert len(list((tmp_path / "shards").iterdir())) == 1
    again.close()


def test_leftovers_of_a_killed_rebuild_are_swept(tmp_path: Path) -> None:
    index = filled(tmp_path)
    live = index._shard.path
    index.close()
    shutil.copytree(live, live.with_name("leftover"))
    again = flat(tmp_path)
    assert again.count() == COUNT
    assert [path.name for path in (tmp_path / "shards").iterdir()] == [live.name]
    again.close()


def test_a_damaged_pointer_is_told_and_can_be_discarded(tmp_path: Path) -> None:
    filled(tmp_path).close()
    pointer = tmp_path / "current.json"
    whole = pointer.read_text()
    for broken in (None, "", "[]", "{}", whole[:20], json.dumps({**json.loads(whole), "shard": "elsewhere"})):
        pointer.unlink() if broken is None else pointer.write_text(broken)
        with pytest.raises(DamagedData, match="verify --repair") as caught:
            flat(tmp_path)
        assert "\n" not in str(caught.value)
    EdgeIndex.discard(tmp_path)
    empty = flat(tmp_path)
    assert empty.count() == 0
    empty.close()


DAMAGE = {
    "flat": [
        "segments/*/segment.json",
        "segments/*/mutable_id_tracker.mappings",
        "segments/*/mutable_id_tracker.versions",
        "segments/*/vector_storage/vectors/status.dat",
        "segments/*/payload_storage/tracker.dat",
        "wal/open-1",
        "edge_config.json",
    ],
    "graph": [
        "segments/*/id_tracker.mappings",
        "segments/*/id_tracker.versions",
        "segments/*/vector_storage/matrix.dat",
        "segments/*/vector_index/graph.bin",
    ],
}


@pytest.mark.parametrize(("profile", "pattern"), [(kind, pattern) for kind in DAMAGE for pattern in DAMAGE[kind]])
def test_damage_is_told_or_shows_in_the_count(tmp_path: Path, profile: str, pattern: str) -> None:
    whole = tmp_path / "whole"
    filled(whole, graph=profile == "graph").close()
    children = []
    for how in ("gone", "half", "noise"):
        folder = tmp_path / how
        shutil.copytree(whole, folder)
        victims = list(folder.glob(f"shards/*/{pattern}"))
        assert victims, pattern
        for victim in victims:
            if how == "gone":
                victim.unlink()
            elif how == "half":
                os.truncate(victim, victim.stat().st_size // 2)
            else:
                noise = np.random.default_rng(7).bytes(min(4096, victim.stat().st_size))
                with victim.open("r+b") as file:
                    file.write(noise)
        children.append(run(READER, folder, profile))
    for child in children:
        said, complaint = child.communicate(timeout=120)
        assert child.returncode == 0, complaint
        kind, *rest = said.split()
        if kind == "DamagedData":
            assert "phosphene verify --repair" in said
            assert len(said.splitlines()) == 1
        else:  # opened: what is lost shows in the count, and what is counted is there
            assert int(kind) == int(rest[0])
            assert int(rest[1]) == 10


def test_noise_in_the_ids_of_a_graph_is_told_before_the_engine_reads_it(tmp_path: Path) -> None:
    filled(tmp_path, graph=True).close()
    (ids,) = tmp_path.glob("shards/*/segments/*/id_tracker.mappings")
    whole = ids.read_bytes()
    ids.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(DamagedData, match="not as they were written"):
        EdgeIndex.open(tmp_path, SPACE, profile="graph", graph_from=500)
    ids.write_bytes(whole)
    index = EdgeIndex.open(tmp_path, SPACE, profile="graph", graph_from=500)
    assert index.count() == COUNT
    index.close()


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(tmp_path)
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(edge, "_SPARE_BYTES", free * 2)
    with pytest.raises(Unavailable, match="make room"):
        index.upsert(numbered(1), embeddings(1), [{"tenant": "late"}])
    assert index.count(Equals("tenant", "late")) == 0
    index.close()


def test_many_points_take_several_flushes_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "_FLUSH_AFTER_POINTS", 300)
    index = flat(tmp_path)
    index.declare(FIELDS)
    rows, said = embeddings(1000), payloads(1000)
    for start in range(0, 1000, 50):
        some = slice(start, start + 50)
        index.upsert(numbered(1000)[some], type(rows)(SPACE, rows.rows[some]), said[some])
        assert index._unflushed < 300  # what a load has to replay stays bounded
    index.close()
    again = flat(tmp_path)
    assert again.count() == 1000
    assert again.count(Range("width", gte=0)) == 1000
    again.close()


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "vectors").touch()
    with pytest.raises(Unavailable, match="vectors/space can't be opened: Not a directory"):
        EdgeIndex.open(tmp_path / "vectors" / "space", SPACE, profile="flat")


def test_no_index_is_begun_on_a_disk_that_is_full(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=False)
    if mounted.returncode != 0:
        pytest.skip("a small disk can't be mounted here")
    try:
        with pytest.raises(Unavailable, match=r"has \d MB left and writing needs 128: make room there"):
            EdgeIndex.open(tmp_path / "space", SPACE, profile="flat")
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
