"""The commands as a user types them: real processes, the starter model, pictures of the demo catalogue."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

CATALOGUE = Path(__file__).parents[2] / "phosphene" / "starter" / "demo" / "catalogue.tar"
PICTURES = 30


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401  JSON
        return json.loads(self.out)


@dataclass(frozen=True)
class Desk:
    """A folder to work in, with its own data folder."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
        return {**inherited, "PHOSPHENE_DATA": str(self.folder / "data"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(self, *arguments: str, **variables: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "phosphene", *arguments],
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "phosphene", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = archive.extractfile(member)
    assert source is not None
    return source.read()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Thirty clip-art pictures with sidecars in pictures/, two files that are no pictures among them."""
    folder = tmp_path_factory.mktemp("desk")
    pictures = folder / "pictures"
    pictures.mkdir()
    seen: set[bytes] = set()
    with tarfile.open(CATALOGUE) as archive:
        members = iter(archive.getmembers())
        for picture, sidecar in zip(members, members, strict=True):
            data = _read(archive, picture)
            if data not in seen and len(seen) < PICTURES:
                seen.add(data)
                (pictures / picture.name).write_bytes(data)
                (pictures / sidecar.name).write_bytes(_read(archive, sidecar))
    (pictures / "truncated.webp").write_bytes(next(pictures.glob("*.webp")).read_bytes()[:300])
    (pictures / "letter.jpg").write_text("Dear librarian, this is no picture.")
    desk = Desk(folder)
    first = desk.run("ingest", "pictures", "--json")
    assert first.status == 0, first.err
    assert first.json["counts"] == {"added": PICTURES, "unchanged": 0, "updated": 0, "quarantined": 2}
    return desk


@pytest.fixture
def server(desk: Desk) -> Iterator[str]:
    process = desk.start("serve", "--port", "0")
    assert process.stdout is not None
    announced = re.search(r"http://\S+", process.stdout.readline())
    assert announced, process.communicate(timeout=10)[1]
    yield announced[0]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def _title_of_one(desk: Desk) -> tuple[str, str]:
    picture = min((desk.folder / "pictures").glob("*.json"))
    return str(json.loads(picture.read_text())["title"]), picture.stem


def test_a_picture_finds_itself_and_a_text_finds_pictures(desk: Desk) -> None:
    title, stem = _title_of_one(desk)
    by_picture = desk.run("search", "--image", f"pictures/{stem}.webp", "--limit", "3", "--json")
    assert by_picture.status == 0, by_picture.err
    best = by_picture.json["hits"][0]
    assert (best["title"], round(best["score"], 2)) == (title, 1.0)
    for_people = desk.run("search", title, "--limit", "5")
    assert for_people.status == 0
    assert len(for_people.out.strip().splitlines()) == 7, "whether it is a match, a heading and five hits"
    similar = desk.run("search", "--asset", best["asset_id"], "--limit", "3", "--json")
    assert best["asset_id"] not in {hit["asset_id"] for hit in similar.json["hits"]}


def test_texts_pictures_and_assets_are_one_question(desk: Desk) -> None:
    _, stem = _title_of_one(desk)
    some = desk.run("search", "2:animal -machine width>=1", "--limit", "2", "--json").json["hits"]
    assets = [hit["asset_id"] for hit in some]
    sources = ["--image", f"0.5:pictures/{stem}.webp", "--asset", f"-0.25:{assets[0]}", "--not", f"asset:{assets[1]}"]
    pair = ["--rather", "a drawing", "--than", "a photograph"]
    mixed = desk.run("search", "dog + cat", *sources, *pair, "--limit", "5", "--json")
    assert mixed.status == 0, mixed.err
    told = mixed.json["understood"]
    assert [(part["kind"], part["weight"]) for part in told["parts"]] == [
        ("text", 1),
        ("text", 1),
        ("image", 0.5),
        ("asset_id", -0.25),
    ]
    assert [part["asset_id"] for part in told["excluded"]] == [assets[1]]
    assert [(one["positive"]["text"], one["negative"]["text"]) for one in told["context"]] == [
        ("a drawing", "a photograph")
    ]
    assert not set(assets) & {hit["asset_id"] for hit in mixed.json["hits"]}
    plain = desk.run("search", "dog NOT cat", "--plain", "--json").json["understood"]
    assert [part["text"] for part in plain["parts"]] == ["dog NOT cat"]


def test_the_second_ingest_adds_nothing_and_status_lists_what_was_refused(desk: Desk) -> None:
    again = desk.run("ingest", "pictures", "--json")
    assert (again.status, again.json["counts"]["added"], again.json["counts"]["unchanged"]) == (0, 0, PICTURES)
    status = desk.run("ingest", "status", "--json")
    faults = {Path(entry["uri"]).name: entry["fault"] for entry in status.json["quarantine"]}
    assert faults == {"truncated.webp": "truncated", "letter.jpg": "not_a_picture"}
    assert "letter.jpg: not_a_picture" in desk.run("ingest", "status", again.json["id"]).out
    assert desk.run("verify").status == 0


def test_no_ingests_are_told_as_none_not_as_silence(tmp_path: Path) -> None:
    none = Desk(tmp_path).run("ingest", "status")
    assert (none.status, none.out) == (0, "")
    assert "no ingests yet: phosphene ingest FOLDER" in none.err


def test_verify_notices_and_repairs_what_was_lost(desk: Desk) -> None:
    shutil.rmtree(desk.folder / "data" / "vectors")
    noticed = desk.run("verify")
    assert noticed.status == 1
    assert "missing" in noticed.out
    repaired = desk.run("verify", "--repair")
    assert repaired.status == 0, repaired.out + repaired.err
    assert desk.run("verify").status == 0
    assert len(desk.run("search", "anything", "--limit", "30", "--json").json["hits"]) == PICTURES


def test_an_index_damaged_beyond_opening_is_made_anew(desk: Desk) -> None:
    (pointer,) = (desk.folder / "data" / "vectors").glob("*/current.json")
    pointer.write_text("not what was written")
    broken = desk.run("search", "anything")
    assert broken.status == 1
    assert "phosphene verify --repair" in broken.err
    assert len(broken.err.strip().splitlines()) == 1, broken.err
    assert desk.run("verify", "--repair").status == 0
    assert len(desk.run("search", "anything", "--limit", "30", "--json").json["hits"]) == PICTURES


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["search"], 2, "say what to search with: TEXT, --image FILE or --asset ID"),
        (["search", "dog colour:red"], 2, "character 5: there is no field 'colour'"),
        (["search", "dog", "--not", "asset:7"], 2, "not the id"),
        (["search", "   "], 2, "text is empty"),
        (["search", "dog", "--filter", "yeer>=1990"], 2, "no field 'yeer'"),
        (["search", "--image", "nowhere.png"], 2, "--image nowhere.png: No such file"),
        (["search", "--image", "pictures/letter.jpg"], 1, "picture"),
        (["search", "--asset", "seven"], 2, "not the id"),
        (["ingest", "nowhere"], 2, "nowhere"),
        (["ingest", "status", "seven"], 2, "not the id"),
        (["ingest", "pictures", "--column-map", "title"], 2, "write field=column"),
        (["search", "dog", "--server", "http://127.0.0.1:9"], 1, "http://127.0.0.1:9 can't be reached"),
        (["search", "dog", "--model", "ViT-B-32/laion2b_s34b_b79k"], 1, "ViT-B-32"),
        (["serve", "--host", "0.0.0.0"], 2, "API keys"),  # noqa: S104  refused
    ],
)
def test_what_goes_wrong_is_one_line(desk: Desk, arguments: list[str], status: int, line: str) -> None:
    ran = desk.run(*arguments)
    assert ran.status == status, ran.err
    assert line in ran.err
    assert "Traceback" not in ran.err
    assert len(ran.err.strip().splitlines()) == 1, ran.err


def test_settings_that_are_wrong_or_misspelt_are_named(desk: Desk) -> None:
    wrong = desk.run("search", "dog", PHOSPHENE_PORT="high")
    assert (wrong.status, wrong.err.count("PHOSPHENE_PORT")) == (2, 1)
    misspelt = desk.run("search", "dog", "--json", PHOSPHENE_MODELL="x")
    assert misspelt.status == 0
    assert "PHOSPHENE_MODELL is not a setting; did you mean PHOSPHENE_MODEL?" in misspelt.err


def test_doctor_and_models(desk: Desk) -> None:
    findings = {entry["subject"]: entry for entry in desk.run("doctor", "--json").json}
    assert findings["model"]["verdict"] == "ok"
    assert f"{PICTURES} assets" in findings["catalogue and blobs"]["detail"]
    assert findings["generator"]["detail"] == "starter: starter, draws 128x128 pixels"
    ill = desk.run("doctor", PHOSPHENE_MODEL="no-such-model/tag")
    assert ill.status == 1
    assert "no-such-model" in ill.out
    assert "nothing can be drawn" in ill.out
    other = desk.run("doctor", "--json", PHOSPHENE_GENERATOR="nowhere").json
    assert {one["subject"]: one["verdict"] for one in other}["generator"] == "warn"
    assert "starter" in {entry["name"] for entry in desk.run("models", "--json").json}


def test_keys_are_made_and_counted_but_never_shown(desk: Desk) -> None:
    made = desk.run("keys", "--new", "museum")
    tenant, _, secret = made.out.strip().partition(":")
    assert (made.status, tenant, len(secret) >= 32) == (0, "museum", True)
    assert "PHOSPHENE_API_KEYS" in made.err
    held = f"{made.out.strip()},archive:0123456789abcdef,museum:another-secret-of-it"
    listed = desk.run("keys", PHOSPHENE_API_KEYS=held)
    assert listed.out.splitlines() == ["archive  1 key", "museum  2 keys"]
    assert desk.run("keys", "--json", PHOSPHENE_API_KEYS=held).json == [
        {"tenant": "archive", "keys": 1},
        {"tenant": "museum", "keys": 2},
    ]
    refused = desk.run("keys", "--new", "a:b")
    assert (refused.status, "without colon" in refused.err) == (2, True)


def test_commands_use_the_server_that_holds_the_folder(desk: Desk, server: str) -> None:
    found = desk.run("search", "--image", f"pictures/{_title_of_one(desk)[1]}.webp", "--json", "--limit", "1")
    assert found.status == 0, found.err
    assert found.json["hits"][0]["title"] == _title_of_one(desk)[0]
    filtered = desk.run("search", "dog", "--filter", "width>=100000", "--json")
    assert (filtered.status, filtered.json["hits"]) == (0, [])
    again = desk.run("ingest", "pictures", "--json")
    assert (again.status, again.json["counts"]["unchanged"]) == (0, PICTURES), again.err
    fetched = desk.run("ingest", "--fetch-urls", "http://127.0.0.1:9/m.csv", "--metadata", "http://127.0.0.1:9/m.csv")
    assert fetched.status == 1
    assert "http://127.0.0.1:9/m.csv: 127.0.0.1 is not on the public internet" in fetched.err + fetched.out
    assert desk.run("verify").status == 0
    assert server in desk.run("doctor").out
    second = desk.run("serve", "--port", "0")
    assert second.status == 1
    assert "is held by `phosphene serve` (pid " in second.err
    assert f"--server {server}" in second.err


def test_a_killed_server_leaves_nothing_locked(desk: Desk) -> None:
    process = desk.start("serve", "--port", "0", "--json")
    assert process.stdout is not None
    there = json.loads(process.stdout.readline())
    assert httpx2.get(f"{there['url']}/livez").status_code == 200
    assert there["pid"] == process.pid
    process.kill()
    process.communicate(timeout=60)
    assert desk.run("search", "dog", "--json").status == 0


def test_the_demo_serves_at_once_fills_itself_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    process = desk.start("demo", "--port", "0")
    assert process.stdout is not None
    first = _announced(process.stdout.readline())
    _wait_for(lambda: _assets(first) > 0)
    process.kill()
    process.communicate(timeout=60)
    process = desk.start("demo", "--port", "0")
    assert process.stdout is not None
    second = _announced(process.stdout.readline())
    with tarfile.open(CATALOGUE) as archive:
        pictures = {_read(archive, member) for member in archive.getmembers() if not member.name.endswith(".json")}
    _wait_for(lambda: _searchable(second) == len(pictures))
    found = desk.run("search", "a dog", "--limit", "1", "--json")
    assert (found.status, len(found.json["hits"])) == (0, 1), found.err
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def _announced(line: str) -> str:
    url = re.search(r"http://\S+", line)
    assert url, line
    return url[0]


def _status(url: str) -> Any:  # noqa: ANN401  JSON
    return httpx2.get(f"{url}/v1/status", timeout=30).json()


def _assets(url: str) -> int:
    return int(_status(url)["assets"])


def _searchable(url: str) -> int:
    return int(_status(url)["searchable"])


def _wait_for(reached: Callable[[], bool], timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.2)
