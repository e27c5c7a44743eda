from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.intake import Batch, Intake
from indexer.jobs import handlers
from indexer.pipeline import ingest
from phosphene.assemble import Engine
from phosphene.catalog.records import IngestCounts, IngestState
from phosphene.errors import InvalidManifest, PictureFault
from phosphene.filters import AnyOf, Equals, Range
from phosphene.jobs import JobName
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT, FieldKind, TenantId, point_id
from tests.indexer.conftest import OpenEngine, save_picture, save_pictures, watch
from tests.indexer.running import (
    RecordedJobs,
    assert_all_is_well,
    assets,
    counts,
    found,
    quarantined,
    run,
)


def test_a_folder_of_200_with_the_starter_model(tmp_path: Path) -> None:
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


def test_a_copy_of_a_picture_that_is_done_while_it_is_registered_is_not_embedded_again(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in save_pictures(tmp_path / "pictures", 16):
        shutil.copy(path, path.with_name(f"copy-of-{path.name}"))
    copies_are_registered, originals_are_done = threading.Event(), threading.Event()
    watched = watch(engine, lambda _: require(copies_are_registered))
    register, done = engine.catalog.register, Intake.done
    calls = itertools.count(1)

    def slow_register(*arguments: Any) -> object:  # noqa: ANN401  the catalogue's
        registered = register(*arguments)
        if next(calls) == 2:
            copies_are_registered.set()
            require(originals_are_done)
        return registered

    def told_done(intake: Intake, batch: Batch) -> None:
        done(intake, batch)
        originals_are_done.set()

    monkeypatch.setattr(engine.catalog, "register", slow_register)
    monkeypatch.setattr(Intake, "done", told_done)
    assert counts(run(engine, tmp_path / "pictures")) == (16, 16, 0, 0)
    assert watched.pictures == 16
    assert_all_is_well(engine, 16)


def require(event: threading.Event) -> None:
    assert event.wait(300)


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


def test_another_model_embeds_the_same_folder_anew(tmp_path: Path, open_with: OpenEngine, other_model: Path) -> None:
    save_pictures(tmp_path / "pictures", 20)
    with open_with() as engine:
        run(engine, tmp_path / "pictures")
    with open_with(model=str(other_model)) as engine:
        assert engine.index.count() == 0
        assert counts(run(engine, tmp_path / "pictures")) == (0, 20, 0, 0)
        assert_all_is_well(engine, 20)


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


def test_a_task_carries_a_batch_where_batches_are_larger(tmp_path: Path, open_with: OpenEngine) -> None:
    save_pictures(tmp_path / "pictures", 100)
    with open_with(batch_size=100) as engine:
        jobs = RecordedJobs()
        started = engine.catalog.start_ingest(DEFAULT_TENANT, ["pictures"])
        asked = {"tenant": "default", "sources": [str(tmp_path / "pictures")], "local_files": True}
        handlers(engine, jobs)[JobName.INGEST](ingest_id=str(started), **asked)
        assert [len(arguments["asset_ids"]) for _, arguments in jobs.sent] == [100]  # type: ignore[arg-type]  # a list


def test_tenants_have_their_own_pictures_and_fields(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 5)
    (tmp_path / "m.csv").write_text("file,year\npictures/0000.png,1990\n")
    (tmp_path / "n.csv").write_text("file,epoch\npictures/0000.png,long ago\n")
    run(engine, tmp_path / "m.csv")
    other = ingest([str(tmp_path / "n.csv")], engine=engine, tenant=TenantId("other"))
    assert other.counts.added == 1
    assert engine.index.count() == 2
    assert engine.catalog.count_assets(TenantId("other")) == 1
