"""The page says plainly when the nearest pictures are no match. Which texts match is asked of the API, not assumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from phosphene.types import DEFAULT_TENANT
from tests.search_api.served import Served, ingested_folder, serving

TEXTS = (
    "zzxq 0x7f 9981",
    "quantum chromodynamics",
    "a dog",
    "a red apple",
    "a sailing ship",
    "lorem ipsum",
    "a guitar",
)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = Path(shutil.copytree(ingested_folder(), tmp_path_factory.mktemp("matched") / "data"))
    with serving(folder) as served:
        served.engine.calibrate(DEFAULT_TENANT)
        yield served


def _by_verdict(served: Served) -> dict[bool, str]:
    """A text that matches and one that does not; titles of the catalogue help out."""
    titles = [
        hit["title"] for hit in served.search(text="a picture", mode="auto", collapse="duplicates", limit=24)["hits"]
    ]
    found: dict[bool, str] = {}
    for text in (*TEXTS, *titles):
        found.setdefault(served.search(text=text, mode="auto", collapse="duplicates")["match"]["matched"], text)
    return found


def _search(page: Page, text: str) -> None:
    page.get_by_role("searchbox").fill(text)
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search")):
        page.keyboard.press("Enter")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def test_what_is_no_match_is_shown_as_the_nearest_there_is(browser: Browser, calibrated: Served) -> None:
    texts = _by_verdict(calibrated)
    assert set(texts) == {True, False}
    page = browser.new_page(base_url=calibrated.url)
    page.goto(f"/?q={texts[False]}")
    match = calibrated.search(text=texts[False])["match"]
    verdict = page.locator("#verdict")
    expect(verdict.get_by_role("heading", name="No match in this catalogue", exact=True)).to_be_visible()
    expect(verdict).to_contain_text("These are the nearest pictures.")
    expect(verdict).to_contain_text(f"{100 * match['probability']:.0f}%")
    expect(page.locator(".hit")).not_to_have_count(0)

    _search(page, texts[True])
    expect(verdict).to_be_hidden()
    page.go_back()
    expect(verdict).to_be_visible()
    page.locator("#brand").click()
    expect(verdict).to_be_hidden()
    page.close()


def test_without_calibration_it_is_only_probable(browser: Browser, served: Served) -> None:
    texts = _by_verdict(served)
    if False not in texts:
        pytest.fail("the rule of thumb calls everything a match")
    page = browser.new_page(base_url=served.url)
    page.goto(f"/?q={texts[False]}")
    expect(page.get_by_role("heading", name="Probably no match in this catalogue")).to_be_visible()
    expect(page.locator("#verdict")).to_contain_text("phosphene calibrate")
    page.close()
