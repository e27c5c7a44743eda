from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from indexer.jobs import handlers
from indexer.pipeline import embed_assets, ingest, recover, sweep
from indexer.progress import PlainProgress, RichProgress, Snapshot, duration, progress_for
from indexer.sources import SourceOptions
from indexer.verify import verify
from phosphene.assemble import Engine
from phosphene.catalog.records import Asset, AssetState, Ingest, IngestCounts, IngestState, Quarantined
from phosphene.errors import InvalidInput, InvalidManifest, ModelError, PictureFault
from phosphene.filters import And, AnyOf, Equals, Filter, Range
from phosphene.jobs import JSON, JobName
from phosphene.model_files import STARTER_FOLDER
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT, FieldKind, Pixels, TenantId, point_id
from tests.indexer.conftest import OpenEngine, let_pass, save_picture, save_pictures, watch


def run(engine: Engine, *specs: Path | str, **options: object) -> Ingest:
    source_options = SourceOptions(**options)  # type: ignore[arg-type]  # given by name
    return ingest([str(spec) for spec in specs], engine=engine, tenant=DEFAULT_TENANT, options=source_options)


def counts(done: Ingest) -> tuple[int, int, int, int]:
    return done.counts.added, done.counts.unchanged, done.counts.updated, done.counts.quarantined


def assets(engine: Engine) -> list[Asset]:
    return engine.catalog.page_assets(tenant=None, after=None, limit=10_000)


def quarantined(engine: Engine) -> dict[str, Quarantined]:
    entries = engine.catalog.quarantined(DEFAULT_TENANT, None, after=None, limit=1000)
    return {entry.uri.rpartition("/")[2]: entry for entry in entries}


def found(engine: Engine, wanted: Filter) -> int:
    return engine.index.count(And((Equals("tenant", DEFAULT_TENANT), wanted)))


def assert_all_is_well(engine: Engine, pictures: int) -> None:
    assert engine.index.count() == pictures
    assert engine.catalog.count_assets(None, AssetState.INDEXED) == pictures
    assert engine.catalog.pending_work(engine.encoder.space.id) == 0
    report = verify(engine=engine, repair=False)
    assert report.counts == {}
    assert report.ok


def test_a_folder_of_200_with_the_starter_model(tmp_path: Path) -> None:
    if not (STARTER_FOLDER / "open_clip_model.safetensors").is_file():
        pytest.skip("the starter model is not built yet")
    from phosphene.assemble import open_engine

    save_pictures(tmp_path / "pictures", 200, suffix=".jpg")
    settings = Settings(data=tmp_path / "data", threads=1, _env_file=None)
    with open_engine(settings, command="a test") as engine:
        assert counts(run(engine, tmp_path / "pictures")) == (200, 0, 0, 0)
        assert_all_is_well(engine, 200)
        asset = assets(engine)[0]
        vectors = engine.index.vectors([point_id(asset.id, engine.encoder.space.id)])
        (vector,) = vectors.values()
        pixels = engine.decoders.decode(
            (tmp_path / "pictures" / f"{asset.title}.jpg").read_bytes(), spec=engine.encoder.space.pixels
        ).result()
        assert pixels.pixels is not None
        raw = engine.encoder.encode_pixels(pixels.pixels[np.newaxis])
        assert float(raw.unit().rows[0] @ vector) > 0.999
        norms = engine.catalog.embedded(engine.encoder.space.id, [asset.id])
        assert norms[asset.id] == pytest.approx(float(raw.norms[0]), rel=1e-3)


def test_a_second_run_reads_nothing_and_adds_nothing(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(tmp_path / "pictures", 40)
    assert counts(run(engine, tmp_path / "pictures")) == (40, 0, 0, 0)
    before = assets(engine)
    watched = watch(engine)

    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("a file that did not change was read")

    monkeypatch.setattr("indexer.sources.local.read", refuse)
    done = run(engine, tmp_path / "pictures")
    assert counts(done) == (0, 40, 0, 0)
    assert done.state is IngestState.FINISHED
    assert watched.batches == []
    assert assets(engine) == before
    assert_all_is_well(engine, 40)


def test_copies_within_one_run_are_one_picture(tmp_path: Path, engine: Engine) -> None:
    for path in save_pictures(tmp_path / "pictures", 20):
        shutil.copy(path, path.with_name(f"copy-of-{path.name}"))
    watched = watch(engine)
    done = run(engine, tmp_path / "pictures")
    assert counts(done) == (20, 20, 0, 0)
    assert watched.pictures == 20
    assert_all_is_well(engine, 20)


def test_renamed_files_keep_their_vectors(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "before", 20)
    run(engine, tmp_path / "before")
    before = assets(engine)
    (tmp_path / "before").rename(tmp_path / "after")
    watched = watch(engine)
    assert counts(run(engine, tmp_path / "after")) == (0, 20, 0, 0)
    assert watched.batches == []
    assert assets(engine) == before
    assert f"{tmp_path}/after/0000.png" in [
        place for asset in before for place in engine.catalog.locations_of(DEFAULT_TENANT, asset.id)
    ]


def test_touched_files_change_nothing(tmp_path: Path, engine: Engine) -> None:
    paths = save_pictures(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "0000.json").write_text('{"title": "Fox", "year": 1990}')
    run(engine, tmp_path / "pictures")
    (tmp_path / "pictures" / "0000.json").unlink()
    for path in paths:
        os.utime(path)
    assert counts(run(engine, tmp_path / "pictures")) == (0, 3, 0, 0)
    assert ("Fox", {"year": 1990}) in [(asset.title, asset.metadata) for asset in assets(engine)]


def test_changed_metadata_changes_row_and_payload_and_embeds_nothing(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 3)
    sidecar = tmp_path / "pictures" / "0001.json"
    sidecar.write_text('{"title": "Fox", "year": 1990, "keywords": ["snow"]}')
    run(engine, tmp_path / "pictures")
    assert found(engine, Range("year", gte=1990)) == 1
    sidecar.write_text('{"title": "Vixen", "year": 1985, "keywords": ["snow", "night"]}')
    watched = watch(engine)
    assert counts(run(engine, tmp_path / "pictures")) == (0, 2, 1, 0)
    assert watched.batches == []
    assert found(engine, Range("year", gte=1990)) == 0
    assert found(engine, AnyOf("keywords", ("night",))) == 1
    assert "Vixen" in [asset.title for asset in assets(engine)]
    assert_all_is_well(engine, 3)


def test_changed_bytes_under_one_name_are_a_new_picture(tmp_path: Path, engine: Engine) -> None:
    path = save_picture(tmp_path / "pictures" / "a.png", seed=1)
    run(engine, tmp_path / "pictures")
    (old,) = assets(engine)
    save_picture(path, seed=2)
    assert counts(run(engine, tmp_path / "pictures")) == (1, 0, 0, 0)
    assert len(assets(engine)) == 2
    assert engine.catalog.locations_of(DEFAULT_TENANT, old.id) == []
    assert_all_is_well(engine, 2)


def test_metadata_of_a_manifest_can_be_filtered_and_is_not_lost_when_the_folder_comes_again(
    tmp_path: Path, engine: Engine
) -> None:
    paths = save_pictures(tmp_path / "pictures", 30)
    rows = "".join(
        f"{path},Picture {n},{1980 + n},{'yes' if n % 2 else 'no'},cat;n{n % 3},2024-01-{n + 1:02}\n"
        for n, path in enumerate(paths)
    )
    (tmp_path / "m.csv").write_text("file,title,Year,sold,keywords,taken\n" + rows)
    assert counts(run(engine, tmp_path / "m.csv")) == (30, 0, 0, 0)
    assert found(engine, Range("year", gte=2000)) == 10
    assert found(engine, Equals("sold", value=True)) == 15
    assert found(engine, AnyOf("keywords", ("n1",))) == 10
    assert found(engine, Range("taken", lt="2024-01-11")) == 10
    kinds = {field.name: field.kind for field in engine.catalog.fields(DEFAULT_TENANT)}
    assert kinds == {
        "year": FieldKind.INTEGER,
        "sold": FieldKind.BOOL,
        "keywords": FieldKind.KEYWORD,
        "taken": FieldKind.DATETIME,
    }
    assert counts(run(engine, tmp_path / "pictures")) == (0, 30, 0, 0)
    assert {asset.title for asset in assets(engine)} == {f"Picture {number}" for number in range(30)}
    assert_all_is_well(engine, 30)
    (tmp_path / "m.csv").write_text("file,Year\n" + f"{paths[0]},ca. 1980\n")
    with pytest.raises(InvalidManifest, match=r"row 1: column 'year': field 'year' holds integer values"):
        run(engine, tmp_path / "m.csv")


def test_archives_are_ingested_and_their_members_known_again(tmp_path: Path, engine: Engine) -> None:
    paths = save_pictures(tmp_path / "pictures", 25)
    for name in ("a.tar", "b.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as tar:
            for path in paths:
                tar.add(path, path.name)
                said = json.dumps({"caption": f"picture {path.stem}"}).encode()
                member = tarfile.TarInfo(f"{path.stem}.json")
                member.size = len(said)
                tar.addfile(member, io.BytesIO(said))
    assert counts(run(engine, tmp_path / "a.tar")) == (25, 0, 0, 0)
    assert counts(run(engine, tmp_path / "a.tar", tmp_path / "b.tar.gz")) == (0, 50, 0, 0)
    assert {asset.title for asset in assets(engine)} == {f"picture {path.stem}" for path in paths}
    assert_all_is_well(engine, 25)


def test_a_sidecar_against_a_declared_field_is_quarantined_with_its_reason(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "0000.json").write_text('{"year": 1990}')
    (tmp_path / "pictures" / "0001.json").write_text('{"year": [1990, 1991]}')
    run(engine, tmp_path / "pictures" / "0000.png")
    assert counts(run(engine, tmp_path / "pictures")) == (1, 1, 0, 1)
    entry = quarantined(engine)["0001.png"]
    assert entry.fault is PictureFault.BAD_METADATA
    assert entry.reason == "field 'year' holds integer values, not [\"1990\", \"1991\"]"  # fmt: skip
    (tmp_path / "pictures" / "0001.json").write_text('{"year": 1991}')
    assert counts(run(engine, tmp_path / "pictures")) == (1, 2, 0, 0)
    assert quarantined(engine) == {}


def red(path: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (40, 40), (255, 0, 0)).save(path)
    return path


def fail_on_red(pixels: Pixels) -> None:
    if any(np.array_equal(one[0, 0], (255, 0, 0)) for one in pixels):
        raise RuntimeError("red is too much\nsecond line")


def test_only_the_culprit_of_a_failing_batch_is_quarantined(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 20)
    red(tmp_path / "pictures" / "0005-red.png")
    watch(engine, fail_on_red)
    done = run(engine, tmp_path / "pictures")
    assert done.state is IngestState.FINISHED
    assert counts(done) == (20, 0, 0, 1)
    entry = quarantined(engine)["0005-red.png"]
    assert entry.fault is PictureFault.EMBEDDING_FAILED
    assert entry.reason == "the encoder fails on it: red is too much"
    assert_all_is_well(engine, 20)


def test_an_encoder_that_fails_on_everything_blames_no_picture(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 20)

    def fail(_: Pixels) -> None:
        raise RuntimeError("CUDA error: device lost")

    watched = watch(engine, fail)
    with pytest.raises(ModelError, match=r"can't encode any picture: .*device lost"):
        run(engine, tmp_path / "pictures")
    (failed,) = engine.catalog.ingests(DEFAULT_TENANT, 10)
    assert failed.state is IngestState.FAILED
    assert "device lost" in (failed.error or "")
    assert quarantined(engine) == {}
    watched.before = let_pass
    run(engine, tmp_path / "pictures")
    assert_all_is_well(engine, 20)


def test_rows_of_a_norm_of_zero_are_culprits_too(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 5)
    watched = watch(engine)
    inner = watched.inner

    class Zero:
        space = inner.space

        @staticmethod
        def encode_pixels(pixels: Pixels) -> object:
            raw = inner.encode_pixels(pixels)
            raw.rows[(pixels == first).all(axis=(1, 2, 3))] = 0
            return raw

    spec = engine.encoder.space.pixels
    first = engine.decoders.decode((tmp_path / "pictures" / "0000.png").read_bytes(), spec=spec).result().pixels
    assert first is not None
    watched.inner = Zero()  # type: ignore[assignment]  # all that is called
    assert counts(run(engine, tmp_path / "pictures")) == (4, 0, 0, 1)
    assert "no direction" in quarantined(engine)["0000.png"].reason


def test_an_interrupt_is_noted_and_the_same_command_goes_on(tmp_path: Path, open_with: OpenEngine) -> None:
    save_pictures(tmp_path / "pictures", 100)
    with open_with() as engine:

        def interrupt(_: Pixels) -> None:
            if len(watched.batches) == 3:
                raise KeyboardInterrupt

        watched = watch(engine, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(engine, tmp_path / "pictures")
        (interrupted,) = engine.catalog.ingests(DEFAULT_TENANT, 10)
        assert interrupted.state is IngestState.INTERRUPTED
        assert engine.index.count() == 32
    with open_with() as engine:
        watched = watch(engine)
        done = run(engine, tmp_path / "pictures")
        assert done.state is IngestState.FINISHED
        assert watched.pictures == 68
        assert_all_is_well(engine, 100)


def test_a_stop_ends_an_ingest_soon(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 100)
    stop = threading.Event()
    watch(engine, lambda _: stop.set())
    done = ingest([str(tmp_path / "pictures")], engine=engine, tenant=DEFAULT_TENANT, stop=stop)
    assert done.state is IngestState.INTERRUPTED
    assert 0 < engine.index.count() < 100
    run(engine, tmp_path / "pictures")
    assert_all_is_well(engine, 100)


def test_sources_that_can_not_be_read_start_no_ingest(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        run(engine, tmp_path / "nowhere")
    assert engine.catalog.ingests(DEFAULT_TENANT, 10) == []
    started = engine.catalog.start_ingest(DEFAULT_TENANT, ["nowhere"])
    with pytest.raises(InvalidInput):
        ingest([f"{tmp_path}/nowhere"], engine=engine, tenant=DEFAULT_TENANT, ingest_id=started)
    failed = engine.catalog.ingest(DEFAULT_TENANT, started)
    assert failed.state is IngestState.FAILED
    assert "does not exist" in (failed.error or "")


def test_another_model_embeds_the_same_folder_anew(tmp_path: Path, open_with: OpenEngine, other_model: Path) -> None:
    save_pictures(tmp_path / "pictures", 20)
    with open_with() as engine:
        run(engine, tmp_path / "pictures")
    with open_with(model=str(other_model)) as engine:
        assert engine.index.count() == 0
        assert counts(run(engine, tmp_path / "pictures")) == (0, 20, 0, 0)
        assert_all_is_well(engine, 20)


class RecordedJobs:
    """Stands in for a broker: keeps what was sent, to be worked on when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[JobName, dict[str, JSON]]] = []

    def send(self, name: JobName, arguments: Mapping[str, JSON]) -> None:
        self.sent.append((name, json.loads(json.dumps(arguments))))

    def close(self) -> None:
        pass


def test_where_others_embed_pictures_are_registered_and_ids_sent(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 70)
    jobs = RecordedJobs()
    watched = watch(engine)
    started = engine.catalog.start_ingest(DEFAULT_TENANT, ["pictures"])
    handle = handlers(engine, jobs)
    handle[JobName.INGEST](
        tenant="default", ingest_id=str(started), sources=[str(tmp_path / "pictures")], local_files=True
    )
    assert engine.catalog.ingest(DEFAULT_TENANT, started).counts == IngestCounts(added=70)
    assert watched.batches == []
    assert engine.catalog.pending_work(engine.encoder.space.id) == 70
    sent = [len(arguments["asset_ids"]) for name, arguments in jobs.sent if name is JobName.EMBED]  # type: ignore[arg-type]  # a list
    assert sum(sent) == 70
    assert max(sent) <= 64
    for name, arguments in [*jobs.sent, *jobs.sent]:  # delivered twice
        handle[name](**arguments)
    assert watched.pictures == 70
    assert_all_is_well(engine, 70)
    handle[JobName.SWEEP]()
    assert watched.pictures == 70


def registered_only(engine: Engine, folder: Path) -> list[Asset]:
    """Register a folder as a coordinator does, so that its pictures wait for their embeddings."""
    ingest([str(folder)], engine=engine, tenant=DEFAULT_TENANT, jobs=RecordedJobs())
    return assets(engine)


def test_a_sweep_finds_what_was_left_and_recover_closes_dead_ingests(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 20)
    registered_only(engine, tmp_path / "pictures")
    dead = engine.catalog.start_ingest(DEFAULT_TENANT, ["killed"])
    assert recover(engine) == 20
    assert engine.catalog.ingest(DEFAULT_TENANT, dead).state is IngestState.INTERRUPTED
    assert sweep(engine=engine) == 0
    assert_all_is_well(engine, 20)


class Death(BaseException):
    """What a killed process leaves is what it leaves when this passes through: nothing is cleaned up on the way."""


def test_a_picture_that_kills_its_process_is_given_up_and_its_neighbours_are_not(
    tmp_path: Path, engine: Engine
) -> None:
    save_pictures(tmp_path / "pictures", 12)
    red(tmp_path / "pictures" / "0005-red.png")
    waiting = [asset.id for asset in registered_only(engine, tmp_path / "pictures")]

    def die_on_red(pixels: Pixels) -> None:
        try:
            fail_on_red(pixels)
        except RuntimeError:
            raise Death from None

    watch(engine, die_on_red)
    deaths = 0
    for _ in range(20):
        try:
            embed_assets(waiting, engine=engine)
            break
        except Death:
            deaths += 1
    assert deaths == 4
    assert "4 attempts" in quarantined(engine)["0005-red.png"].reason
    assert engine.index.count() == 12
    assert engine.catalog.count_assets(DEFAULT_TENANT, AssetState.FAILED) == 1


def test_an_original_that_is_gone_is_a_reason(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 3)
    waiting = registered_only(engine, tmp_path / "pictures")
    for key in list(engine.blobs.keys("originals"))[:1]:
        engine.blobs.delete(key)
    assert embed_assets([asset.id for asset in waiting], engine=engine) == 2
    (entry,) = quarantined(engine).values()
    assert entry.fault is PictureFault.UNREADABLE
    assert "ingest the file again" in entry.reason


def test_tenants_have_their_own_pictures_and_fields(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 5)
    (tmp_path / "m.csv").write_text("file,year\npictures/0000.png,1990\n")
    (tmp_path / "n.csv").write_text("file,year\npictures/0000.png,long ago\n")
    run(engine, tmp_path / "m.csv")
    other = ingest([str(tmp_path / "n.csv")], engine=engine, tenant=TenantId("other"))
    assert other.counts.added == 1
    assert engine.index.count() == 2
    assert engine.catalog.count_assets(TenantId("other")) == 1


class Collected:
    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.closed = 0

    def report(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def close(self) -> None:
        self.closed += 1


def test_progress_tells_counts_total_rate_and_what_remains(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 40)
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no")
    progress = Collected()
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=DEFAULT_TENANT, progress=progress)
    last = progress.snapshots[-1]
    assert last.counts == IngestCounts(added=40, quarantined=1)
    assert last.total == 41
    assert last.rate > 0
    assert last.remaining_s == 0
    assert progress.closed == 1
    totals = [snapshot.counts.total for snapshot in progress.snapshots]
    assert totals == sorted(totals)


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, every_s=3600)
    for added in range(3):
        progress.report(
            Snapshot("embedding", IngestCounts(added=added, quarantined=1), total=1000, rate=12.34, remaining_s=75)
        )
    assert stream.getvalue() == ""
    progress.close()
    assert stream.getvalue() == ("embedding: 3 of 1,000 pictures, 2 added, 1 quarantined, 12.3/s, 1 min 15 s left\n")
    eager = PlainProgress(stream, every_s=0)
    eager.report(Snapshot("reading"))
    eager.close()
    assert stream.getvalue().count("reading: 0 pictures\n") == 1


def test_a_bar_is_drawn_on_terminals_only() -> None:
    stream = io.StringIO()
    bar = RichProgress(Console(file=stream, force_terminal=True, width=100))
    bar.report(Snapshot("embedding", IngestCounts(added=5), total=10, rate=2.5, remaining_s=2))
    bar.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "embedding" in shown
    assert "5/10" in shown
    assert "2.5/s  2 s left" in shown
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
    assert isinstance(progress_for(sys.stderr), PlainProgress | RichProgress)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3725, "1 h 2 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
