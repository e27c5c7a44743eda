"""A real Chromium on a real server. No request may leave this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from tests.search_api.served import Served, ingested_folder, serving

BROWSER = os.environ.get("PHOSPHENE_TEST_BROWSER") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not Path(BROWSER).exists():
        pytest.fail(
            f"no browser at {BROWSER}: install the Debian package `chromium`, or name one in PHOSPHENE_TEST_BROWSER",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of one's own with the sample in it."""
    return Path(shutil.copytree(ingested_folder(), tmp_path / "data"))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("browsed") / "data"
    shutil.copytree(ingested_folder(), folder)
    with serving(folder) as running:
        yield running


@dataclass
class Watched:
    """What pages asked for and complained of."""

    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    forgiven: tuple[str, ...] = ()  # parts of complaints that a test provokes

    def watch(self, context: BrowserContext) -> None:
        context.on("request", self._requested)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)

    def check(self) -> None:
        home = urlsplit(self.url).netloc
        elsewhere = [url for url in self.requests if url.startswith("http") and urlsplit(url).netloc != home]
        assert not elsewhere
        assert not [said for said in self.complaints if not any(part in said for part in self.forgiven)]


@pytest.fixture
def watched(served: Served) -> Iterator[Watched]:
    watching = Watched(served.url)
    yield watching
    watching.check()


@pytest.fixture
def page(browser: Browser, served: Served, watched: Watched) -> Iterator[Page]:
    """The page, opened, at its beginning."""
    context = browser.new_context(base_url=served.url, viewport={"width": 1280, "height": 860})
    context.set_default_timeout(20_000)
    watched.watch(context)
    opened = context.new_page()
    opened.goto("/")
    opened.locator(".hit img.there").first.wait_for()
    yield opened
    context.close()


@pytest.fixture
def phone(browser: Browser, served: Served, watched: Watched) -> Iterator[Page]:
    context = browser.new_context(
        base_url=served.url,
        viewport={"width": 390, "height": 844},
        device_scale_factor=2,
        has_touch=True,
        is_mobile=True,
        color_scheme="dark",
        reduced_motion="reduce",
    )
    context.set_default_timeout(20_000)
    watched.watch(context)
    yield context.new_page()
    context.close()
