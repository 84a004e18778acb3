"""The page at / in a real browser: a photo is shown, matches come, one is explained; a bad file is refused in words."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import serving
from tests.support.serving import photo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
PHONE = (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium; no browser is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"{CHROMIUM} is not here; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(browser: Browser, gallery_folder: Path, tiny_model_folder: Path) -> Iterator[str]:
    """Where a `threadmatch serve` of the small gallery listens; not started where there is no browser."""
    options = ("--gallery", str(gallery_folder), "--model", str(tiny_model_folder), "--device", "cpu")
    with serving(*options) as (_, address):
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The search page in a window of a phone's size; nothing may fail in its scripts, style or content policy."""
    page = browser.new_page(viewport={"width": PHONE[0], "height": PHONE[1]}, reduced_motion="reduce")
    page.set_default_timeout(10_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(address)
    yield page
    page.close()
    assert [fault for fault in faults if "the server responded with a status of 4" not in fault] == []


def jpeg(seed: int) -> FilePayload:
    """A photo as a file that a user chooses."""
    return {"name": "street.jpg", "mimeType": "image/jpeg", "buffer": photo(seed)}


def test_a_photo_leads_to_matches_and_each_match_to_its_explanation(page: Page) -> None:
    page.get_by_text("40 items in the gallery").wait_for()
    page.set_input_files("#photo", jpeg(9))
    page.locator("#matches li").first.wait_for()
    assert page.locator("#matches li").count() == 12
    assert "of 40 candidates, compared region by region" in page.inner_text("#status")
    first = page.locator("#matches li").first
    assert "%" in first.locator(".chance").inner_text()
    assert "stage one" in first.locator(".moved").inner_text()
    assert "rerank" in page.inner_text("#timings")

    first.get_by_role("button").click()
    page.locator("#reasons button").first.wait_for()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").first.inner_text().startswith("1. Garment")
    for side in ("mine", "theirs"):  # both photos were read, and each has a chosen region inside of it
        assert page.locator(f"#{side}").evaluate("image => image.complete && image.naturalWidth > 0")
        left, top, right, bottom = edges(page, f"#{side}")
        x0, y0, x1, y1 = edges(page, f"#{side} + svg .chosen rect >> nth=1")
        line = 5  # the region's own line may stick out by this much
        assert right - left > 100
        assert left - line <= x0 < x1 <= right + line
        assert top - line <= y0 < y1 <= bottom + line
    page.locator("#reasons button").nth(1).focus()
    assert page.locator("#reasons [aria-pressed=true] b").inner_text() == "2"
    page.get_by_role("button", name="Next").click()
    page.locator("#reasons button").first.wait_for()
    with page.expect_response("**/v1/search") as more:
        page.get_by_role("button", name="Search with this photo").click()
    dialog.wait_for(state="hidden")
    assert more.value.json()["matches"][0]["stage1_rank"] >= 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"


def edges(page: Page, selector: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of an element in the window."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def test_stage_one_is_a_switch_away(page: Page) -> None:
    page.set_input_files("#photo", jpeg(9))
    page.locator("#matches li").first.wait_for()
    page.locator("#order-reranked").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("by overall look, nearest first").wait_for()
    distances = [float(text.split()[-1]) for text in page.locator("#matches .chance").all_inner_texts()]
    assert distances == sorted(distances)
    assert "Garment 8" in page.locator("#matches h3").first.inner_text(), "the item that shows the same photo"


def test_a_frame_is_drawn_or_typed_and_searched(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.set_input_files("#photo", jpeg(9))
    page.locator("#matches li").first.wait_for()
    left, top, right, bottom = edges(page, "#stage")
    with page.expect_response("**/v1/search") as drawn:
        page.mouse.move(left + 0.25 * (right - left), (top + bottom) / 2)
        page.mouse.down()
        page.mouse.move(left + 0.75 * (right - left), bottom + 30, steps=3)
        page.mouse.up()
    assert drawn.value.json()["query"]["box"] == pytest.approx([30, 80, 90, 160], abs=1)  # of 120 x 160
    page.get_by_text("Frame by numbers").click()
    with page.expect_response("**/v1/search") as typed:
        page.fill("#edge-y0", "25")
        page.keyboard.press("Tab")
    assert typed.value.json()["query"]["box"] == pytest.approx([30, 40, 90, 160], abs=1)
    with page.expect_response("**/v1/search") as whole:
        page.get_by_role("button", name="Whole photo").click()
    assert whole.value.json()["query"]["box"] == [0, 0, 120, 160]


def test_a_huge_photo_is_made_smaller_before_it_is_sent(page: Page, tmp_path: Path) -> None:
    (tmp_path / "huge.bmp").write_bytes(photo(9, size=(4096, 512), kind="BMP"))  # 6 MB
    with page.expect_response("**/v1/search") as sent:
        page.set_input_files("#photo", tmp_path / "huge.bmp")
    assert (sent.value.json()["query"]["width"], sent.value.json()["query"]["height"]) == (2048, 256)


def test_a_file_that_is_no_photo_is_refused_in_words_and_the_next_photo_works(page: Page) -> None:
    page.set_input_files("#photo", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no photo"})
    alert = page.get_by_role("alert")
    alert.get_by_role("heading", name="This photo cannot be used").wait_for()
    assert "send one of JPEG" in alert.inner_text()
    assert page.locator("#matches li").count() == 0
    page.set_input_files("#photo", jpeg(3))
    page.locator("#matches li").first.wait_for()
    assert alert.is_hidden()


def test_an_empty_answer_says_that_there_is_no_match(page: Page) -> None:
    page.set_input_files("#photo", jpeg(9))
    page.locator("#matches li").first.wait_for()
    page.get_by_text("Search options").click()
    page.get_by_label("Column").select_option("price")
    page.get_by_label("Relation").select_option("<=")
    page.get_by_label("Value").fill("5")
    page.keyboard.press("Tab")
    page.get_by_role("heading", name="No match").wait_for()
    page.get_by_label("Value").fill("12")
    page.keyboard.press("Tab")
    page.locator("#matches li").first.wait_for()
    assert {float(price) for price in page.locator("#matches .price").all_inner_texts()} <= {10, 11, 12}
