"""A real chromium over a real `threadmatch serve`: one of each for all tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import CHROMIUM, DESKTOP, FLAGS, PHONE, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's; no browser is downloaded."""
    pytest.importorskip("playwright", reason="playwright is not installed (extra dev)")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"{CHROMIUM} is not here; on Debian: apt-get install chromium")
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A running one. Not for longer than a module: while it runs, no test of another kind can have an event loop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def phone(browser: Browser, address: str) -> Iterator[Page]:
    """In a window of a phone's size, with touch."""
    with opened(browser, address, **PHONE) as page:
        yield page


@pytest.fixture
def desktop(browser: Browser, address: str) -> Iterator[Page]:
    """In a window of a desktop's size, with a mouse."""
    with opened(browser, address, **DESKTOP) as page:
        yield page


@pytest.fixture(scope="module")
def phone_once(browser: Browser, address: str) -> Iterator[Page]:
    """The same, for tests that leave the page as they found it."""
    with opened(browser, address, **PHONE) as page:
        yield page
