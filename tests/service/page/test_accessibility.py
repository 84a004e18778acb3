"""axe-core finds nothing serious in any state of the page; long texts and odd photos stay inside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import DESKTOP, details, jpeg, opened, show

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra dev)")


def serious(page: Page, *rules: str) -> list[str]:
    """What axe-core calls serious or critical, with the elements concerned; all rules unless some are named."""
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = axe_playwright.Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:4]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_no_state_of_the_page_has_a_serious_finding(phone: Page) -> None:
    phone.get_by_text("40 items in the gallery").wait_for()
    assert serious(phone) == [], "start"
    phone.set_input_files("#photo", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no photo"})
    phone.get_by_role("heading", name="This photo cannot be used").wait_for()
    assert serious(phone) == [], "error"
    show(phone, jpeg(9))
    assert serious(phone) == [], "results"
    phone.get_by_role("button", name="Same neckline").tap()
    phone.locator("#matches .trait").first.wait_for()
    assert serious(phone) == [], "by attributes"
    phone.get_by_role("button", name="Filters").tap()
    for column in ("name", "price"):
        phone.locator("#columns summary", has_text=column).tap()
    assert serious(phone) == [], "filters"
    phone.keyboard.press("Escape")
    details(phone)
    for summary in ("Frame by numbers", "Search options"):
        phone.get_by_text(summary, exact=True).tap()
    phone.get_by_text("Before and after").tap()
    phone.locator("#stages li").first.wait_for()
    assert serious(phone) == [], "both stages, every detail"
    phone.locator("#stages ol:last-of-type button").first.tap()
    phone.locator("#reasons button").first.wait_for()
    assert serious(phone) == [], "comparison"
    phone.keyboard.press("Escape")
    phone.get_by_role("button", name="Filters").tap()
    phone.get_by_label("from").fill("1000")
    phone.keyboard.press("Tab")
    phone.keyboard.press("Escape")
    phone.get_by_role("heading", name="No match").wait_for()
    assert serious(phone) == [], "no match"


def test_a_reader_meets_photo_garments_and_filters_before_the_matches_and_a_name_before_its_buttons(
    desktop: Page,
) -> None:
    show(desktop, jpeg(9))
    parts = ("#preview", "#proposals", "#columns", "#results-title", "#status", "#matches .open", "#matches .opinion")
    order = desktop.evaluate(
        """(parts) => parts.map((part) => document.querySelector(part)).every((one, at, all) =>
            !at || all[at - 1].compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING)""",
        parts,
    )
    assert order
    desktop.locator("#matches .open").first.focus()
    desktop.keyboard.press("Tab")
    assert desktop.evaluate("document.activeElement.textContent") == "This is it", "by keyboard as by mouse"
    assert desktop.locator("#matches .opinion").first.evaluate("(place) => getComputedStyle(place).opacity") == "1"


def test_colours_stand_out_in_the_dark_too(browser: Browser, address: str) -> None:
    with opened(browser, address, **DESKTOP, color_scheme="dark") as page:
        page.get_by_text("40 items in the gallery").wait_for()
        assert serious(page, "color-contrast") == []
        details(page)
        show(page, jpeg(9))
        page.get_by_role("button", name="Same neckline").click()
        page.locator("#matches .trait").first.wait_for()
        assert serious(page, "color-contrast") == []
        page.locator("#matches .open").first.click()
        page.locator("#reasons button").first.wait_for()
        assert serious(page, "color-contrast") == []
