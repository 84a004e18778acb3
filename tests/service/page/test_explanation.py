"""The dialog of the page: both photos, the regions that decided, by mouse and by keyboard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import details, edges, explained, jpeg, show, whole

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


def test_a_match_is_explained_region_by_region(phone: Page) -> None:
    with phone.expect_response("**/v1/search") as searched:
        show(phone, jpeg(9))
    assert "evidence" not in searched.value.json()["matches"][0], "explained when it is opened"
    phone.locator("#matches .open").first.tap()
    dialog = phone.get_by_role("dialog")
    explained(phone)
    assert dialog.get_by_role("heading").first.inner_text().startswith("Garment")
    assert dialog.locator("#facts dt").all_inner_texts() == ["Id", "Product"], "the catalogue's facts are open"
    assert dialog.locator("#decided").is_hidden(), "what is technical is not"
    photos = {}
    for side in ("mine", "theirs"):  # both photos were read, and each has a chosen region inside of it
        phone.wait_for_function("(side) => document.getElementById(side).naturalWidth > 0", arg=side)
        photos[side] = left, top, right, bottom = edges(phone, f"#{side}")
        x0, y0, x1, y1 = edges(phone, f".photo:has(#{side}) svg .chosen rect >> nth=1")
        line = 5  # the region's own line may stick out by this much
        assert right - left > 100
        assert left - line <= x0 < x1 <= right + line
        assert top - line <= y0 < y1 <= bottom + line
    ends = phone.locator("#links .chosen circle")
    for end, (left, top, right, bottom) in zip(
        ("nth=0", "nth=1"), photos.values(), strict=True
    ):  # a line from photo to photo
        x0, y0, x1, y1 = edges(phone, f"#links .chosen circle >> {end}")
        assert left <= (x0 + x1) / 2 <= right
        assert top <= (y0 + y1) / 2 <= bottom
    assert ends.count() == 2
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"


def test_the_dialog_works_by_keyboard_alone(desktop: Page) -> None:
    details(desktop)
    show(desktop, jpeg(9))
    desktop.locator("#matches .open").first.focus()
    desktop.keyboard.press("Enter")
    desktop.locator("#reasons button").first.wait_for()
    drawn = desktop.locator("#mine ~ svg .chosen rect").first.evaluate("(rect) => rect.outerHTML")
    desktop.locator("#reasons button").nth(1).focus()
    assert desktop.locator("#reasons [aria-pressed=true] b").inner_text() == "2"
    title = desktop.locator("#compare-title").inner_text()
    desktop.keyboard.press("ArrowRight")
    desktop.wait_for_function("(title) => document.getElementById('compare-title').textContent !== title", arg=title)
    assert "2 of 12" in desktop.locator("#compare-kind").inner_text()
    assert drawn
    with desktop.expect_response("**/v1/search") as more:
        desktop.get_by_role("button", name="More like this").press("Enter")
    desktop.get_by_role("dialog").wait_for(state="hidden")
    assert more.value.json()["matches"][0]["stage1_rank"] >= 1
    desktop.locator("#results[aria-busy=false]").wait_for()
    desktop.locator("#matches .open").first.focus()
    desktop.keyboard.press("Enter")
    desktop.keyboard.press("Escape")
    desktop.get_by_role("dialog").wait_for(state="hidden")
    assert desktop.evaluate("document.activeElement.className") == "open", "the focus is where it was"


def test_heat_maps_lie_over_both_photos_and_fade(desktop: Page) -> None:
    details(desktop)
    show(desktop, jpeg(9))
    whole(desktop)
    desktop.get_by_text("Frame by numbers").click()
    with desktop.expect_response("**/v1/search"):
        desktop.fill("#edge-x0", "50")
        desktop.keyboard.press("Tab")
    desktop.locator("#results[aria-busy=false]").wait_for()
    desktop.locator("#matches .open").first.click()
    desktop.locator("#reasons button").first.wait_for()
    after = desktop.locator("#reasons").inner_text()
    desktop.get_by_text("Before reasoning").click()
    assert desktop.locator("#reasons button").count() > 1
    assert desktop.locator("#reasons").inner_text() != after
    for label, method in (("Heat map", "graph"), ("Grad-CAM", "gradcam")):
        desktop.get_by_text(label, exact=True).click()
        desktop.wait_for_function(
            """(method) => [...document.querySelectorAll("img.heat")].every(
                (layer) => layer.src.includes(`method=${method}`) && layer.complete && layer.naturalWidth)""",
            arg=method,
        )
    left, top, right, bottom = edges(desktop, "#mine")
    assert edges(desktop, "#mine + .heat") == pytest.approx(((left + right) / 2, top, right, bottom), abs=1)
    assert edges(desktop, "#theirs + .heat") == pytest.approx(edges(desktop, "#theirs"), abs=1)
    desktop.locator("#strength").press("End")
    assert desktop.locator("#mine + .heat").evaluate("(layer) => layer.style.opacity") == "1"
    assert desktop.locator("#links").is_hidden(), "no lines over a heat map"
    desktop.get_by_text("Parts", exact=True).click()
    assert desktop.locator("img.heat").first.is_hidden()
    assert desktop.locator("#links").is_visible()


def test_a_verdict_is_saved_and_said_so(phone: Page) -> None:
    phone.get_by_text("40 items in the gallery").wait_for()
    show(phone, jpeg(9))
    card = phone.locator("#matches li").first
    said = card.locator(".opinion")
    assert said.evaluate("(place) => getComputedStyle(place).opacity") == "0", "not asked of every card"
    left, top, right, bottom = edges(phone, "#matches li:first-child .photo")
    touch = phone.context.new_cdp_session(phone)
    at = {"x": (left + right) / 2, "y": (top + bottom) / 2}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    phone.locator("#matches li.asked").wait_for()
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert phone.get_by_role("dialog").count() == 0, "a finger that rests has not tapped"
    with phone.expect_response("**/v1/feedback") as saved:
        card.get_by_role("button", name="This is it").tap()
    assert saved.value.json()["verdict"] == "match"
    card.get_by_text("Saved, thank you.").wait_for()
    assert card.get_by_role("button", name="This is it").get_attribute("aria-pressed") == "true"
    card.locator(".open").tap()
    dialog = phone.get_by_role("dialog")
    assert dialog.get_by_role("button", name="This is it").get_attribute("aria-pressed") == "true", "in the dialog too"
    phone.route("**/v1/feedback", lambda route: route.fulfill(status=503, body="{}"))
    dialog.get_by_role("button", name="Not it").tap()
    dialog.get_by_text("Not saved.").wait_for()
    assert dialog.get_by_role("button", name="This is it").get_attribute("aria-pressed") == "true", "as it was"


def test_the_photos_of_a_product_are_compared_one_by_one(desktop: Page) -> None:
    details(desktop)
    show(desktop, jpeg(9))
    desktop.locator("#matches li", has_text="2 photos").first.get_by_role("button").first.click()
    desktop.locator("#reasons button").first.wait_for()
    views = desktop.locator("#views button")
    assert views.count() == 2
    shown = desktop.locator("#theirs").get_attribute("src")
    with desktop.expect_response("**/explanation?*") as other:
        views.last.click()
    told = other.value.json()
    desktop.wait_for_function("(shown) => document.getElementById('theirs').getAttribute('src') !== shown", arg=shown)
    desktop.locator("#reasons button").first.wait_for()
    assert desktop.locator("#reasons button").count() == len(told["evidence"]) > 1, "its own regions"


def test_where_searches_are_not_remembered_a_match_is_explained_by_another_search(desktop: Page) -> None:
    """Here an answer of 404 stands in for such a service."""
    gone = json.dumps({"error": "SearchNotFound", "detail": "none is remembered", "request_id": "r"})
    desktop.route("**/explanation*", lambda route: route.fulfill(status=404, body=gone))
    show(desktop, jpeg(9))
    with desktop.expect_response("**/v1/search") as again:
        desktop.locator("#matches .open").first.click()
    assert again.value.json()["matches"][0]["evidence"]
    explained(desktop)


def held(page: Page, address: str) -> list[Route]:
    """Requests of this kind from now on, kept back until `let_go`."""
    kept: list[Route] = []
    page.route(address, lambda route: kept.append(route))
    return kept


def patiently(page: Page, kept: list[Route]) -> None:
    """Wait until one is."""
    while not kept:
        page.wait_for_timeout(20)


def let_go(page: Page, kept: list[Route]) -> None:
    """Send the one request that is kept back, and wait until the page has its answer."""
    with page.expect_event("requestfinished", lambda request: request.url == kept[0].request.url):
        kept[0].continue_()


def test_an_explanation_that_comes_after_the_next_photo_changes_nothing(desktop: Page) -> None:
    show(desktop, jpeg(9))
    explanations = held(desktop, "**/explanation*")
    desktop.locator("#matches .open").first.click()
    patiently(desktop, explanations)
    with desktop.expect_response("**/v1/search"):
        desktop.get_by_role("button", name="More like this").click()
    desktop.locator("#results[aria-busy=false]").wait_for()
    let_go(desktop, explanations)
    assert desktop.get_by_role("dialog").is_hidden()
    assert desktop.locator("#reasons button").count() == 0, "it was passed over"


def test_matches_of_the_photo_before_cannot_be_opened_while_the_next_is_searched(desktop: Page) -> None:
    show(desktop, jpeg(9))
    searches = held(desktop, "**/v1/search")
    desktop.set_input_files("#photo", jpeg(10))
    patiently(desktop, searches)
    assert desktop.evaluate("document.getElementById('matches').inert")
    let_go(desktop, searches)
    desktop.locator("#results[aria-busy=false]").wait_for()
    assert not desktop.evaluate("document.getElementById('matches').inert")
