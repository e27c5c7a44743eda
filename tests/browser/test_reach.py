"""Whoever comes without a mouse, with a finger, or with the page enlarged reaches everything and reads it."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Watched
from tests.browser.test_page import details, search, shown
from tests.search_api.served import Served

FOCUSED = "() => document.activeElement.id || document.activeElement.dataset.index || document.activeElement.tagName"
TOO_SMALL = """(side) => [...document.querySelectorAll('a, button, input')]
  .filter((one) => !document.querySelector('dialog[open]') || one.closest('dialog[open]'))
  .filter((one) => one.checkVisibility() && !one.matches('.skip')) // a finger never meets the link for the keyboard
  .map((one) => [one.id || one.className || one.tagName, one.getBoundingClientRect()])
  .filter(([, box]) => box.width && (box.width < side || box.height < side))
  .map(([name, box]) => `${name} ${box.width} x ${box.height}`)"""
# Contrast as in WCAG 2.2, of each text with the colours that lie under it.
FAINT = """(least) => {
  const pen = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const under = (one) => {
    if (!one) return [255, 255, 255];
    const own = rgba(getComputedStyle(one).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, under(one.parentElement));
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, style) => {
    const below = under(one);
    const [r, g, b, a] = rgba(style.color);
    const [x, y] = [light(over([r, g, b, a * style.opacity], below)), light(below)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };
  const texts = [...document.querySelectorAll('body *')]
    .filter((one) => one.checkVisibility() && !one.matches('.unseen, noscript'))
    .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((one) => [one.textContent.trim().slice(0, 30), contrast(one, getComputedStyle(one))]);
  const box = document.querySelector('#q');
  texts.push([box.placeholder, contrast(box, getComputedStyle(box, '::placeholder'))]);
  return { texts: texts.length, faint: texts.filter(([, ratio]) => ratio < least) };
}"""


def focused(page: Page) -> str:
    return str(page.evaluate(FOCUSED))


def test_the_skip_link_goes_to_the_pictures(page: Page) -> None:
    search(page, "a house")
    page.evaluate("document.activeElement.blur()")
    page.locator(".skip").focus()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert focused(page) == "0"
    expect(page).to_have_url(re.compile(r"\?q=a\+house$"))
    expect(page.get_by_role("alert")).to_be_hidden()


def test_the_focus_stays_where_the_reader_is(page: Page) -> None:
    page.locator("#examples button").first.focus()
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search")):
        page.keyboard.press("Enter")
    page.wait_for_function(f"() => ({FOCUSED})() === '0'")  # the examples are gone

    chip = page.locator("#facets .chip").first
    name = chip.text_content() or ""
    chip.focus()
    with page.expect_response(lambda answer: answer.url.endswith("/v1/search")):
        page.keyboard.press("Enter")
    pressed = page.locator("#facets").get_by_role("button", name=name, exact=True)
    expect(pressed).to_have_attribute("aria-pressed", "true")
    expect(pressed).to_be_focused()

    page.locator(".hit a").first.focus()
    page.keyboard.press("Enter")
    similar = details(page).get_by_role("button", name="More like this")
    similar.focus()
    before = shown(page)
    page.keyboard.press("Enter")
    page.wait_for_function("(id) => document.querySelector('.hit a')?.hash !== '#' + id", arg=before[0])
    page.wait_for_function(f"() => ({FOCUSED})() === '0'")


def test_steps_go_on_at_the_end_of_the_list(page: Page) -> None:
    search(page, "a bird")
    page.locator(".hit a").nth(1).click()
    title = details(page).get_by_role("heading")
    second = title.text_content() or ""
    page.locator("#details-back").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#details-back")).to_be_hidden()
    expect(title).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text(second)
    page.keyboard.press("Escape")
    assert focused(page) == "1"


def test_what_has_the_focus_is_never_under_the_bar(page: Page) -> None:
    search(page, "something")
    page.keyboard.press("ArrowDown")
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    for _ in range(4):
        page.keyboard.press("ArrowUp")
        free = "document.activeElement.getBoundingClientRect().top - document.querySelector('.top').offsetHeight"
        assert page.evaluate(free) > 0


def test_a_finger_can_hit_everything(phone: Page) -> None:
    phone.goto("/")
    phone.locator(".hit img.there").first.wait_for()
    assert phone.evaluate(TOO_SMALL, 44) == []
    phone.locator("#examples button").first.tap()
    expect(phone.locator("#facets")).to_be_visible()
    assert phone.evaluate(TOO_SMALL, 44) == []
    phone.locator(".hit a").nth(1).tap()
    expect(details(phone)).to_be_visible()
    assert phone.evaluate(TOO_SMALL, 44) == []
    phone.get_by_role("button", name="More like this").tap()
    expect(phone.locator("#token")).to_be_visible()
    assert phone.evaluate(TOO_SMALL, 44) == []


def test_lying_on_its_side_a_phone_shows_how_to_turn_pages(phone: Page) -> None:
    phone.set_viewport_size({"width": 844, "height": 390})
    phone.goto("/?q=a+bird")
    phone.locator(".hit a").first.tap()
    on = details(phone).get_by_role("button", name="Picture after this one")
    expect(on).to_have_css("opacity", "1")


@pytest.mark.parametrize("width", [320, 360, 640])
def test_nothing_reaches_over_the_side_of_a_small_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    search(page, "a bird")
    page.evaluate("document.querySelector('.hit').style.setProperty('--ratio', 2.4)")  # as wide as pictures are shown
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_enlarged_twofold_the_details_can_be_read(page: Page) -> None:
    page.set_viewport_size({"width": 640, "height": 400})  # what 1280 x 800 has room for at 200 %
    search(page, "a bird")
    page.locator(".hit a").first.click()
    on_top = """(id) => {
      const one = document.querySelector(id);
      one.scrollIntoView({ block: 'nearest' });
      const { left, top, height } = one.getBoundingClientRect();
      return document.elementFromPoint(left + 8, top + height / 2)?.closest(id) === one;
    }"""
    for part in ("#details-title", "#details-facts", "#details-keywords", "#details-similar", "#details-close"):
        assert page.evaluate(on_top, part), part


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(
    browser: Browser, served: Served, watched: Watched, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(base_url=served.url, color_scheme=scheme, reduced_motion="reduce")
    watched.watch(context)
    watched.forgiven = ("422",)
    page = context.new_page()
    page.goto("/")
    page.locator(".hit img.there").first.wait_for()
    seen = [page.evaluate(FAINT, 4.5)]
    search(page, "an animal without a bird")
    page.locator("#facets .chip").first.click()
    expect(page.locator("#facets [aria-pressed=true]")).to_be_visible()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    seen.append(page.evaluate(FAINT, 4.5))
    page.locator(".hit a").first.click()
    expect(details(page)).to_be_visible()
    seen.append(page.evaluate(FAINT, 4.5))
    page.goto("/?like=no-such-picture")
    expect(page.get_by_role("alert")).to_be_visible()
    seen.append(page.evaluate(FAINT, 4.5))
    assert min(one["texts"] for one in seen) > 5
    assert [one["faint"] for one in seen] == [[]] * 4
    context.close()


def test_a_drawing_and_its_ground_are_one_in_the_dark(phone: Page, served: Served) -> None:
    phone.goto(f"/?q=a+bird#{served.search(text='a bird', limit=1)['hits'][0]['asset_id']}")
    phone.locator(".stage.drawing").wait_for()
    dimmed = "getComputedStyle(document.querySelector('#details-picture')).filter"
    assert phone.evaluate(dimmed) == "brightness(0.93)"  # white becomes the #ededed around it
    assert phone.evaluate("getComputedStyle(document.querySelector('.stage')).backgroundColor") == "rgb(237, 237, 237)"


def test_who_asks_for_less_motion_sees_none(phone: Page) -> None:
    phone.goto("/")
    fading = (
        "[...document.querySelectorAll('*')].filter((one) => parseFloat(getComputedStyle(one).transitionDuration) > 0)"
    )
    assert phone.evaluate(f"{fading}.map((one) => one.outerHTML)") == []
