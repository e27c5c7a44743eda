"""What whoever runs the service sees of it: metrics, log lines, traces, and whether it is ready."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from phosphene import jobs, logs, metrics, tracing
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import NamedSpace
from phosphene.errors import InvalidSettings, Unavailable
from phosphene.jobs import CeleryJobs, JobName, LocalJobs
from phosphene.life import show_life
from phosphene.types import DEFAULT_TENANT
from search_api.health import Health
from search_api.probes import PROBE_S
from search_api.scrape import readings_of
from tests.catalog.samples import OTHER_SPACE, SPACE, new
from tests.search_api.served import KEYS, Served, png, serving, settings_for

PATIENCE_S = 120  # a busy machine
SCRAPER = "scraper-secret-0123456789"


def eventually(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read an exposition: value by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    """Give one value, 0 where there is none."""
    return samples(text).get((name, frozenset(labels.items())), 0.0)


def test_what_is_done_is_counted_by_route_stage_and_kind(data: Path) -> None:
    with serving(data) as served:
        before = served.client.get("/metrics").text
        shown = served.search(text="a small boat")["hits"][0]["asset_id"]
        served.search(text="a small boat")
        served.search(asset_id=shown)
        assert served.client.post("/v1/assets", files={"image": png(7)}).status_code == 201
        assert served.client.post("/v1/assets", files={"image": b"no picture"}).status_code == 422
        for number in range(5):
            assert served.client.get(f"/v1/assets/{shown}/image").status_code == 200
            assert served.client.get(f"/no/such/place/{number}").status_code == 404
        after = served.client.get("/metrics").text

    def grew(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    requests = "phosphene_http_request_seconds_count"
    assert grew(requests, method="POST", route="/v1/search", status="200") == 3
    assert grew(requests, method="GET", route="/v1/assets/{asset_id}/image", status="200") == 5
    assert grew(requests, method="POST", route="/v1/assets", status="422") == 1
    assert grew(requests, method="GET", route="none", status="404") == 5
    assert sum(grew("phosphene_searches_total", kind="text", matched=said) for said in ("yes", "no")) == 2
    assert sum(grew("phosphene_searches_total", kind="asset_id", matched=said) for said in ("yes", "no")) == 1
    for stage in ("embed", "vectors", "match", "catalogue"):
        assert grew("phosphene_search_stage_seconds_count", stage=stage) == 3
    assert grew("phosphene_text_embeddings_total", result="miss") == 1
    assert grew("phosphene_text_embeddings_total", result="hit") == 1
    assert grew("phosphene_pictures_embedded_total") == 1
    assert grew("phosphene_embed_stage_seconds_count", stage="forward") == 1
    assert grew("phosphene_embed_stage_seconds_count", stage="upsert") == 1
    assert grew("phosphene_embed_batch_fill_ratio_count") == 1


def test_an_ingest_is_counted_from_reading_to_quarantine(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(3):
        (pictures / f"{seed}.png").write_bytes(png(seed))
    (pictures / "broken.png").write_bytes(b"text")
    with serving(tmp_path / "data") as served:
        before = served.client.get("/metrics").text
        begun = served.client.post("/v1/ingests", json={"sources": [str(pictures)]}, headers=served.local).json()
        url = f"/v1/ingests/{begun['id']}"
        eventually("the ingest ends", lambda: served.client.get(url).json()["state"] == "finished")
        eventually("its job ends", lambda: _ingests_done(served) == _done(before) + 1)
        after = served.client.get("/metrics").text

    def grew(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grew("phosphene_pictures_embedded_total") == 3
    assert grew("phosphene_pictures_quarantined_total", fault="not_a_picture") == 1
    assert grew("phosphene_embed_stage_seconds_count", stage="read") == 4
    assert grew("phosphene_embed_stage_seconds_count", stage="register") == 1
    assert grew("phosphene_jobs_sent_total", job="phosphene.ingest", outcome="accepted") == 1
    assert value(after, "phosphene_index_lag_pictures", state="registered") == 0


def _done(text: str) -> float:
    return value(text, "phosphene_job_seconds_count", job="phosphene.ingest", outcome="done")


def _ingests_done(served: Served) -> float:
    return _done(served.client.get("/metrics").text)


def test_no_label_tells_what_users_wrote_or_who_they_are(tmp_path: Path) -> None:
    museum = {"Authorization": "Bearer museum-secret-0123456789"}
    ids = []
    with serving(tmp_path / "data", api_keys=KEYS, metrics_key=SecretStr(SCRAPER)) as served:

        def scraped_after(bird: str, colour: int) -> str:
            title = {"title": f"A {bird}"}
            added = served.client.post("/v1/assets", headers=museum, files={"image": png(colour)}, data=title)
            ids.append(added.json()["asset_id"])
            served.client.get(f"/v1/assets/{ids[-1]}", headers=museum)
            served.client.post("/v1/search", headers=museum, json={"text": f"{bird} at dusk"})
            served.client.request(f"BREW{bird.upper()}", f"/v1/search?q={bird}", headers=museum)
            served.client.get(f"/{bird}", headers={"X-Request-ID": f"{bird}-1"})
            return served.client.get("/metrics", headers={"Authorization": f"Bearer {SCRAPER}"}).text

        scraped_after("heron", 3)  # a scrape is seen by the next one
        before = scraped_after("crane", 4)
        text = scraped_after("stork", 5)
    for told in ("museum", "heron", "crane", "stork", "BREW", "dusk", *ids, str(tmp_path)):
        assert told not in text
    assert {(name, frozenset(labels)) for name, labels in samples(text)} == {
        (name, frozenset(labels)) for name, labels in samples(before)
    }, "what others ask for adds no series"


def test_metrics_need_their_own_key_where_there_are_keys(tmp_path: Path) -> None:
    tenant = {"Authorization": "Bearer museum-secret-0123456789"}
    with serving(tmp_path / "a", api_keys=KEYS) as served:
        refused = served.client.get("/metrics", headers=tenant)
        assert refused.status_code == 403
        assert "PHOSPHENE_METRICS_KEY" in refused.json()["detail"]
        assert served.client.get("/metrics", headers=served.local).status_code == 200
    with serving(tmp_path / "b", api_keys=KEYS, metrics_key=SecretStr(SCRAPER)) as served:
        assert served.client.get("/metrics").status_code == 401
        assert served.client.get("/metrics", headers=tenant).status_code == 401
        assert served.client.get("/metrics", headers={"Authorization": f"Bearer {SCRAPER}"}).status_code == 200
        assert served.client.get("/v1/status", headers={"Authorization": f"Bearer {SCRAPER}"}).status_code == 401


def test_a_request_id_is_taken_over_only_where_it_is_one(served: Served) -> None:
    for given in ("abc-123", "A" * 64, "01H.z_9"):
        assert served.client.get("/livez", headers={"X-Request-ID": given}).headers["x-request-id"] == given
    for given in ("", "A" * 65, 'x" injected="1', "-dash", "a b", "<script>"):
        answered = served.client.get("/livez", headers={"X-Request-ID": given}).headers["x-request-id"]
        assert answered != given
        assert logs.is_id(answered)
    refused = served.client.get("/v1/status", headers={"Host": "evil.example", "X-Request-ID": "r-1"})
    assert (refused.status_code, refused.headers["x-request-id"]) == (400, "r-1")


@contextmanager
def process(folder: Path, **environment: str) -> Iterator[tuple[str, Path]]:
    """Run `phosphene serve` on a free port; give its URL and the file that its standard error goes to."""
    kept = {name: told for name, told in os.environ.items() if not name.startswith(("PHOSPHENE_", "OTEL_"))}
    told = {"PHOSPHENE_DATA": str(folder / "data"), "PHOSPHENE_THREADS": "1", "PHOSPHENE_DECODE_PROCESSES": "1"}
    log = folder / "log.txt"
    with log.open("wb") as errors:
        running = subprocess.Popen(
            [sys.executable, "-m", "phosphene", "serve", "--port", "0"],
            cwd=Path(__file__).parents[2],
            env=kept | told | environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert running.stdout is not None
            said = running.stdout.readline()
            found = re.search(r"http://\S+", said)
            assert found is not None, said + log.read_text()
            yield found[0], log
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(60)
            if running.stdout is not None:
                running.stdout.close()


def test_json_lines_lead_from_a_request_to_what_was_done_for_it(data: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "one.png").write_bytes(png(11))
    (tmp_path / "home").mkdir()
    shutil.move(data, tmp_path / "home" / "data")
    with process(tmp_path / "home", PHOSPHENE_LOG_FORMAT="json") as (url, log), httpx2.Client(base_url=url) as client:
        holder = json.loads((tmp_path / "home" / "data" / "holder.json").read_text())
        local = {"X-Phosphene-Local-Token": holder["token"]}
        prompt = {"text": "a wistful heron"}
        client.post("/v1/search?secret=hunter2", json=prompt, headers={"X-Request-ID": "search-1"}, timeout=60)
        begun = client.post(
            "/v1/ingests", json={"sources": [str(pictures)]}, headers=local | {"X-Request-ID": "ingest-1"}, timeout=60
        )
        ingest = begun.json()["id"]
        eventually("the ingest ends", lambda: client.get(f"/v1/ingests/{ingest}").json()["state"] == "finished")
        eventually("it is said", lambda: f"ingest {ingest} finished" in log.read_text())
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    (search,) = [one for one in entries if one.get("request_id") == "search-1"]
    assert (search["logger"], search["method"], search["route"]) == ("phosphene.access", "POST", "/v1/search")
    assert (search["status"], search["path"]) == (200, "/v1/search")
    assert search["ms"] > 0
    mine = [one for one in entries if one.get("request_id") == "ingest-1"]
    assert {one["logger"] for one in mine} == {"phosphene.access", "indexer.jobs"}
    assert [one["ingest_id"] for one in mine if one["logger"] == "indexer.jobs"] == [ingest]
    for told in ("heron", "hunter2", holder["token"], str(pictures)):
        assert told not in log.read_text()


class Collector:
    """What a collector of OpenTelemetry is to us: it takes spans over HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, bytes, bytes, bytes]] = []  # name, trace, span, parent
        self.raw = b""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.raw += body
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        outer.spans += [(s.name, s.trace_id, s.span_id, s.parent_span_id) for s in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  its signature
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    running = Collector()
    monkeypatch.setenv(tracing.ENDPOINT, running.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield running
    tracing.stop()
    running.close()


def test_a_trace_goes_from_the_caller_s_through_the_request_into_its_job(
    data: Path, collector: Collector, tmp_path: Path
) -> None:
    trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(png(21))
    assert tracing.start("phosphene-test")
    with serving(data) as served:
        headers = {"traceparent": f"00-{trace}-{caller}-01"}
        served.client.post("/v1/search", json={"text": "a wistful heron"}, headers=headers)
        sources = {"sources": [str(tmp_path / "pictures")]}
        begun = served.client.post("/v1/ingests", json=sources, headers=headers | served.local).json()
        url = f"/v1/ingests/{begun['id']}"
        eventually("the ingest ends", lambda: served.client.get(url).json()["state"] == "finished")
    tracing.stop()
    ours = [span for span in collector.spans if span[1].hex() == trace]
    by_name = {name: (span, parent) for name, _, span, parent in ours}
    assert {"POST /v1/search", "POST /v1/ingests", "phosphene.ingest"} <= set(by_name)
    assert by_name["POST /v1/search"][1].hex() == caller
    for stage in ("search.embed", "search.vectors", "search.match", "search.catalogue"):
        assert by_name[stage][1] == by_name["POST /v1/search"][0]
    assert by_name["phosphene.ingest"][1] == by_name["POST /v1/ingests"][0]
    assert by_name["embed.forward"][1] == by_name["phosphene.ingest"][0]
    assert b"heron" not in collector.raw


def test_without_the_package_traces_are_off_and_one_line_says_so() -> None:
    """The package is hidden from a process of its own."""
    script = (
        "import sys; sys.modules['opentelemetry.sdk.resources'] = None\n"
        "from phosphene import tracing\n"
        "assert not tracing.start('x')\n"
        "with tracing.span('goes on'): print('done')\n"
    )
    environment = os.environ | {tracing.ENDPOINT: "http://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
    (line,) = done.stderr.splitlines()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, but opentelemetry" in line
    assert "pip install 'phosphene[otel]'" in line


def test_readiness_is_told_in_time_though_a_store_hangs_and_every_thread_waits_for_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap is set in the catalogue: a real one that hangs is in tests/workers."""
    with serving(data) as served:
        go_on = threading.Event()

        def hang() -> None:
            go_on.wait(PATIENCE_S)
            raise Unavailable("it hung")

        with monkeypatch.context() as trap, ThreadPoolExecutor(60) as pool:
            trap.setattr(served.engine.catalog._database, "reading", hang)
            try:
                held = [pool.submit(httpx2.get, f"{served.url}/v1/status", timeout=PATIENCE_S) for _ in range(60)]
                eventually("all threads wait", lambda: _requests(served) != "ok")
                told = served.client.get("/readyz")
                assert told.status_code == 503
                assert re.fullmatch(r"no answer for \d+ s", told.json()["stores"]["catalogue"])
                assert told.json()["stores"]["vectors"] == "ok"
                assert any(reason.startswith("requests: no thread came free") for reason in told.json()["reasons"])
                assert served.client.get("/livez").status_code == 200
                scraped = served.client.get("/metrics")
                assert value(scraped.text, "phosphene_part_up", part="catalogue") == 0
                assert value(scraped.text, "phosphene_part_up", part="blobs") == 1
                assert "phosphene_work_pictures{" not in scraped.text
                probes = [one for one in threading.enumerate() if one.name == "probe"]
                assert len(probes) <= 3, "one thread waits for each question, however often it is asked"
            finally:
                go_on.set()
            assert {one.result().status_code for one in held} == {503}
        eventually("it is ready again", lambda: served.client.get("/readyz").status_code == 200)
        assert PROBE_S < 5, "the health check of the container waits for 8 s"


def _requests(served: Served) -> str:
    said: str = served.client.get("/readyz").json()["work"]["requests"]
    return said


def test_requests_that_go_through_a_catalogue_leave_threads_to_others(served: Served) -> None:
    """45 automatic keywords at once kept a search waiting for as many seconds."""
    long: dict[str, Any] = {
        "/v1/keywords": {},
        "/v1/moderation/scan": {},
        "/v1/evaluations": {"index_recall": {"questions": 1, "shares": []}},
        "/v1/probes": {"name": "x"},
        "/v1/probes/x/apply": {},
    }
    places = served.server._app.state.long_requests
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    try:
        for path, body in long.items():
            refused = served.client.post(path, json=body)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "10"), path
        assert len(served.search(text="a boat", limit=3)["hits"]) == 3
    finally:
        for _ in range(taken):
            places.release()
    for _ in range(taken + 1):  # each gives its place back, also where it fails
        assert served.client.post("/v1/probes/x/apply", json={}).status_code == 404


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what dies here
def test_a_job_that_hangs_and_a_thread_that_died_are_reasons(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    begun = threading.Event()

    def hang(**_: object) -> None:
        begun.set()
        while not go_on.wait(0.02):
            if alive.is_set():
                show_life()

    def die(**_: object) -> None:
        raise SystemExit

    alive = threading.Event()
    monkeypatch.setattr(jobs, "STUCK_S", 0.5)
    local = LocalJobs({JobName.SWEEP: hang, JobName.GENERATE: die}, capacity=2)
    local.send(JobName.SWEEP, {})
    assert begun.wait(20)
    eventually("it is noticed", lambda: local.trouble()["jobs"] is not None)
    assert str(local.trouble()["jobs"]).startswith("phosphene.sweep has shown no life for")
    alive.set()
    eventually("it lives", lambda: local.trouble()["jobs"] is None)
    assert local.trouble() == {"generate": None, "jobs": None}
    local.send(JobName.GENERATE, {})
    eventually("it died", lambda: local.trouble()["generate"] is not None)
    assert "has died" in str(local.trouble()["generate"])
    go_on.set()

    before = served.client.get("/readyz").json()
    assert before["ready"], before
    monkeypatch.setattr(served.server._app.state.health, "_jobs", local)
    told = served.client.get("/readyz")
    assert told.status_code == 503
    assert told.json()["reasons"] == [f"thread generate: {local.trouble()['generate']}"]
    local.close()


def test_queues_that_readiness_needs_must_be_there(served: Served) -> None:
    settings = settings_for(Path("unused"), ready_queues=("embed", "embd"))
    engine: Any = SimpleNamespace(settings=settings, catalog=served.engine.catalog, spaces=served.engine.spaces)
    with pytest.raises(InvalidSettings, match="PHOSPHENE_READY_QUEUES names embd: there are ingest"):
        Health(engine, CeleryJobs("redis://127.0.0.1:1/0"))


def test_a_change_of_the_model_shows_how_far_it_is(tmp_path: Path) -> None:
    catalog = Catalog.at(str(tmp_path / "catalog.sqlite"), migrate=True)
    for space in (SPACE, OTHER_SPACE):
        catalog.record_space(space)
    catalog.register(None, DEFAULT_TENANT, SPACE.id, [new("cat"), new("dog")])
    assert readings_of(catalog.backlog(), catalog.reindexes.active())[metrics.REINDEX] == {}
    catalog.reindexes.start(NamedSpace("starter", SPACE), NamedSpace("other", OTHER_SPACE), {})
    text = metrics.exposition(readings_of(catalog.backlog(), catalog.reindexes.active())).decode()
    assert value(text, "phosphene_reindex_pictures", state="total") == 2
    assert value(text, "phosphene_reindex_pictures", state="done") == 0
    assert value(text, "phosphene_work_pictures", space=SPACE.id, state="waiting") == 2
    catalog.close()
