"""What the tests of the page share: chromium, a window of it with the page in, and the steps that most of them take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.patience import PATIENCE_S
from tests.support.serving import photo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
EXPECTED = ("the server responded with a status of", "ERR_INTERNET_DISCONNECTED")  # the browser's own log lines


@contextmanager
def opened(browser: Browser, address: str, **context: object) -> Iterator[Page]:
    """The page in a window of its own; nothing may fail in its scripts, style or content policy."""
    within = browser.new_context(reduced_motion="reduce", **context)  # type: ignore[arg-type]
    page = within.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(address)
    yield page
    within.close()
    unexpected = [fault for fault in faults if not any(known in fault for known in EXPECTED)]
    assert not unexpected, unexpected


def jpeg(seed: int) -> FilePayload:
    """A photo as a file that a user chooses."""
    return {"name": "street.jpg", "mimeType": "image/jpeg", "buffer": photo(seed)}


def show(page: Page, chosen: FilePayload) -> None:
    """Choose a photo and wait for its matches."""
    page.set_input_files("#photo", chosen)
    page.locator("#matches li").first.wait_for()


def details(page: Page) -> None:
    """Switch on what is technical."""
    page.get_by_role("switch", name="Details").check()


def enlarge(page: Page) -> None:
    """On a narrow screen: make the photo large, to frame a garment."""
    page.get_by_role("button", name="Show the photo large").tap()


def whole(page: Page) -> None:
    """Search all of the photo in place of the garment found."""
    with page.expect_response("**/v1/search"):
        page.get_by_role("button", name="Whole photo").click()
    page.locator("#results[aria-busy=false]").wait_for()


def explained(page: Page) -> None:
    """Wait until the dialog says what decided the match."""
    page.wait_for_function("() => document.getElementById('sentence').textContent.endsWith('.')")


def edges(page: Page, selector: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of an element in the window."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]
