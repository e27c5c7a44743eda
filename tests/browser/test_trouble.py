"""What goes wrong is said in one line that is in sight, and what was there stays."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Watched
from tests.browser.test_page import DROP, details, search, shown
from tests.search_api.served import Served, sample_pictures

DROP_FILE = """([size, name, type]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(size)], name, { type }));
  document.body.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: transfer }));
}"""
END = "scrollTo(0, document.body.scrollHeight)"


def test_files_that_are_no_pictures_to_search_with(page: Page, watched: Watched) -> None:
    watched.forgiven = ("422",)
    search(page, "a bird")
    birds = shown(page)[:24]
    told = page.get_by_role("alert")
    page.evaluate(DROP_FILE, [9, "paper.pdf", "application/pdf"])
    expect(told).to_contain_text("paper.pdf is not a picture.")
    page.evaluate(DROP_FILE, [100 * 2**20, "huge.png", "image/png"])
    expect(told).to_contain_text("huge.png is larger than 64 MB.")
    assert shown(page)[:24] == birds, "the pictures stay"
    expect(page.locator("#count")).to_contain_text("nearest")
    told.get_by_role("button", name="Close").click()
    expect(told).to_be_hidden()
    page.evaluate(DROP_FILE, [0, "nothing.png", "image/png"])
    expect(told).to_contain_text("empty")
    page.evaluate(DROP, [base64.b64encode(b"%PDF-1.7 a paper").decode(), "paper.webp"])
    expect(told).to_contain_text("this is a PDF document")
    expect(told.get_by_role("button", name="Try again")).to_have_count(0)


def test_a_line_is_seen_far_down_and_over_details(page: Page) -> None:
    search(page, "something")
    page.evaluate(END)
    page.wait_for_function("() => document.querySelectorAll('.hit').length > 24")
    page.evaluate(END)
    page.evaluate(DROP_FILE, [9, "paper.pdf", "application/pdf"])
    expect(page.locator("#problem-text")).to_be_in_viewport()
    assert page.evaluate("scrollY") > 0
    page.locator(".hit a").last.click()
    expect(details(page)).to_be_visible()
    page.evaluate(DROP_FILE, [9, "other.pdf", "application/pdf"])
    expect(details(page)).to_be_hidden()
    expect(page.locator("#problem-text")).to_have_text("other.pdf is not a picture.")
    expect(page.locator("#problem-text")).to_be_in_viewport()


def test_no_words_and_enter(page: Page) -> None:
    page.get_by_role("searchbox").fill("   ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("in a few words")
    page.get_by_role("searchbox").press_sequentially("a")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_slow_answer_is_told_of(page: Page, served: Served) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/search", hold)
    page.get_by_role("searchbox").fill("a bird")
    page.keyboard.press("Enter")
    expect(page.locator("#busy")).to_be_visible()
    expect(page.locator("#count")).to_have_text("Still waiting for the answer…", timeout=20_000)
    held[-1].continue_()
    expect(page.locator("#count")).to_contain_text("nearest")
    assert shown(page)[0] == served.search(text="a bird", mode="auto", collapse="duplicates")["hits"][0]["asset_id"]


def test_a_server_that_goes_while_one_reads_on(page: Page, watched: Watched) -> None:
    watched.forgiven = ("ERR_FAILED",)
    search(page, "something")
    page.route("**/v1/search", lambda route: route.abort())
    page.evaluate(END)
    expect(page.locator("#problem-text")).to_contain_text("Is it still running?")
    expect(page.locator("#problem-text")).to_be_in_viewport()
    before = shown(page)
    expect(page.locator("#count")).to_contain_text(f"{len(before)}")
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_function("(n) => document.querySelectorAll('.hit').length > n", arg=len(before))
    assert shown(page)[: len(before)] == before, "it goes on where it stopped"
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_address_of_a_picture_that_is_not_there(page: Page, watched: Watched) -> None:
    watched.forgiven = ("404", "422")
    told = page.get_by_role("alert")
    for address in ("/?q=a+bird#nonsense", "/?q=a+bird#%E0%A4%A", "/?q=a+bird#00000000-0000-0000-0000-000000000000"):
        page.goto("about:blank")
        page.goto(address)
        expect(told).to_contain_text("There is no such picture in this catalogue.")
        page.locator(".hit img.there").first.wait_for()
        expect(details(page)).to_be_hidden()


def test_an_address_cannot_bring_a_dropped_picture_along(page: Page) -> None:
    data, _ = list(sample_pictures().values())[30]
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search/image")):
        page.evaluate(DROP, [base64.b64encode(data).decode(), "holiday.webp"])
    expect(page).to_have_url(re.compile(r"\?picture="))
    first = page.url
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("drop it again")
    expect(page.get_by_role("heading", name="Ask for a picture")).to_be_visible()
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search/image")):
        page.evaluate(DROP, [base64.b64encode(data).decode(), "other.webp"])
    expect(page.get_by_role("alert")).to_be_hidden()
    assert page.url != first, "the way back would lead to another picture"


def test_a_file_that_changed_since_is_not_a_dead_server(page: Page, watched: Watched, tmp_path: Path) -> None:
    watched.forgiven = ("ERR_FILE_NOT_FOUND",)
    data, _ = list(sample_pictures().values())[30]
    file = tmp_path / "holiday.webp"
    file.write_bytes(data)
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search/image")):
        page.locator("#file").set_input_files(file)
    search(page, "a bird")
    file.unlink()
    page.go_back()
    expect(page.get_by_role("alert")).to_contain_text("holiday.webp is no longer where it was")
