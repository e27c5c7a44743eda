"""The model is changed under 20 clients: none is refused, none is answered by two models. And it is killed at that."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from indexer.pipeline import ingest
from indexer.verify import verify
from phosphene.assemble import open_engine
from phosphene.types import DEFAULT_TENANT
from tests.indexer.conftest import make_model, save_picture, save_pictures
from tests.resilience.conftest import Figure
from tests.search_api.served import Served, serving, settings_for

CLIENTS = 20
ASKED_OF = 60  # pictures that questions are about; the rest comes and goes meanwhile
OTHERS = 120
PICTURES = ASKED_OF + OTHERS
NEAR = 1e-4  # cosine; batches of texts differ by about 1e-6
PATIENCE_S = 300
MANY = 400  # pictures, of the change that is killed
KILLS = 3
ROOT = Path(__file__).parents[2]
TEXTS = ("a cat", "a red bus", "two dogs on a street", "boats", "something blue", "an owl at night")

Question = tuple[str, str]  # kind, and what is asked
Scores = dict[str, float]  # of every picture, by asset


@dataclass
class Load:
    """Twenty clients that ask the same questions over and over, and note what they get."""

    url: str
    questions: list[Question]
    stop: threading.Event = field(default_factory=threading.Event)
    failed: list[str] = field(default_factory=list)
    answers: list[tuple[Question, str, tuple[tuple[str, float], ...]]] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)  # when a space was last seen to answer

    def run(self) -> None:
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        self.stop.wait()
        for thread in threads:
            thread.join(PATIENCE_S)

    def _client(self, number: int) -> None:
        with httpx2.Client(base_url=self.url, timeout=120) as client:
            for at in itertools.count(number):
                if self.stop.is_set():
                    return
                question = self.questions[at % len(self.questions)]
                try:
                    self._ask(client, question)
                except Exception as error:  # noqa: BLE001  whatever a client meets is a failure
                    self.failed.append(f"{question}: {type(error).__name__}: {error}")

    def _ask(self, client: httpx2.Client, question: Question) -> None:
        """Ask for two pages; the second may come after a swap."""
        cursor = None
        for _ in range(2):
            began = time.monotonic()
            response = client.post("/v1/search", json=body_of(question, limit=5, cursor=cursor))
            if response.status_code != 200:
                self.failed.append(f"{question}: {response.status_code} {response.text[:300]}")
                return
            said = response.json()
            hits = tuple((hit["asset_id"], hit["score"]) for hit in said["hits"])
            self.answers.append((question, said["space"], hits))
            self.last[said["space"]] = max(began, self.last.get(said["space"], 0.0))
            cursor = said["next_cursor"]


def body_of(question: Question, **more: object) -> dict[str, Any]:
    kind, asked = question
    return {kind: asked, "filter": {"field": "year", "lte": 2000}, **more}


def all_scores(client: httpx2.Client, question: Question) -> tuple[str, Scores]:
    """Give the space that answers now, and its score of every picture that the question can find."""
    response = client.post("/v1/search", json=body_of(question, limit=100))
    assert response.status_code == 200, response.text
    said = response.json()
    return said["space"], {hit["asset_id"]: hit["score"] for hit in said["hits"]}


def is_of(scores: Scores, hits: tuple[tuple[str, float], ...]) -> bool:
    """Tell whether an answer is what a model says by itself: each picture has the score that it has there."""
    return all(asset in scores and abs(scores[asset] - score) < NEAR for asset, score in hits)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    model = make_model(tmp_path / "old", seed=1)
    for path in save_pictures(tmp_path / "asked", ASKED_OF):
        path.with_suffix(".json").write_text('{"year": 1990}')
    for path in save_pictures(tmp_path / "others", OTHERS, first=1000):
        path.with_suffix(".json").write_text('{"year": 2020}')
    with open_engine(settings_for(tmp_path / "data", model=str(model)), command="tests") as engine:
        ingest([str(tmp_path / "asked"), str(tmp_path / "others")], engine=engine, tenant=DEFAULT_TENANT)
    with serving(tmp_path / "data", model=str(model), batch_size=8) as running:
        yield running


def act(served: Served, action: str) -> float:
    """Do something with the change; give the seconds until the server has said that it is done."""
    began = time.monotonic()
    response = served.client.post(f"/v1/reindex/{action}", headers=served.local)
    assert response.status_code == 200, response.text
    return time.monotonic() - began


def await_state(served: Served, state: str, *, dropped: bool = False) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        now: dict[str, Any] = served.client.get("/v1/reindex").json()["reindex"]
        if now["state"] == state and now["dropped"] == dropped:
            return now
        assert now["state"] != "refused", now["gates"]
        assert time.monotonic() < deadline, (now["state"], now["error"])
        time.sleep(0.05)


def write_meanwhile(served: Served, tmp_path: Path, stop: threading.Event, failed: list[str]) -> None:
    """Bring pictures in, describe them, take some out again: none that the questions are about."""
    with httpx2.Client(base_url=served.url, timeout=120) as client:
        for number in itertools.count(5000):
            if stop.wait(0.05):
                return
            data = save_picture(tmp_path / "uploads" / f"{number}.png", seed=number).read_bytes()
            form = {"metadata": '{"year": 2021}'}
            added = client.post("/v1/assets", files={"image": (f"{number}.png", data)}, data=form)
            if added.status_code not in (200, 201, 202):
                failed.append(f"upload: {added.status_code} {added.text[:300]}")
                continue
            place = f"/v1/assets/{added.json()['asset_id']}"
            changed = client.patch(place, json={"title": f"Number {number}"})
            gone = client.delete(place) if number % 3 == 0 else changed
            failed += [f"{one.status_code} {one.text[:300]}" for one in (changed, gone) if not one.is_success]


def require_different(
    truth: dict[tuple[Question, str], Scores], questions: list[Question], before: str, after: str
) -> None:
    """See that the two models answer each question otherwise: else a mixed answer would look like a right one."""
    assert before != after
    for question in questions:
        old, new = truth[question, before], truth[question, after]
        assert old.keys() == new.keys()
        assert max(abs(old[asset] - new[asset]) for asset in old) > 10 * NEAR, question


def test_20_clients_meanwhile(served: Served, tmp_path: Path, figure: Figure) -> None:
    new = make_model(tmp_path / "new", seed=2)
    asset = served.client.post("/v1/search", json=body_of(("text", TEXTS[0]), limit=1)).json()["hits"][0]["asset_id"]
    questions: list[Question] = [*(("text", text) for text in TEXTS), ("asset_id", asset)]
    truth: dict[tuple[Question, str], Scores] = {}

    def learn() -> str:
        space = ""
        for question in questions:
            space, scores = all_scores(served.client, question)
            truth[question, space] = scores
        return space

    before = learn()
    load = Load(served.url, questions)
    writes_failed: list[str] = []
    threads = [
        threading.Thread(target=load.run),
        threading.Thread(target=write_meanwhile, args=(served, tmp_path, load.stop, writes_failed)),
    ]
    for thread in threads:
        thread.start()
    try:
        began = time.monotonic()
        # Random weights see pictures as nearly alike, which codes of 4 bits can't tell apart.
        asked = {"model": str(new), "least_recall": 0.5}
        started = served.client.post("/v1/reindex", json=asked, headers=served.local)
        assert started.status_code == 202, started.text
        await_state(served, "swapped")
        took_s = time.monotonic() - began
        after = learn()
        rolled_back = time.monotonic()
        said_s = act(served, "rollback")
        time.sleep(1.0)
        rollback_s = max(0.0, load.last[after] - rolled_back)  # the last answer that was still begun with the new one
        assert learn() == before
        act(served, "swap")
        await_state(served, "swapped")
        while time.monotonic() - load.last[before] < 2.0:  # second pages of the model before; it goes with them
            time.sleep(0.1)
        act(served, "finish")
        await_state(served, "finished", dropped=True)
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()

    require_different(truth, questions, before, after)
    mixed = [one for one in load.answers if not is_of(truth[one[0], one[1]], one[2])]
    spaces = Counter(space for _, space, _ in load.answers)
    figure(
        f"reindex of {PICTURES} pictures under {CLIENTS} clients: {len(load.answers)} answers "
        f"({spaces[before]} of the old model, {spaces[after]} of the new), {len(load.failed)} failed, "
        f"{len(mixed)} mixed; {len(writes_failed)} writes failed; built and swapped in {took_s:.1f} s; "
        f"rollback answered in {said_s:.2f} s, the last answer of the new model began {rollback_s:.2f} s after it"
    )
    assert load.failed == []
    assert writes_failed == []
    assert mixed == []
    assert min(spaces[before], spaces[after]) > CLIENTS
    report = served.client.post("/v1/verify", json={"repair": False}, headers=served.local).json()
    assert report["differences"] == {}


def embedded_so_far(data: Path) -> int:
    """Count what the new model has embedded, as the file of the catalogue has it."""
    with contextlib.closing(sqlite3.connect(data / "catalog.sqlite", timeout=30)) as database:
        counted = database.execute("SELECT count(*) FROM embeddings WHERE space_id LIKE 'new-%'").fetchone()
    return int(counted[0])


def test_killed_again_and_again_it_goes_on_where_it_was(tmp_path: Path, figure: Figure) -> None:
    old, new = make_model(tmp_path / "old", seed=1), make_model(tmp_path / "new", seed=2)
    save_pictures(tmp_path / "pictures", MANY)
    data = tmp_path / "data"
    with open_engine(settings_for(data, model=str(old)), command="tests") as engine:
        ingest([str(tmp_path / "pictures")], engine=engine, tenant=DEFAULT_TENANT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
    told = {"DATA": data, "MODEL": old, "THREADS": 1, "DECODE_PROCESSES": 1, "BATCH_SIZE": 4}
    environment |= {f"PHOSPHENE_{name}": str(value) for name, value in told.items()} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "phosphene", "reindex", "--model", str(new), "--least-recall", "0", "--json"]
    reached = [0]
    for kill in range(1, KILLS + 1):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and embedded_so_far(data) < kill * MANY // (KILLS + 1):
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        reached.append(embedded_so_far(data))
    assert reached == sorted(reached)  # nothing is done twice from the beginning
    assert reached[-1] < MANY
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    moved = json.loads(done.stdout)
    figure(f"reindex of {MANY} pictures killed at {reached[1:]}: {moved['reindex']['state']}, all there")
    assert moved["space"].startswith("new-")
    with open_engine(settings_for(data), command="tests") as engine:
        assert engine.index.count() == MANY
        assert verify(engine=engine, repair=False, deep=True).counts == {}
