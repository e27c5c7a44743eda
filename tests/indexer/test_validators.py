"""Pictures on the web that are asked for again: only what changed is sent, decoded and embedded."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

import indexer.sources
from indexer.sources import fetch as fetching
from indexer.sources.fetch import Fetcher
from indexer.sources.validators import Validators
from phosphene.assemble import Engine
from phosphene.errors import PictureError, PictureFault
from phosphene.types import DEFAULT_TENANT as T
from tests.indexer.conftest import OpenEngine, save_picture, watch
from tests.indexer.running import assert_all_is_well, assets, counts, quarantined, run
from tests.indexer.test_fetch import Site, answer

OLD, SENT, NEW = (f"Mon, 23 Nov 2026 10:00:{second:02} GMT" for second in (0, 1, 30))


@dataclass
class Picture:
    """A page that answers conditional requests as nginx does, and notes them with the bytes that it sent."""

    data: bytes
    etag: str | None = None
    modified: str | None = None
    date: str = SENT
    conditions: list[tuple[str | None, str | None]] = field(default_factory=list)
    sent: int = 0

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        match, since = request.headers["If-None-Match"], request.headers["If-Modified-Since"]
        self.conditions.append((match, since))
        same = match == self.etag if match is not None else since is not None and since == self.modified
        request.send_response_only(304 if same else 200)
        said = {"Date": self.date, "ETag": self.etag, "Last-Modified": self.modified}
        for name, value in {**said, "Content-Length": None if same else str(len(self.data))}.items():
            if value is not None:
                request.send_header(name, value)
        request.end_headers()
        if not same:
            request.wfile.write(self.data)
            self.sent += len(self.data)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


def known_here(host: str, _port: int) -> list[str]:
    return ["127.0.0.1"] if host.endswith(".test") else ["127.0.0.2"]


def is_here(address: str) -> bool:
    return address == "127.0.0.1"


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    """A fetcher that knows *.test names as this machine, and takes 127.0.0.1 for the public internet."""
    fetcher = Fetcher(max_bytes=1000, allowed=is_here, resolve=known_here, backoff_s=0.01)
    yield fetcher
    fetcher.close()


@pytest.fixture
def web(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site as part of the public internet, for sources."""
    known = partial(Fetcher, allowed=is_here, resolve=known_here, backoff_s=0.01)
    monkeypatch.setattr(indexer.sources, "Fetcher", known)
    return site


@pytest.fixture
def some(tmp_path: Path) -> Callable[[int], bytes]:
    return lambda seed: save_picture(tmp_path / "made" / f"{seed}.png", seed=seed).read_bytes()


def test_a_second_run_asks_and_fetches_nothing(
    web: Site, open_with: OpenEngine, tmp_path: Path, some: Callable[[int], bytes]
) -> None:
    tagged = [Picture(some(seed), etag=f'"{seed}"', modified=OLD) for seed in range(20)]
    dated = [Picture(some(seed), modified=OLD) for seed in range(20, 40)]
    plain = [Picture(some(seed)) for seed in range(40, 44)]
    pages = [*tagged, *dated, *plain]
    web.pages |= {f"/{number}.png": page for number, page in enumerate(pages)}
    listed = tmp_path / "list.txt"
    listed.write_text("".join(web.url(f"/{number}.png") + "\n" for number in range(len(pages))))
    with open_with() as engine:
        assert counts(run(engine, listed, fetch_urls=True)) == (44, 0, 0, 0)
    assert all(page.conditions == [(None, None)] and page.sent == len(page.data) for page in pages)
    for page in pages:
        page.sent = 0
    with open_with() as engine:  # what was said of the pictures outlives the process
        watched = watch(engine)
        assert counts(run(engine, listed, fetch_urls=True)) == (0, 44, 0, 0)
        assert watched.pictures == 0
        assert_all_is_well(engine, 44)
    assert [page.conditions[1:] for page in tagged] == [[(page.etag, None)] for page in tagged]
    assert [page.conditions[1:] for page in dated] == [[(None, OLD)]] * len(dated)
    assert [page.conditions[1:] for page in plain] == [[(None, None)]] * len(plain)
    assert sum(page.sent for page in pages) == sum(len(page.data) for page in plain)


def test_what_changed_is_fetched_and_its_new_validators_are_kept(
    web: Site, engine: Engine, some: Callable[[int], bytes]
) -> None:
    web.pages["/a.png"] = page = Picture(some(0), etag='"one"')
    (url,) = urls = [web.url("/a.png")]
    run(engine, *urls, fetch_urls=True)
    page.data, page.etag = some(1), '"two"'
    assert counts(run(engine, *urls, fetch_urls=True)) == (1, 0, 0, 0)
    assert counts(run(engine, *urls, fetch_urls=True)) == (0, 1, 0, 0)
    page.etag = None  # served by another server from now on
    page.data = some(2)
    assert counts(run(engine, *urls, fetch_urls=True)) == (1, 0, 0, 0)
    assert counts(run(engine, *urls, fetch_urls=True)) == (0, 1, 0, 0)
    asked = [None, '"one"', '"two"', '"two"', None]
    assert page.conditions == [(match, None) for match in asked]
    assert engine.catalog.locations(T, [url])[url].fingerprint is None


def test_of_what_is_not_sent_again_words_are_taken_over(
    web: Site, engine: Engine, tmp_path: Path, some: Callable[[int], bytes]
) -> None:
    for seed in range(3):
        web.pages[f"/{seed}.png"] = Picture(some(seed), etag=f'"{seed}"')
    manifest = tmp_path / "m.csv"

    def write(*titles: str) -> None:
        rows = [f"{web.url(f'/{seed}.png')},{title}" for seed, title in enumerate(titles)]
        manifest.write_text("\n".join(["file,title", *rows, rows[0]]))  # one of them twice

    write("A", "B", "C")
    assert counts(run(engine, manifest, fetch_urls=True)) == (3, 1, 0, 0)
    pages = [page for page in web.pages.values() if isinstance(page, Picture)]
    sent = [page.sent for page in pages]
    write("A", "Bee", "C")
    watched = watch(engine)
    assert counts(run(engine, manifest, fetch_urls=True)) == (0, 3, 1, 0)
    assert watched.pictures == 0
    assert sorted(one.title or "" for one in assets(engine)) == ["A", "Bee", "C"]
    lone = run(engine, web.url("/1.png"), fetch_urls=True)  # says nothing: what is known stays
    assert counts(lone) == (0, 1, 0, 0)
    assert sorted(one.title or "" for one in assets(engine)) == ["A", "Bee", "C"]
    assert [page.sent for page in pages] == sent != [0] * 3


def test_a_picture_that_can_be_had_again_is_no_longer_listed_as_unusable(
    web: Site, engine: Engine, some: Callable[[int], bytes]
) -> None:
    page = Picture(some(0), etag='"0"')
    web.pages["/a.png"] = page
    run(engine, web.url("/a.png"), fetch_urls=True)
    web.pages["/a.png"] = answer(503)
    assert counts(run(engine, web.url("/a.png"), fetch_urls=True)) == (0, 0, 0, 1)
    assert list(quarantined(engine)) == ["a.png"]
    web.pages["/a.png"] = page
    assert counts(run(engine, web.url("/a.png"), fetch_urls=True)) == (0, 1, 0, 0)
    assert page.conditions[-1] == ('"0"', None)
    assert quarantined(engine) == {}


def test_a_picture_that_was_deleted_here_is_fetched_whole(
    web: Site, engine: Engine, some: Callable[[int], bytes]
) -> None:
    web.pages["/a.png"] = page = Picture(some(0), etag='"0"')
    run(engine, web.url("/a.png"), fetch_urls=True)
    engine.catalog.delete_asset(T, assets(engine)[0].id)
    assert counts(run(engine, web.url("/a.png"), fetch_urls=True)) == (1, 0, 0, 0)
    assert page.conditions == [(None, None)] * 2

    def deleting(request: BaseHTTPRequestHandler) -> None:
        engine.catalog.delete_asset(T, assets(engine)[0].id)
        page(request)

    web.pages["/a.png"] = deleting
    assert counts(run(engine, web.url("/a.png"), fetch_urls=True)) == (0, 0, 0, 0)
    assert page.conditions[2:] == [('"0"', None)]
    web.pages["/a.png"] = page
    assert counts(run(engine, web.url("/a.png"), fetch_urls=True)) == (1, 0, 0, 0)


def known(fetcher: Fetcher, url: str) -> str:
    fingerprint = fetcher.ask(url, None).fingerprint
    assert fingerprint is not None
    return fingerprint


def test_conditions_go_to_the_address_that_sent_the_picture_and_to_no_other(site: Site, fetcher: Fetcher) -> None:
    old, other = Picture(b"old", etag='"1"'), Picture(b"other", etag='"1"')  # each calls its picture "1"
    seen: list[str | None] = []

    def moved(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["If-None-Match"])
        answer(302, Location=target)(request)

    site.pages |= {"/moved": moved, "/old": old, "/other": other}
    target = site.url("/old", "old.test")
    fingerprint = known(fetcher, site.url("/moved"))
    assert "old.test" not in fingerprint
    assert fetcher.ask(site.url("/moved"), fingerprint).data is None
    target = site.url("/other", "other.test")
    changed = fetcher.ask(site.url("/moved"), fingerprint)
    assert changed.data == b"other"
    assert changed.fingerprint not in (None, fingerprint)
    assert seen == [None] * 3
    assert (old.conditions, other.conditions) == ([(None, None), ('"1"', None)], [(None, None)])


def test_every_guard_holds_on_conditional_requests(
    site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/a"] = page = Picture(b"picture", etag='"1"')
    fingerprint = known(fetcher, site.url("/a"))

    def refused(asking: Fetcher = fetcher) -> PictureError:
        with pytest.raises(PictureError) as caught:
            asking.ask(site.url("/a"), fingerprint)
        return caught.value

    rebound = Fetcher(max_bytes=1000, allowed=is_here, resolve=lambda *_: ["10.0.0.1"])
    assert "not on the public internet" in str(refused(rebound))
    rebound.close()
    assert len(page.conditions) == 1
    site.pages["/a"] = answer(302, Location=f"http://[::1]:{site.port}/secret")
    assert "not on the public internet" in str(refused())
    site.pages["/a"] = answer(302, Location="/a")
    assert "more than 5 redirects" in str(refused())
    site.pages["/a"] = Picture(bytes(1001), etag='"2"')
    assert refused().fault is PictureFault.TOO_MANY_BYTES

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x")
            time.sleep(0.05)

    site.pages["/a"] = drip
    monkeypatch.setattr(fetching, "TOTAL_TIMEOUT_S", 0.2)
    assert "took longer" in str(refused())


def test_nobody_who_was_not_asked_may_say_that_nothing_changed(site: Site, fetcher: Fetcher) -> None:
    site.pages["/a"] = answer(304)
    with pytest.raises(PictureError, match="the server answers 304 Not Modified"):
        fetcher.ask(site.url("/a"), None)
    elsewhere = Validators.of(site.url("/b"), {"etag": '"1"'})
    assert elsewhere is not None
    with pytest.raises(PictureError, match="the server answers 304 Not Modified"):
        fetcher.ask(site.url("/a"), elsewhere.fingerprint)


def test_a_busy_server_is_asked_again_with_the_same_condition(site: Site, fetcher: Fetcher) -> None:
    page = Picture(b"picture", etag='W/"1"')
    site.pages["/a"] = page
    fingerprint = known(fetcher, site.url("/a"))

    def busy_once(request: BaseHTTPRequestHandler) -> None:
        site.pages["/a"] = page
        answer(503, Retry_After="0")(request)

    site.pages["/a"] = busy_once
    assert fetcher.ask(site.url("/a"), fingerprint).data is None
    assert page.conditions[1:] == [('W/"1"', None)]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"etag": "*"},
        {"etag": '"a", *'},
        {"etag": "unquoted"},
        {"etag": '"a\r\nX: b"'},
        {"etag": '"' + "a" * 501 + '"'},
        {"last-modified": OLD},
        {"last-modified": OLD, "date": OLD},  # may have changed again within that second
        {"last-modified": NEW, "date": OLD},
        {"last-modified": "yesterday", "date": NEW},
        {"last-modified": "Mon, 23 Nov 2026 10:00:00 GMT" + " " * 100 + "(x)", "date": NEW},
    ],
)
def test_what_can_not_be_relied_on_is_not_kept(headers: dict[str, str]) -> None:
    assert Validators.of("http://a.test/", headers) is None


@pytest.mark.parametrize("fingerprint", [None, "", "48-1700000000", "5", "[]", "{}", json.dumps({"etag": '"1"'})])
def test_other_fingerprints_are_none_of_these(fingerprint: str | None) -> None:
    assert Validators.parse(fingerprint) is None
