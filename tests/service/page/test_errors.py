"""What goes wrong is said in words that say what to do; what can be tried again is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import jpeg

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


def test_a_file_that_is_no_photo_is_refused_in_words_and_the_next_photo_works(phone: Page) -> None:
    phone.set_input_files("#photo", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no photo"})
    alert = phone.locator("#error")
    alert.get_by_role("heading", name="This photo cannot be used").wait_for()
    assert "send one of JPEG" in alert.inner_text()
    assert phone.locator("#matches li").count() == 0
    phone.set_input_files("#photo", jpeg(3))
    phone.locator("#matches li").first.wait_for()
    assert alert.is_hidden()


def test_a_busy_service_is_asked_again_when_it_says(phone: Page) -> None:
    refused = 0

    def refuse_once(route: Route) -> None:
        nonlocal refused
        refused += 1
        if refused > 1:
            route.continue_()
            return
        body = {"error": "Overloaded", "detail": "64 searches are running, the most at once", "request_id": "abc"}
        route.fulfill(status=429, headers={"Retry-After": "1"}, body=json.dumps(body))

    phone.route("**/v1/search", refuse_once)
    phone.set_input_files("#photo", jpeg(3))
    phone.get_by_role("heading", name="The service is busy").wait_for()
    assert phone.inner_text("#countdown") == "Trying again in 1 second …"
    phone.locator("#matches li").first.wait_for()
    assert refused == 2
    assert phone.locator("#error").is_hidden()


def test_offline_is_said_and_the_search_goes_on_when_the_connection_is_back(phone: Page) -> None:
    phone.get_by_text("items in the gallery").wait_for()
    phone.context.set_offline(True)
    phone.set_input_files("#photo", jpeg(3))
    phone.get_by_role("heading", name="You are offline").wait_for()
    phone.context.set_offline(False)
    phone.locator("#matches li").first.wait_for()


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (403, "Your key does not allow this"),
        (404, "This is not there any more"),
        (413, "This file is too large"),
        (415, "This kind of file is not taken"),
        (503, "The service cannot answer now"),
        (502, "The search failed"),
    ],
)
def test_every_refusal_has_words_of_its_own(phone_once: Page, status: int, title: str) -> None:
    """Also where something between page and service answers, in a form of its own."""
    phone_once.route("**/v1/search", lambda route: route.fulfill(status=status, body="<html>no</html>"))
    phone_once.set_input_files("#photo", jpeg(3))
    phone_once.get_by_role("heading", name=title).wait_for()
    assert "status" in phone_once.locator("#error .detail").inner_text()
    assert phone_once.locator("#again").is_visible() == (status >= 500)
    phone_once.unroute("**/v1/search")
