"""Imagining on the page, with a tiny unCLIP of random weights: plumbing, not meaning."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Response, expect

from tests.browser.conftest import Watched
from tests.search_api.served import KEYS, Served, ingested_folder, png, serving, tiny_generator

NONSENSE = "zzxq 0x7f 9981"


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = Path(shutil.copytree(ingested_folder(), tmp_path_factory.mktemp("imagined") / "data"))
    with serving(folder, generator=str(tiny_generator())) as running:
        yield running


@pytest.fixture
def page(browser: Browser, drawing: Served) -> Iterator[Page]:
    context = browser.new_context(base_url=drawing.url, viewport={"width": 1280, "height": 860})
    context.set_default_timeout(30_000)
    watching = Watched(drawing.url)
    watching.watch(context)
    yield context.new_page()
    context.close()
    watching.check()


def panel(page: Page) -> Locator:
    return page.locator("#imagine")


def finished(page: Page) -> Locator:
    expect(panel(page)).to_have_attribute("data-status", "finished", timeout=60_000)
    return panel(page)


def asked(response: Response) -> Any:  # noqa: ANN401  JSON
    return response.request.post_data_json


def slow_down(page: Page) -> None:
    """Let what the page asks for take many steps."""
    page.route(
        "**/v1/generations",
        lambda route: route.continue_(
            post_data={**route.request.post_data_json, "images": 16, "sampling": {"decoder_steps": 1000}}
        ),
    )


def test_what_nothing_matches_can_be_imagined(page: Page, tmp_path: Path) -> None:
    page.goto(f"/?q={NONSENSE}")
    with page.expect_response(lambda answer: answer.url.endswith("/v1/generations")) as answered:
        page.get_by_role("button", name="Imagine it").click()
    assert asked(answered.value) == {"text": NONSENSE, "seed": 0}
    shown = finished(page)
    expect(shown.get_by_role("heading", name=NONSENSE)).to_be_visible()
    expect(shown.get_by_text("Generated", exact=True)).to_be_visible()
    expect(shown.get_by_role("status")).to_have_text("Drawn by a model, with seed 0. It is in no catalogue.")
    expect(shown.get_by_role("button", name="Cancel")).to_be_hidden()
    picture = shown.get_by_role("img", name=f"Generated picture: {NONSENSE}")
    page.wait_for_function("() => document.querySelector('#imagine-picture').naturalWidth === 32")
    expect(picture).to_be_visible()
    page.screenshot(path=tmp_path / "imagined.png")

    with page.expect_download() as download:
        shown.get_by_role("link", name="Download").click()
    data = download.value.path().read_bytes()
    assert re.fullmatch(r"phosphene-[0-9a-f-]{36}\.png", download.value.suggested_filename)
    assert b"trainedAlgorithmicMedia" in data
    assert Image.open(io.BytesIO(data)).size == (32, 32)

    before = answered.value.json()["id"]
    with page.expect_response(lambda answer: answer.url.endswith("/v1/generations")) as answered:
        shown.get_by_role("button", name="Another one").click()
    assert asked(answered.value) == {"text": NONSENSE}
    assert answered.value.json()["id"] != before
    finished(page)
    page.get_by_role("searchbox").fill("a bird")
    page.keyboard.press("Enter")
    expect(panel(page)).to_be_hidden()


def test_steps_are_shown_and_can_be_stopped(page: Page, tmp_path: Path) -> None:
    slow_down(page)
    page.goto("/?q=a+bird")
    page.locator(".hit a").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Imagine a variation").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    shown = panel(page)
    expect(shown).to_be_focused()
    expect(shown.get_by_role("heading", name=re.compile("^Variation of "))).to_be_visible()
    expect(shown.get_by_role("status")).to_have_text("Drawing", timeout=60_000)
    expect(shown).to_have_attribute("aria-busy", "true")
    steps = shown.get_by_role("progressbar", name="Steps of the drawing")
    page.wait_for_function("() => document.querySelector('#imagine-steps').value > 0")
    expect(steps).to_be_visible()
    expect(shown.get_by_role("img", name="How the picture looks so far")).to_be_visible()
    assert (shown.locator("img").get_attribute("src") or "").startswith("data:image/webp;base64,")
    box = shown.get_by_role("heading").bounding_box()
    assert box is not None
    assert 78 < box["y"] < 860, "in sight, below the bar"
    page.screenshot(path=tmp_path / "drawing.png")
    shown.get_by_role("button", name="Cancel").click()
    expect(shown).to_have_attribute("data-status", "cancelled", timeout=30_000)
    expect(shown.get_by_role("status")).to_have_text("Cancelled.")
    expect(steps).to_be_hidden()
    expect(shown.get_by_role("button", name="Try again")).to_be_visible()
    shown.get_by_role("button", name="Close the imagined picture").click()
    expect(shown).to_be_hidden()


def test_an_accepted_picture_is_found_and_marked(page: Page, drawing: Served, tmp_path: Path) -> None:
    page.goto("/?q=a+tree")
    page.locator(".hit a").nth(1).click()
    with page.expect_response(lambda answer: answer.url.endswith("/v1/generations")) as answered:
        page.get_by_role("dialog").get_by_role("button", name="Blend with “a tree”").click()
    (one, two) = asked(answered.value)["parts"]
    assert set(one) == {"asset_id"}
    assert two == {"text": "a tree"}
    shown = finished(page)
    page.get_by_role("button", name="Add to the catalogue").click()
    expect(shown.get_by_role("status")).to_have_text("It is in the catalogue.", timeout=30_000)
    link = shown.get_by_role("link", name="Look at it there")
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Generated by a model")
    expect(dialog.get_by_role("heading")).to_have_text(re.compile(r" and a tree$"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()

    (found,) = drawing.search(text="a tree", filter={"field": "generated", "equals": True})["hits"]
    page.goto(f"/?q=a+tree#{found['asset_id']}")
    expect(dialog.get_by_role("heading")).to_have_text(found["title"])
    page.keyboard.press("Escape")
    page.goto("/")
    card = page.locator(".hit", has_text=found["title"])
    page.wait_for_function(
        "() => { scrollTo(0, document.body.scrollHeight); return document.querySelector('.hit .badge'); }"
    )
    expect(card.locator(".badge")).to_have_text("Generated")
    expect(page.locator(".hit .badge")).to_have_count(1)
    card.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "badge.png")
    drawing.client.delete(f"/v1/assets/{found['asset_id']}")


def test_a_question_without_pictures_can_be_imagined_too(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "data", generator=str(tiny_generator())) as served:
        page = browser.new_page(base_url=served.url)
        page.goto("/")
        expect(page.get_by_role("heading", name="No pictures yet")).to_be_visible()
        expect(page.get_by_role("button", name="Imagine it")).to_have_count(0)
        page.goto(f"/?q={NONSENSE}")
        page.get_by_role("button", name="Imagine it").click()
        finished(page)
        page.close()


def test_deployments_that_draw_by_themselves_do_not_while_one_types(browser: Browser, data: Path) -> None:
    with serving(data, generator=str(tiny_generator()), generate="when_unmatched") as served:
        page = browser.new_page(base_url=served.url)
        page.goto("/")
        page.locator(".hit img.there").first.wait_for()
        with page.expect_response(lambda answer: answer.url.endswith("/v1/search")):
            page.get_by_role("searchbox").press_sequentially(NONSENSE, delay=5)
        expect(page.get_by_role("button", name="Imagine it")).to_be_visible()
        expect(panel(page)).to_be_hidden()
        page.keyboard.press("Enter")
        finished(page)
        expect(panel(page).get_by_role("heading", name=NONSENSE)).to_be_visible()
        page.close()


def test_what_is_refused_says_why(browser: Browser, data: Path) -> None:
    with serving(data, generator=str(tiny_generator()), blocked_concepts=(NONSENSE,)) as served:
        page = browser.new_page(base_url=served.url)
        page.goto(f"/?q={NONSENSE}")
        page.get_by_role("button", name="Imagine it").click()
        expect(panel(page).get_by_role("status")).to_contain_text("guard rails", timeout=30_000)
        expect(page.locator(".hit")).not_to_have_count(0)
        page.close()


def test_with_a_key_it_works_the_same(browser: Browser, tmp_path: Path) -> None:
    """An <img> and an EventSource can't send keys: the page fetches both."""
    with serving(tmp_path / "data", api_keys=KEYS, generator=str(tiny_generator())) as served:
        secret = KEYS[0].partition(":")[2]
        served.client.post("/v1/assets", headers={"X-API-Key": secret}, files={"image": png(1)})
        page = browser.new_page(base_url=served.url)
        page.goto(f"/?q={NONSENSE}")
        page.get_by_label("API key").fill(secret)
        page.get_by_role("button", name="Continue").click()
        page.locator(".hit img.there").first.wait_for()
        page.locator(".hit a").first.click()
        page.get_by_role("dialog").get_by_role("button", name="Imagine a variation").click()
        finished(page)
        page.wait_for_function("() => document.querySelector('#imagine-picture').naturalWidth === 32")
        with page.expect_download() as download:
            panel(page).get_by_role("link", name="Download").click()
        assert b"trainedAlgorithmicMedia" in download.value.path().read_bytes()
        page.close()


def test_on_a_phone_the_panel_fits(browser: Browser, drawing: Served, tmp_path: Path) -> None:
    context = browser.new_context(
        base_url=drawing.url,
        viewport={"width": 390, "height": 844},
        device_scale_factor=2,
        has_touch=True,
        is_mobile=True,
        color_scheme="dark",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"/?q={NONSENSE}")
    page.get_by_role("button", name="Imagine it").tap()
    finished(page)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for name in ("Add to the catalogue", "Another one"):
        box = panel(page).get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["height"] >= 40, "large enough for a thumb"
    page.screenshot(path=tmp_path / "phone.png")
    context.close()
