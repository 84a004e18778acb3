"""What a service may offer beside the search: garments found in the photo, keys, several galleries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import DESKTOP, PHONE, edges, jpeg, opened, show

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


def answer(page: Page, path: str, status: int, body: dict[str, Any]) -> None:
    """Answer requests of this page to a path."""
    page.route(f"**{path}*", lambda route: route.fulfill(status=status, body=json.dumps(body)))


def test_garments_found_in_the_photo_are_frames_to_choose(phone: Page) -> None:
    boxes = [
        {"box": [0, 0, 119, 160], "score": 0.9, "label": None},  # nearly the whole photo: no choice
        {"box": [30, 40, 90, 120], "score": 0.8, "label": "skirt"},
        {"box": [60, 80, 120, 160], "score": 0.5, "label": None},
    ]
    answer(phone, "/v1/detect", 200, {"width": 120, "height": 160, "boxes": boxes, "detector": "d", "request_id": "r"})
    show(phone, jpeg(9))
    choices = phone.locator("#proposals button")
    choices.first.wait_for()
    assert choices.all_inner_texts() == ["1 skirt", "2 Garment"]
    with phone.expect_response("**/v1/search") as chosen:
        choices.first.tap()
    assert chosen.value.json()["query"]["box"] == pytest.approx([30, 40, 90, 120], abs=0.2)
    assert choices.first.get_attribute("aria-pressed") == "true"
    phone.get_by_role("button", name="Whole photo").tap()
    phone.evaluate("scrollTo(0, 0)")
    left, top, right, bottom = edges(phone, "#stage")
    with phone.expect_response("**/v1/search") as tapped:
        phone.touchscreen.tap(left + 0.9 * (right - left), top + 0.8 * (bottom - top))
    assert tapped.value.json()["query"]["box"] == pytest.approx([60, 80, 120, 160], abs=0.2), "the one under the finger"


def test_a_service_that_finds_no_garments_shows_no_choices(phone: Page) -> None:
    answer(phone, "/v1/detect", 501, {"error": "NotImplemented", "detail": "no detector", "request_id": "r"})
    show(phone, jpeg(9))
    assert phone.locator("#proposals").is_hidden()
    assert phone.locator("#error").is_hidden()


def test_a_key_is_asked_for_and_its_galleries_can_be_chosen(browser: Browser, address: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra dev)")
    signed_in = False

    def session(route: Route) -> None:
        nonlocal signed_in
        if route.request.method == "DELETE":
            signed_in = False
        if route.request.method == "POST":
            signed_in = route.request.post_data_json == {"key": "right"}
            if not signed_in:
                body = {"error": "Unauthorized", "detail": "this key is not known here", "request_id": "r"}
                route.fulfill(status=401, body=json.dumps(body))
                return
        role, galleries = ("search", ["default", "women"]) if signed_in else (None, [])
        route.fulfill(body=json.dumps({"keys_required": True, "role": role, "galleries": galleries}))

    with opened(browser, "about:blank", **DESKTOP) as page:
        page.route("**/v1/session*", session)
        page.goto(address)
        dialog = page.get_by_role("dialog", name="Sign in")
        dialog.wait_for()
        found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        dialog.get_by_label("Your key").fill("wrong")
        page.keyboard.press("Enter")
        dialog.get_by_text("This key is not known here").wait_for()
        dialog.get_by_label("Your key").fill("right")
        page.keyboard.press("Enter")
        dialog.wait_for(state="hidden")
        page.get_by_text("40 items in the gallery").wait_for()
        with page.expect_request("**/v1/search") as sent:
            page.set_input_files("#photo", jpeg(9))
        assert b'name="gallery"\r\n\r\ndefault' in (sent.value.post_data_buffer or b"")
        with page.expect_request("**/v1/search") as other:
            page.get_by_label("Gallery").select_option("women")
        assert b'name="gallery"\r\n\r\nwomen' in (other.value.post_data_buffer or b"")
        page.get_by_role("heading", name="This gallery is not open to you").wait_for()  # this service has only one
        assert page.url.endswith("?gallery=women"), "a reload keeps the choice"
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Sign in").wait_for()


def test_a_session_that_ended_asks_for_the_key_and_goes_on(browser: Browser, address: str) -> None:
    ended = True

    def search(route: Route) -> None:
        if ended:
            route.fulfill(status=401, body=json.dumps({"error": "Unauthorized", "detail": "no key", "request_id": "r"}))
        else:
            route.continue_()

    def sign_in(route: Route) -> None:
        nonlocal ended
        ended = ended and route.request.method != "POST"
        route.fulfill(body=json.dumps({"keys_required": True, "role": "search", "galleries": ["default"]}))

    with opened(browser, "about:blank", **PHONE) as page:
        page.route("**/v1/session*", sign_in)
        page.route("**/v1/search", search)
        page.goto(address)
        page.set_input_files("#photo", jpeg(9))
        page.get_by_label("Your key").fill("tm_key")
        page.get_by_role("button", name="Sign in", exact=True).last.tap()
        page.locator("#matches li").first.wait_for()
