"""How much later than the service's answer the page shows it, in a real browser.

    threadmatch serve --gallery GALLERY --port 8000
    python -m threadmatch.service.bench.page_delay http://127.0.0.1:8000 PHOTO... --rounds 20 --markdown

Each round asks with every photo twice: a client of this process sends it with the fields that the page sends, and a
Chromium has it chosen on the page. By the page's own clock are measured: from the choice until the request leaves,
until its answer is whole, until the first card is painted, and until that card's photo is. What the page adds is the
time before the request and after the answer: medians, and the best, which other work on the machine touches least.
Several addresses take turns, so that two versions of the page are compared. Needs playwright (extra dev), a Chromium.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM: Final = "/usr/bin/chromium"
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")
TIMEOUT_MS: Final = 60_000
REST_MS: Final = 300
"""Between two rounds: the other cards' photos are no part of the next one."""
FIELDS: Final = {"top_k": "12", "candidates": "200", "rerank": "true", "group_by": "product", "box": "auto"}
"""What the page sends where nobody has chosen otherwise."""

HEAD: Final = (
    "photo", "address", "client", "sent", "answered", "first card", "page adds", "best", "with its photo", "best",
)  # fmt: skip

WATCH: Final = """() => {
    let begun = 0;
    document.getElementById("photo").addEventListener("change", () => {
        begun = performance.now();
        performance.clearResourceTimings();
        window.measured = null;
    }, { capture: true });
    new MutationObserver(async () => {
        const card = document.querySelector("#matches li");
        if (!card || !begun) return;
        const since = begun, asked = ({ name }) => name.endsWith("/v1/search");
        const [search] = performance.getEntriesByType("resource").filter(asked);
        begun = 0;
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        const painted = performance.now();
        await card.querySelector("img").decode();
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        window.measured = {
            sent_ms: search.requestStart - since, answered_ms: search.responseEnd - since, painted_ms: painted - since,
            photo_ms: performance.now() - since,
        };
    }).observe(document.getElementById("matches"), { childList: true });
}"""


@dataclass(frozen=True, slots=True)
class Delay:
    """Medians for one photo at one address, milliseconds since it was chosen.

    Fields:
        api_ms: of the client's whole search.
        own_ms, own_best_ms: what the page adds to its own request until the first card is painted.
        with_photo_ms, with_photo_best_ms: the same until that card's photo is.
    """

    address: str
    photo: str
    rounds: int
    api_ms: float
    sent_ms: float
    answered_ms: float
    painted_ms: float
    own_ms: float
    own_best_ms: float
    with_photo_ms: float
    with_photo_best_ms: float


def measure(addresses: Sequence[str], photos: Sequence[Path], *, rounds: int, chromium: str = CHROMIUM) -> list[Delay]:
    """Measure every photo at every address, in turns; a first round warms up and is not counted.

    Raises:
        httpx.HTTPError: an address does not answer a search. playwright's Error: the page does not.
    """
    from playwright.sync_api import sync_playwright

    seen: dict[tuple[str, Path], list[dict[str, float]]] = {(at, photo): [] for at in addresses for photo in photos}
    with sync_playwright() as driver, httpx.Client(timeout=TIMEOUT_MS / 1000) as client:
        browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
        pages = {
            address: _opened(browser.new_page(viewport={"width": 1280, "height": 800}), address)
            for address in addresses
        }
        for number in range(rounds + 1):
            for (address, photo), found in seen.items():
                one = {"api_ms": _asked(client, address, photo), **_chosen(pages[address], photo)}
                if number:
                    found.append(one)
        browser.close()
    return [_delay(address, photo, found) for (address, photo), found in seen.items()]


def _delay(address: str, photo: Path, found: Sequence[Mapping[str, float]]) -> Delay:
    own, with_photo = (
        [one["sent_ms"] + one[until] - one["answered_ms"] for one in found] for until in ("painted_ms", "photo_ms")
    )
    return Delay(
        address,
        photo.name,
        len(found),
        **{name: median(one[name] for one in found) for name in ("api_ms", "sent_ms", "answered_ms", "painted_ms")},
        own_ms=median(own),
        own_best_ms=min(own),
        with_photo_ms=median(with_photo),
        with_photo_best_ms=min(with_photo),
    )


def _opened(page: Page, address: str) -> Page:
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(address)
    page.get_by_text("in the gallery").wait_for()
    page.evaluate(WATCH)
    return page


def _asked(client: httpx.Client, address: str, photo: Path) -> float:
    """A search by a program, whole, in milliseconds."""
    body = photo.read_bytes()
    started = time.perf_counter()
    client.post(f"{address}/v1/search", files={"image": (photo.name, body)}, data=FIELDS).raise_for_status()
    return 1000 * (time.perf_counter() - started)


def _chosen(page: Page, photo: Path) -> dict[str, float]:
    """The same on the page."""
    page.bring_to_front()
    page.evaluate("() => { window.measured = null; }")
    page.set_input_files("#photo", photo)
    found: dict[str, float] = page.wait_for_function("() => window.measured").json_value()
    page.wait_for_timeout(REST_MS)
    return found


def table(delays: Sequence[Delay], *, markdown: bool) -> str:
    """The figures as text, a row a photo."""
    head = [
        "photo",
        "address",
        "client",
        "sent",
        "answered",
        "first card",
        "page adds",
        "best",
        "with its photo",
        "best",
    ]
    rows = [head, *(_cells(one) for one in delays)]
    if not markdown:
        return "\n".join("  ".join(row) for row in rows) + "\n"
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(HEAD), *rows[1:]]) + "\n"


def _cells(one: Delay) -> list[str]:
    times = (one.api_ms, one.sent_ms, one.answered_ms, one.painted_ms)
    own = (one.own_ms, one.own_best_ms, one.with_photo_ms, one.with_photo_best_ms)
    return [one.photo, one.address, *(f"{value:.0f}" for value in (*times, *own))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as the command line says, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", nargs="+", metavar="ADDRESS... PHOTO...", help="addresses begin with http")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--chromium", default=CHROMIUM)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    addresses = [one.rstrip("/") for one in options.given if one.startswith("http")]
    photos = [Path(one) for one in options.given if not one.startswith("http")]
    missing = [str(photo) for photo in photos if not photo.is_file()]
    if not addresses or not photos or missing:
        parser.error(f"no such file: {', '.join(missing)}" if missing else "give an address, and a photo at least")
    delays = measure(addresses, photos, rounds=options.rounds, chromium=options.chromium)
    fields = [asdict(one) for one in delays]
    sys.stdout.write(json.dumps(fields, indent=2) + "\n" if options.json else table(delays, markdown=options.markdown))


if __name__ == "__main__":
    main()
