"""A board from the page: a picture is put on it, others that fit come along, their order changes, a link shows it."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Watched
from tests.search_api.served import Served

NAME = "Browsed \u732b <b>"


def test_a_board_is_laid_out_and_shared(page: Page, browser: Browser, served: Served, watched: Watched) -> None:
    page.locator(".hit a").first.click()
    page.locator("#details-board").click()
    page.locator("#boarding-name").fill(NAME)
    page.locator("#boarding-name").press("ArrowLeft")  # writes, and turns no page
    page.get_by_role("button", name="Make it, with this picture").click()
    expect(page.locator("#boarding-said")).to_have_text(f"It is on {NAME}")
    page.locator("#boarding-names button").first.click()
    expect(page.locator("#boarding-said")).to_have_text(f"It was already on {NAME}")
    page.locator("#boarding-said a").click()

    expect(page.locator("#board-name")).to_have_text(NAME)
    expect(page.locator("#pictures > li")).to_have_count(1)
    board = page.url.rpartition("id=")[2]
    page.get_by_role("button", name="More for this board").click()
    expect(page.locator("#found-pictures > li")).to_have_count(12)
    offered = [item.get_attribute("data-asset") for item in page.locator("#found-pictures > li").all()]
    for left in (11, 10):
        page.locator("#found-pictures .button").first.click()
        expect(page.locator("#found-pictures > li")).to_have_count(left)
    expect(page.locator("#said")).to_have_text("3 pictures")
    shown = page.locator("#pictures > li")
    assert [item.get_attribute("data-asset") for item in shown.all()][1:] == offered[:2]
    shown.nth(2).get_by_role("button", name="Earlier").click()
    expect(shown.nth(1)).to_have_attribute("data-asset", offered[1] or "")
    shown.nth(1).get_by_role("button", name="Earlier").click()
    expect(shown.nth(0)).to_have_attribute("data-asset", offered[1] or "")
    note = shown.nth(0).get_by_role("textbox")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        note.fill("the best one")
        note.press("Tab")
    shown.nth(2).get_by_role("button", name="Take off the board").click()
    expect(shown).to_have_count(2)

    page.reload()
    expect(shown).to_have_count(2)
    expect(shown.nth(0).get_by_role("textbox")).to_have_value("the best one")
    kept = served.client.get(f"/v1/collections/{board}/items").json()["items"]
    assert [item["asset_id"] for item in kept] == [item.get_attribute("data-asset") for item in shown.all()]
    assert kept[0]["asset_id"] == offered[1]

    shown_by_its_link(page, browser, served, watched)
    page.goto("/boards")
    expect(page.locator("#names a").first).to_have_text(NAME)
    page.locator("#names a").first.click()
    closed_renamed_and_deleted(page, served, board)


def closed_renamed_and_deleted(page: Page, served: Served, board: str) -> None:
    link = served.client.post(f"/v1/collections/{board}/shares").json()["path"]
    page.reload()
    expect(page.locator("#links li")).to_contain_text("A link made on")
    page.get_by_role("button", name="Close this link").click()
    expect(page.locator("#links li")).to_have_count(0)
    assert served.client.get(link).status_code == 404

    page.get_by_role("button", name="Edit").click()
    page.locator("#editing-name").fill("Renamed")
    page.locator("#editing-notes").fill("for the <second> floor")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("#board-name")).to_have_text("Renamed")
    expect(page.locator("#board-notes")).to_have_text("for the <second> floor")
    kept = served.client.get(f"/v1/collections/{board}").json()
    assert (kept["name"], kept["notes"]) == ("Renamed", "for the <second> floor")

    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete").click()
    assert served.client.get(f"/v1/collections/{board}").status_code == 200
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/boards")
    assert served.client.get(f"/v1/collections/{board}").status_code == 404


def shown_by_its_link(page: Page, browser: Browser, served: Served, watched: Watched) -> None:
    page.get_by_role("button", name="Make a link").click()
    address = page.locator("#links a").get_attribute("href")
    assert address
    stranger = browser.new_context()
    watched.watch(stranger)
    seen = stranger.new_page()
    seen.goto(address)
    expect(seen.get_by_role("heading")).to_have_text(NAME)
    pictures = seen.locator("li img")
    expect(pictures).to_have_count(2)
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("img => img.naturalWidth") > 0
    expect(seen.get_by_text("the best one")).to_be_visible()
    page.get_by_role("button", name="Close this link").click()
    expect(page.locator("#links li")).to_have_count(0)
    assert served.client.get(address).status_code == 404
    stranger.close()
