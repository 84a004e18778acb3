"""/docs draws every operation; behind a proxy's prefix the page finds all that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from tests.support.browser import DESKTOP, opened, show
from tests.support.browser import jpeg as a_photo
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


def test_the_docs_draw_every_operation(desktop: Page, address: str) -> None:
    paths = httpx.get(f"{address}/openapi.json", timeout=PATIENCE_S).json()["paths"]
    desktop.goto(f"{address}/docs")
    desktop.locator("#operations details").first.wait_for()
    assert desktop.locator("#operations > details").count() == sum(map(len, paths.values()))


def test_below_a_prefix_photos_are_searched_and_results_shown(browser: Browser, address: str) -> None:
    asked: list[str] = []

    def proxied(route: Route) -> None:
        path = route.request.url.removeprefix(address)
        asked.append(path)
        if not path.startswith("/shop/"):
            route.fulfill(status=404)
            return
        headers = {**route.request.headers, "X-Forwarded-Prefix": "/shop"}
        route.continue_(url=f"{address}{path.removeprefix('/shop')}", headers=headers)

    with opened(browser, "about:blank", **DESKTOP) as page:
        page.route("**/*", proxied)
        page.goto(f"{address}/shop/")
        show(page, a_photo(3))
        image = page.locator("#matches img").first
        assert (image.get_attribute("src") or "").startswith("/shop/v1/items/")
        page.wait_for_function("document.querySelector('#matches img').naturalWidth > 0")
    assert {path.split("/")[1] for path in asked} == {"shop"}, asked
