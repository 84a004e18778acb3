"""axe-core finds nothing serious in any state of the page; long texts and odd photos stay inside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import DESKTOP, jpeg, opened, show

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
    for summary in ("Frame by numbers", "Filters", "Search options"):
        phone.get_by_text(summary, exact=True).click()
    for column in ("name", "price"):
        phone.locator("#columns summary", has_text=column).click()
    assert serious(phone) == [], "results with every option open"
    phone.get_by_text("Before and after").click()
    phone.locator("#stages li").first.wait_for()
    assert serious(phone) == [], "both stages"
    phone.locator("#stages ol:last-of-type button").first.click()
    phone.locator("#reasons button").first.wait_for()
    phone.locator("#facts summary").click()
    assert serious(phone) == [], "comparison"
    phone.keyboard.press("Escape")
    phone.get_by_label("from").fill("1000")
    phone.keyboard.press("Tab")
    phone.get_by_role("heading", name="No match").wait_for()
    assert serious(phone) == [], "no match"


def test_colours_stand_out_in_the_dark_too(browser: Browser, address: str) -> None:
    with opened(browser, address, **DESKTOP, color_scheme="dark") as page:
        show(page, jpeg(9))
        assert serious(page, "color-contrast") == []
        page.locator("#matches .open").first.click()
        page.locator("#reasons button").first.wait_for()
        assert serious(page, "color-contrast") == []
