"""The page as people use it: by mouse, by keyboard, on a phone, and when something is wrong."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from safetensors.torch import load_file, save_file

from phosphene.types import DEFAULT_TENANT
from tests.browser.conftest import Watched
from tests.search_api.served import (
    KEYS,
    PICTURES,
    Served,
    ingested_folder,
    png,
    sample_pictures,
    serving,
    variation,
)

STARTER = Path(__file__).parents[2] / "phosphene" / "starter" / "clip"

DROP = """([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: name.endsWith('.txt') ? 'text/plain' : 'image/webp' }));
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: transfer }));
}"""
PASTE = """(data) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], 'pasted.webp', { type: 'image/webp' }));
  document.body.dispatchEvent(
    new ClipboardEvent('paste', { bubbles: true, cancelable: true, clipboardData: transfer }));
}"""


def shown(page: Page) -> list[str]:
    """The ids on screen, in order."""
    hashes = page.locator(".hit a").evaluate_all("(links) => links.map((link) => link.hash.slice(1))")
    return [str(one) for one in hashes]


def search(page: Page, text: str) -> None:
    page.get_by_role("searchbox").fill(text)
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search")):
        page.keyboard.press("Enter")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    page.locator(".hit img.there").first.wait_for()


def ids(served: Served, text: str, limit: int = 24) -> list[str]:
    return [
        hit["asset_id"] for hit in served.search(text=text, mode="auto", collapse="duplicates", limit=limit)["hits"]
    ]


def details(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_the_first_look_invites_to_search(page: Page) -> None:
    expect(page.get_by_role("heading", name="Ask for a picture")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(page.get_by_role("status").filter(has_text=f"catalogue of {PICTURES} pictures")).to_be_visible()
    page.get_by_role("button", name="a sailing ship").click()
    expect(page).to_have_url(re.compile(r"\?q=a\+sailing\+ship$"))
    expect(page.get_by_role("searchbox")).to_have_value("a sailing ship")
    expect(page.get_by_role("heading", name="Ask for a picture")).to_be_hidden()


def test_the_box_finds_what_no_picture_shows(page: Page, served: Served) -> None:
    for name in [name for name in served.records if name[-1].isdigit()][::30]:
        search(page, name.upper().replace("-", "_"))
        expect(page.locator(".hit").first).to_contain_text(served.records[name]["title"])
        expect(page.locator("#verdict")).to_be_hidden()


def test_the_box_takes_the_language_and_says_what_it_understood(page: Page, served: Served, watched: Watched) -> None:
    watched.forgiven = ("422",)
    told = page.locator("#understood")
    search(page, "a bird")
    expect(told).to_be_empty()
    search(page, "an animal without a bird")
    expect(told).to_have_text("Understood: like “an animal”, without what shows “bird”")
    hits = served.search(text="an animal", mode="auto", collapse="duplicates", exclude=[{"text": "bird"}], limit=24)[
        "hits"
    ]
    assert shown(page)[:24] == [hit["asset_id"] for hit in hits]
    page.get_by_role("searchbox").fill("an animal categorie:food")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("did you mean category:?")


def test_typing_and_enter_show_the_nearest_pictures(page: Page, served: Served) -> None:
    search(page, "a musical instrument")
    expected = ids(served, "a musical instrument")
    assert shown(page)[:24] == expected
    first = page.locator(".hit").first
    hit = served.search(text="a musical instrument", mode="auto", collapse="duplicates", limit=1)["hits"][0]
    expect(first.locator(".title")).to_have_text(hit["title"])
    expect(first.locator(".score")).to_have_text(f"{hit['score']:.2f}")
    expect(first.locator("img")).to_have_attribute("alt", hit["title"])
    expect(page.locator("#count")).to_contain_text("nearest")
    assert page.title().startswith("a musical instrument")


def test_pictures_come_while_one_types(page: Page, served: Served) -> None:
    page.get_by_role("searchbox").press_sequentially("a red apple", delay=20)
    expect(page).to_have_url(re.compile(r"\?q=a\+red\+apple$"))
    expect(page.locator("body")).to_have_attribute("data-view", "results")
    page.wait_for_function(
        "(id) => document.querySelector('.hit a')?.hash === '#' + id", arg=ids(served, "a red apple", 1)[0]
    )
    page.go_back()
    expect(page.get_by_role("heading", name="Ask for a picture")).to_be_visible()


def test_links_and_the_back_button_lead_to_what_was_seen(page: Page, served: Served) -> None:
    search(page, "a bird")
    birds = shown(page)[:24]
    search(page, "a bottle")
    assert shown(page)[:24] != birds
    page.go_back()
    page.wait_for_function("(id) => document.querySelector('.hit a')?.hash === '#' + id", arg=birds[0])
    expect(page.get_by_role("searchbox")).to_have_value("a bird")
    page.goto(f"/?q=a+bird#{birds[2]}")
    expect(details(page)).to_be_visible()
    expect(page.get_by_role("searchbox", include_hidden=True)).to_have_value("a bird")
    page.keyboard.press("Escape")
    expect(details(page)).to_be_hidden()
    assert shown(page)[:24] == birds == ids(served, "a bird")


def test_the_list_goes_on_to_its_end(page: Page) -> None:
    search(page, "something")
    page.wait_for_function(
        "() => { scrollTo(0, document.body.scrollHeight); return document.querySelector('#more').hidden; }",
        timeout=60_000,
    )
    expect(page.locator(".hit")).to_have_count(PICTURES)
    assert len(set(shown(page))) == PICTURES
    expect(page.locator("#count")).to_have_text(f"{PICTURES} pictures")


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_a_picture_finds_its_like(page: Page, served: Served, way: str, tmp_path: Path) -> None:
    name = list(served.records)[30]
    data, said = sample_pictures()[name]
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search/image")) as answered:
        if way == "drop":
            page.evaluate(DROP, [base64.b64encode(data).decode(), "holiday.webp"])
        elif way == "paste":
            page.evaluate(PASTE, base64.b64encode(data).decode())
        else:
            file = tmp_path / "holiday.webp"
            file.write_bytes(data)
            with page.expect_file_chooser() as chooser:
                page.get_by_role("button", name="Search with a picture").click()
            chooser.value.set_files(file)
    best = answered.value.json()["hits"][0]
    assert best["title"] == said["title"]
    page.wait_for_function("(id) => document.querySelector('.hit a')?.hash === '#' + id", arg=best["asset_id"])
    expect(page.locator("#token")).to_be_visible()
    expect(page.locator("#token")).to_contain_text("pasted.webp" if way == "paste" else "holiday.webp")
    page.get_by_role("button", name="Remove this picture").click()
    expect(page.get_by_role("heading", name="Ask for a picture")).to_be_visible()


def test_details_tell_what_is_known(page: Page, served: Served) -> None:
    search(page, "an animal")
    hit = served.search(text="an animal", mode="auto", collapse="duplicates", limit=3)["hits"][2]
    page.locator(".hit a").nth(2).click()
    dialog = details(page)
    expect(dialog.get_by_role("heading")).to_have_text(hit["title"])
    facts = dialog.locator("dl")
    expect(facts).to_contain_text(hit["metadata"]["licence"])
    expect(facts).to_contain_text(f"{hit['width']} \N{MULTIPLICATION SIGN} {hit['height']}")
    for word in hit["metadata"]["keywords"]:
        expect(dialog.get_by_role("button", name=word, exact=True).first).to_be_visible()
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == served.client.get(hit["original_url"]).content
    picture = dialog.locator("#details-picture")
    page.wait_for_function("() => document.querySelector('#details-picture').src.includes('size=preview')")
    assert picture.evaluate("(one) => one.naturalWidth") > 0
    page.mouse.click(5, 5)
    expect(dialog).to_be_hidden()
    expect(page).to_have_url(re.compile(r"\?q=an\+animal$"))


def test_more_like_this_leaves_out_the_one_it_is_like(page: Page, served: Served) -> None:
    search(page, "a tree")
    like = shown(page)[0]
    page.locator(".hit a").first.click()
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search")):
        details(page).get_by_role("button", name="More like this").click()
    expect(details(page)).to_be_hidden()
    expected = [hit["asset_id"] for hit in served.search(asset_id=like)["hits"]]
    page.wait_for_function("(id) => document.querySelector('.hit a')?.hash === '#' + id", arg=expected[0])
    assert shown(page)[:24] == expected
    assert like not in shown(page)
    expect(page.locator("#token")).to_contain_text("Like ")
    page.reload()
    page.wait_for_function("(id) => document.querySelector('.hit a')?.hash === '#' + id", arg=expected[0])


def test_keywords_and_chips_narrow_the_search(page: Page, served: Served) -> None:
    search(page, "something nice")
    category = page.locator("#facets button[title=Category]").first.text_content() or ""
    # By its name: chips change places when more hits come in.
    chip = page.locator("#facets").get_by_role("button", name=category, exact=True)
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search")):
        chip.click()
    pressed = page.locator("#facets").get_by_role("button", name=category, exact=True)
    expect(pressed).to_have_attribute("aria-pressed", "true")
    only = {"field": "category", "equals": category}
    expected = [
        hit["asset_id"]
        for hit in served.search(text="something nice", mode="auto", collapse="duplicates", filter=only)["hits"]
    ]
    page.wait_for_function("(id) => document.querySelector('.hit a')?.hash === '#' + id", arg=expected[0])
    assert shown(page)[: len(expected)] == expected
    expect(page).to_have_url(re.compile(f"f=category%3A{category}"))
    page.reload()
    page.wait_for_function("(id) => document.querySelector('.hit a')?.hash === '#' + id", arg=expected[0])

    hit = served.search(text="something nice", mode="auto", collapse="duplicates", filter=only, limit=1)["hits"][0]
    page.locator(".hit a").first.click()
    word = hit["metadata"]["keywords"][0]
    details(page).locator("#details-keywords").get_by_role("button", name=word, exact=True).click()
    expect(page.get_by_role("searchbox")).to_have_value(word)


def test_everything_works_by_keyboard(page: Page) -> None:
    search(page, "a house")
    focused = "document.activeElement.dataset.index"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == "1"
    tops = "[...document.querySelectorAll('.hit a')].map((one) => Math.round(one.getBoundingClientRect().top))"
    page.keyboard.press("ArrowDown")
    below = int(page.evaluate(focused))
    rows = page.evaluate(tops)
    assert rows[below] > rows[1]
    page.keyboard.press("ArrowUp")
    above = int(page.evaluate(focused))
    rows = page.evaluate(tops)  # anew: the page may have scrolled
    assert rows[above] == rows[1]
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(details(page)).to_be_visible()
    first = details(page).get_by_role("heading").text_content()
    page.keyboard.press("ArrowRight")
    expect(details(page).get_by_role("heading")).not_to_have_text(first or "")
    page.keyboard.press("Escape")
    expect(details(page)).to_be_hidden()
    assert page.evaluate(focused) == "1", "the focus comes back to the picture that was looked at last"
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    assert page.get_by_role("searchbox").input_value() == "a house", "the slash is not typed"


def test_on_a_phone_nothing_is_cut_off(phone: Page, tmp_path: Path) -> None:
    phone.goto("/")
    phone.locator(".hit img.there").first.wait_for()
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert phone.evaluate(wide)
    phone.get_by_role("searchbox").fill("a flower")
    phone.get_by_role("searchbox").press("Enter")
    expect(phone.locator("body")).to_have_attribute("data-view", "results")
    expect(phone.locator("#results")).to_have_attribute("aria-busy", "false")
    phone.locator(".hit img.there").first.wait_for()
    assert phone.evaluate(wide)
    phone.locator(".hit a").first.tap()
    similar = details(phone).get_by_role("button", name="More like this")
    expect(similar).to_be_in_viewport()
    expect(details(phone).get_by_role("heading")).to_be_in_viewport()
    box = similar.bounding_box()
    assert box is not None
    assert box["height"] >= 40, "large enough for a thumb"
    phone.go_back()
    expect(details(phone)).to_be_hidden()
    phone.screenshot(path=tmp_path / "phone.png")


def test_errors_are_one_sensible_line(page: Page, watched: Watched) -> None:
    watched.forgiven = ("422", "ERR_FAILED")
    page.evaluate(DROP, [base64.b64encode(b"I am a text").decode(), "notes.txt"])
    expect(page.get_by_role("alert")).to_contain_text("notes.txt is not a picture")
    page.evaluate(DROP, [base64.b64encode(b"I am no picture").decode(), "broken.webp"])
    expect(page.get_by_role("alert")).to_contain_text("it holds text")
    page.goto("/?like=no-such-picture")
    expect(page.get_by_role("alert")).to_be_visible()
    page.route("**/v1/search", lambda route: route.abort())
    page.goto("/?q=a+cat")
    expect(page.get_by_role("alert")).to_contain_text("Is it still running?")
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    page.locator(".hit img.there").first.wait_for()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_titles_are_text_and_never_markup(page: Page, served: Served) -> None:
    evil = "<img src=x onerror=\"document.title='taken over'\"><script>document.title='taken over'</script>"
    form = {"title": evil, "metadata": '{"creator": "<b>bold</b>", "keywords": ["<i>word</i>"]}'}
    data = png(404)
    added = served.client.post("/v1/assets", files={"image": data}, data=form).json()["asset_id"]
    try:
        page.goto(f"/?like={added}")
        page.goto(f"/?q=noise#{added}")
        expect(details(page).get_by_role("heading")).to_have_text(evil)
        expect(details(page)).to_contain_text("<b>bold</b>")
        expect(details(page)).to_contain_text("<i>word</i>")
        assert "taken over" not in page.title()
        assert page.locator("dialog b, dialog i, .hit script").count() == 0
    finally:
        served.client.delete(f"/v1/assets/{added}")


def test_an_empty_catalogue_says_how_to_fill_it(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as served:
        page = browser.new_page(base_url=served.url)
        page.goto("/")
        expect(page.get_by_role("heading", name="No pictures yet")).to_be_visible()
        expect(page.locator("#empty-text")).to_contain_text("phosphene ingest")
        page.close()


def test_a_model_that_has_embedded_nothing_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    shutil.copytree(ingested_folder(), tmp_path / "data")
    with serving(tmp_path / "data", model=str(another_model(tmp_path / "model"))) as served:
        page = browser.new_page(base_url=served.url)
        page.goto("/?q=a+house")
        expect(page.get_by_role("heading", name="No picture is embedded with this model yet")).to_be_visible()
        expect(page.locator("#empty-text")).to_contain_text("phosphene verify --repair")
        page.close()


def another_model(folder: Path) -> Path:
    """The starter with one number changed: other weights, another space."""
    shutil.copytree(STARTER, folder)
    weights = folder / "open_clip_model.safetensors"
    state = load_file(weights)
    state["logit_scale"] = state["logit_scale"] + 0.5
    save_file(state, weights)
    return folder


def test_a_tall_screen_is_filled(page: Page) -> None:
    page.set_viewport_size({"width": 1600, "height": 4000})
    search(page, "something")
    page.wait_for_function("() => document.querySelectorAll('.hit').length >= 72", timeout=60_000)


def test_a_running_ingest_is_told_of(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as served:
        served.engine.catalog.start_ingest(DEFAULT_TENANT, ["a long one"])
        page = browser.new_page(base_url=served.url)
        page.goto("/")
        expect(page.locator("#ingest")).to_contain_text("Taking in pictures: 0 so far")
        page.close()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("keyed") / "data", api_keys=KEYS) as running:
        yield running


def test_with_keys_the_page_asks_for_one(browser: Browser, keyed: Served) -> None:
    secret = KEYS[0].partition(":")[2]
    headers = {"X-API-Key": secret}
    form = {"title": "Only for the museum"}
    added = keyed.client.post("/v1/assets", headers=headers, files={"image": png(1)}, data=form)
    assert added.status_code == 201
    page = browser.new_page(base_url=keyed.url)
    page.goto("/")
    dialog = page.get_by_role("dialog", name="This catalogue needs a key")
    expect(dialog).to_be_visible()
    dialog.get_by_label("API key").fill("a-wrong-secret-0123456789")
    dialog.get_by_role("button", name="Continue").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("API key").fill(secret)
    dialog.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("img", name="Only for the museum")).to_be_visible()
    page.locator(".hit img.there").first.wait_for()
    page.reload()
    page.locator(".hit img.there").first.wait_for()
    with page.expect_download() as download:
        page.locator(".hit a").first.click()
        details(page).get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == png(1)
    page.close()


def test_the_description_of_the_api_is_readable(page: Page) -> None:
    page.goto("/docs")
    expect(page.get_by_role("heading", name="The API")).to_be_visible()
    operation = page.locator("details", has_text="/v1/search/image")
    operation.locator("summary").first.click()
    expect(operation.first).to_contain_text("curl")


def test_copies_are_shown_once_with_their_number(browser: Browser, data: Path) -> None:
    name, (content, said) = next((name, one) for name, one in sample_pictures().items() if name[-1].isdigit())
    with serving(data) as served:
        copied = served.client.post("/v1/assets", files={"image": variation(content, 7)}, data={"title": said["title"]})
        copy = copied.raise_for_status().json()["asset_id"]
        page = browser.new_page(base_url=served.url)
        page.goto("/")
        search(page, f"{said['title']} {name}")
        first = page.locator(".hit").first
        expect(first).to_contain_text(said["title"])
        expect(first).to_contain_text("+1")
        assert copy not in shown(page)
        first.locator("a").click()
        with page.expect_response(lambda answer: answer.url.endswith("/v1/search")):
            details(page).get_by_role("button", name="1 more").click()
        expect(page.locator(f".hit a[href='#{copy}']")).to_have_count(1)
        page.close()
