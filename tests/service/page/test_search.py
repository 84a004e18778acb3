"""The search page at /: a photo is shown and framed, matches come, filters narrow them, both stages side by side."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import DESKTOP, details, edges, enlarge, jpeg, opened, show, whole
from tests.support.serving import photo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Response


def box_of(response: Response) -> list[float]:
    """The part of the photo that an answer says was searched."""
    box: list[float] = response.json()["query"]["box"]
    return box


def test_a_photo_leads_to_matches_with_name_and_price_and_the_numbers_are_one_switch_away(phone: Page) -> None:
    phone.get_by_text("40 items in the gallery").wait_for()
    show(phone, jpeg(9))
    assert phone.locator("#matches li").count() == 12
    first = phone.locator("#matches li").first
    assert first.locator("h3").inner_text().startswith("Garment")
    assert float(first.locator(".offer").inner_text()) >= 10
    assert first.locator(".kind").inner_text() in ("Best match", "Similar")
    assert edges(phone, "#matches li:first-child .photo")[1] < phone.evaluate("innerHeight / 2"), "on the first screen"
    assert first.locator(".chance").is_hidden()
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"
    details(phone)
    assert first.locator(".chance").inner_text().strip()
    assert "stage one" in first.locator(".moved").inner_text()
    assert "40 items compared closely" in phone.inner_text("#timings")
    assert "rerank" in phone.inner_text("#timings")
    phone.reload()
    first.wait_for()
    assert first.locator(".chance").is_visible(), "the switch is remembered, and so is the search"


def test_a_photo_is_dropped_or_pasted(desktop: Page) -> None:
    given = """(kind) => {
        const data = new DataTransfer(), bytes = Uint8Array.from(atob(window.photo), (sign) => sign.charCodeAt(0));
        data.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, cancelable: true })
                                      : new ClipboardEvent("paste", { clipboardData: data });
        document.dispatchEvent(event);
    }"""
    for kind, seed in (("drop", 3), ("paste", 4)):
        desktop.evaluate("(data) => { window.photo = data }", base64.b64encode(photo(seed)).decode())
        with desktop.expect_response("**/v1/search") as answer:
            desktop.evaluate(given, kind)
        assert answer.value.json()["matches"], kind
    desktop.locator("#matches li").first.wait_for()


def test_a_frame_is_drawn_typed_or_moved_with_arrow_keys(desktop: Page) -> None:
    details(desktop)
    show(desktop, jpeg(9))
    left, top, right, bottom = edges(desktop, "#stage")
    with desktop.expect_response("**/v1/search") as drawn:
        desktop.mouse.move(left + 0.25 * (right - left), (top + bottom) / 2)
        desktop.mouse.down()
        desktop.mouse.move(left + 0.75 * (right - left), bottom + 30, steps=3)
        desktop.mouse.up()
    assert box_of(drawn.value) == pytest.approx([30, 80, 90, 160], abs=1)  # of 120 x 160
    desktop.get_by_text("Frame by numbers").click()
    with desktop.expect_response("**/v1/search") as typed:
        desktop.fill("#edge-y0", "25")
        desktop.keyboard.press("Tab")
    assert box_of(typed.value) == pytest.approx([30, 40, 90, 160], abs=1)
    with desktop.expect_response("**/v1/search") as moved:
        desktop.get_by_role("button", name="Move the frame").press("Shift+ArrowLeft")
    assert box_of(moved.value) == pytest.approx([24, 40, 84, 160], abs=1)
    with desktop.expect_response("**/v1/search") as pulled:
        desktop.get_by_role("button", name="Move the lower right corner").press("ArrowUp")
    assert box_of(pulled.value) == pytest.approx([24, 40, 84, 158.4], abs=1)
    with desktop.expect_response("**/v1/search") as other:
        desktop.reload()
    assert box_of(other.value) == pytest.approx([24, 40, 84, 158.4], abs=0.2), "a reload loses nothing"


def test_a_finger_pulls_a_corner_and_draws_a_frame(phone: Page) -> None:
    show(phone, jpeg(9))
    whole(phone)
    enlarge(phone)
    session = phone.context.new_cdp_session(phone)

    def swipe(*points: tuple[float, float]) -> None:
        for kind, at in (
            ("touchStart", points[:1]),
            *(("touchMove", (point,)) for point in points[1:]),
            (
                "touchMove",
                points[-1:],
            ),  # it rests: lifted at full speed it flings, and chromium eats the tap after a fling
            ("touchEnd", ()),
        ):
            phone.wait_for_timeout(60)
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in at]})

    left, top, right, bottom = edges(phone, "#stage")
    with phone.expect_response("**/v1/search") as pulled:
        swipe((right - 8, bottom - 8), (right - 30, bottom - 30), ((left + right) / 2 - 8, (top + bottom) / 2 - 8))
    assert box_of(pulled.value) == pytest.approx([0, 0, 60, 80], abs=6)
    phone.get_by_role("button", name="Draw a frame").tap()
    with phone.expect_response("**/v1/search") as drawn:
        swipe((right - 60, bottom - 60), (right - 30, bottom - 30), (right - 2, bottom - 2))
    assert box_of(drawn.value)[2:] == pytest.approx([120, 160], abs=3)
    assert box_of(drawn.value)[0] > 60


def test_stage_one_stands_beside_the_reranked_order(desktop: Page) -> None:
    details(desktop)
    show(desktop, jpeg(9))
    whole(desktop)
    desktop.locator("#view-matches").focus()
    desktop.keyboard.press("ArrowRight")
    desktop.locator("#stages li").first.wait_for()
    first, reranked = desktop.locator("#stages ol").first, desktop.locator("#stages ol").last
    assert (first.locator("li").count(), reranked.locator("li").count()) == (12, 12)
    assert "Garment 8" in first.locator("li").first.inner_text(), "the item that shows the same photo"
    keys = [
        desktop.locator(f"#stages {part}").evaluate_all("(all) => all.map((one) => one.dataset.key)")
        for part in ("ol:first-of-type li", "ol:last-of-type li", "path:not(.far)")
    ]
    assert set(keys[2]) == set(keys[0]) & set(keys[1]), "a line for every item that both show"
    for key in keys[2]:
        places = keys[0].index(key) + 1, keys[1].index(key) + 1
        words = reranked.locator(f'li[data-key="{key}"] small').inner_text()
        moved = places[0] - places[1]
        assert words.endswith(f"{moved} up" if moved > 0 else f"{-moved} down" if moved else "same place")
    reranked.get_by_role("button").first.focus()
    assert desktop.locator("#stages path.lit").count() == 1
    desktop.get_by_text("Best matches").click()
    desktop.locator("#matches li").first.wait_for()


def test_filters_come_from_the_columns_and_an_empty_answer_says_so(desktop: Page) -> None:
    show(desktop, jpeg(9))
    desktop.locator("#columns summary", has_text="price").click()
    assert desktop.get_by_label("from").get_attribute("placeholder") == "10"
    assert desktop.get_by_label("to", exact=True).get_attribute("placeholder") == "49"
    desktop.get_by_label("to", exact=True).fill("12")
    with desktop.expect_response("**/v1/search"):
        desktop.keyboard.press("Tab")
    desktop.wait_for_function("() => document.querySelectorAll('#matches li').length < 4")
    assert {float(price) for price in desktop.locator("#matches .offer").all_inner_texts()} <= {10, 11, 12}
    desktop.locator("#columns summary", has_text="name").click()
    desktop.get_by_label("name contains").fill('"; drop table')
    desktop.keyboard.press("Tab")
    desktop.get_by_role("heading", name="No match").wait_for()
    assert "Remove a filter" in desktop.inner_text("#verdict")
    desktop.get_by_role("button", name='name: “"; drop table”, remove this filter').click()
    desktop.wait_for_function("() => document.querySelectorAll('#matches li').length === 2")
    desktop.get_by_role("button", name="price: to 12, remove this filter").click()
    desktop.wait_for_function("() => document.querySelectorAll('#matches li').length === 12")
    assert desktop.locator("#chosen").is_hidden()


def test_a_huge_photo_is_made_smaller_before_it_is_sent(phone: Page, tmp_path: Path) -> None:
    (tmp_path / "huge.bmp").write_bytes(photo(9, size=(4096, 512), kind="BMP"))  # 6 MB
    with phone.expect_response("**/v1/search") as sent:
        phone.set_input_files("#photo", tmp_path / "huge.bmp")
    assert (sent.value.json()["query"]["width"], sent.value.json()["query"]["height"]) == (2048, 256)


def test_a_link_opens_the_same_search_elsewhere_and_what_is_recent_stays_in_this_browser(
    browser: Browser, desktop: Page, address: str
) -> None:
    show(desktop, jpeg(9))
    desktop.locator("#columns summary", has_text="price").click()
    desktop.get_by_label("to", exact=True).fill("30")
    with desktop.expect_response("**/v1/search"):
        desktop.keyboard.press("Tab")
    desktop.get_by_role("button", name="price: to 30, remove this filter").wait_for()
    desktop.wait_for_function("() => location.search.includes('only=')")
    with opened(browser, "about:blank", **DESKTOP) as other:
        with other.expect_response("**/v1/search") as again:
            other.goto(desktop.url)
        other.get_by_role("button", name="price: to 30, remove this filter").wait_for()
        query, matches = again.value.json()["query"], again.value.json()["matches"]
        assert (query["width"], query["height"], query["chosen_by"]) == (120, 160, "detector")
        assert 0 < max(match["metadata"]["price"] for match in matches) <= 30
    desktop.goto(address)
    recent = desktop.locator("#recent li")
    recent.first.wait_for()
    with desktop.expect_response("**/v1/search"):
        recent.first.get_by_role("button").click()
    desktop.goto(address)
    recent.first.wait_for()
    assert recent.count() == 1, "the same photo, once"
    desktop.get_by_role("button", name="Clear").click()
    recent.first.wait_for(state="hidden")
    with opened(browser, f"{address}/?search=gone", **DESKTOP) as late:
        late.get_by_role("heading", name="This search is not kept any more").wait_for()


def test_a_sample_photo_is_searched_and_the_way_back_leads_to_the_first_screen(desktop: Page) -> None:
    with desktop.expect_response("**/v1/search"):
        desktop.get_by_role("button", name="A blue jacket").click()
    desktop.locator("#matches li").first.wait_for()
    assert desktop.locator("#start").is_hidden()
    desktop.go_back()
    desktop.get_by_role("button", name="A blue jacket").wait_for()
    assert desktop.locator("#matches li").count() == 0
