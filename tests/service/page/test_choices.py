"""What a service may offer beside the search: garments found in the photo, keys, several galleries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import DESKTOP, PHONE, edges, jpeg, opened, show
from tests.support.processes import serving
from tests.support.serving import build_gallery, scene
from threadmatch.model.inference import Model
from threadmatch.model.synthetic.nonsense import as_jpeg, nonsense
from threadmatch.service.access.keys import add_key, key_id, revoke_key

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page, Route

STREET: FilePayload = {"name": "street.jpg", "mimeType": "image/jpeg", "buffer": scene()}
FLAT: FilePayload = {"name": "wall.jpg", "mimeType": "image/jpeg", "buffer": as_jpeg(nonsense("flat", 0))}


@dataclass(frozen=True, slots=True)
class Guarded:
    """A service that asks for keys, and its key file."""

    address: str
    file: Path

    def key(self, *galleries: str) -> str:
        """A new key for these galleries."""
        return add_key(self.file, role="search", galleries=galleries, label="a browser")[0]


@pytest.fixture(scope="module")
def guarded(
    browser: Browser, gallery_folder: Path, tiny_model: Model, tiny_model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Guarded]:  # fmt: skip
    """Two galleries, `default` and `women`, behind a key file."""
    root = tmp_path_factory.mktemp("guarded")
    add_key(root / "keys.json", role="admin", galleries=("*",), label="the first")
    women = build_gallery(root, tiny_model, [f"women-{number}" for number in range(4)], first_seed=500)
    options = ("--gallery", str(gallery_folder), "--model", str(tiny_model_folder), "--device", "cpu")
    with serving(*options, f"--named-gallery=women={women}", "--keys", str(root / "keys.json")) as (_, address):
        yield Guarded(address, root / "keys.json")


def sign_in(page: Page, key: str) -> None:
    """Answer the dialog that is open."""
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("Your key").fill(key)
    page.keyboard.press("Enter")
    dialog.wait_for(state="hidden")


def shown_photos(page: Page) -> list[str]:
    """Addresses of the photos of the matches."""
    addresses: list[str] = page.eval_on_selector_all("#matches img", "all => all.map((one) => one.getAttribute('src'))")
    return addresses


def test_the_garment_found_is_searched_at_once_and_the_others_are_chips(phone: Page) -> None:
    with phone.expect_response("**/v1/search") as searched:
        show(phone, STREET)
    query = searched.value.json()["query"]
    [found] = [garment["box"] for garment in query["garments"]]
    assert (query["box"], query["chosen_by"]) == (found, "detector")
    choice = phone.get_by_role("button", name="Garment", exact=True)
    assert choice.get_attribute("aria-pressed") == "true"
    with phone.expect_response("**/v1/search") as whole:
        phone.get_by_role("button", name="Whole photo").tap()
    assert whole.value.json()["query"]["box"] == [0, 0, 300, 400]
    assert choice.get_attribute("aria-pressed") == "false"
    phone.get_by_role("button", name="Show the photo large").tap()
    left, top, right, bottom = edges(phone, "#stage")
    with phone.expect_response("**/v1/search") as tapped:
        phone.touchscreen.tap((left + right) / 2, (top + bottom) / 2)
    assert tapped.value.json()["query"]["box"] == found, "the one under the finger"


def test_a_photo_of_nothing_is_said_to_be_so_and_the_closest_are_shown(phone: Page) -> None:
    show(phone, STREET)
    phone.locator("#proposals button").first.wait_for()
    with phone.expect_response("**/v1/search") as searched:
        phone.set_input_files("#photo", FLAT)
    assert searched.value.json()["no_match_reason"] == "no_garment"
    phone.get_by_role("heading", name="No garment in this photo").wait_for()
    assert phone.locator("#matches li").first.locator(".kind").inner_text() == "Similar"
    assert phone.locator("#proposals").is_hidden()
    assert phone.locator("#error").is_hidden()


def test_several_garments_of_a_detector_are_named_and_small_or_doubtful_ones_left_out(phone: Page) -> None:
    """The detector of this service finds one at most, so here the answer of another one stands in."""

    def answer(route: Route) -> None:
        body = route.fetch().json()
        body["query"] |= {
            "box": [30, 40, 90, 120],
            "chosen_by": "detector",
            "garment": "outerwear",
            "garments": [
                {"box": [31, 42, 88, 118], "score": 0.8, "label": "outerwear"},
                {"box": [0, 0, 119, 160], "score": 0.9, "label": None},  # nearly the whole photo: no choice
                {"box": [60, 80, 120, 160], "score": 0.9, "label": "denim_skirt"},
                {"box": [0, 0, 5, 5], "score": 0.9, "label": "bag"},
                {"box": [0, 90, 60, 160], "score": 0.4, "label": "hat"},
            ],
        }
        route.fulfill(json=body)

    phone.route("**/v1/search", answer)
    show(phone, jpeg(9))
    choices = phone.locator("#proposals button")
    choices.first.wait_for()
    assert choices.all_inner_texts() == ["Coat or jacket", "Denim skirt", "Whole photo"]
    assert phone.locator("#results-title").inner_text() == "Coat or jacket found"


def test_a_key_is_asked_for_and_its_galleries_can_be_chosen(browser: Browser, guarded: Guarded) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra dev)")
    key = guarded.key("default", "women")
    with opened(browser, guarded.address, **DESKTOP) as page:
        dialog = page.get_by_role("dialog", name="Sign in")
        dialog.wait_for()
        found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        dialog.get_by_label("Your key").fill(f"{key[:-4]}AAAA")
        page.keyboard.press("Enter")
        dialog.get_by_text("This key is not known here").wait_for()
        sign_in(page, key)
        page.get_by_text("40 items in the gallery").wait_for()
        show(page, STREET)
        assert not any("women" in address for address in shown_photos(page))
        with page.expect_response("**/v1/search") as other:
            page.get_by_label("Gallery").select_option("women")
        assert {match["id"][:6] for match in other.value.json()["matches"]} == {"women-"}
        page.get_by_text("4 items in the gallery", exact=True).wait_for()
        page.locator("#matches img[src*=women]").first.wait_for()
        page.wait_for_function(
            "() => [...document.querySelectorAll('#matches img')].every((one) => one.naturalWidth > 0)"
        )
        assert "gallery=women" in page.url, "a reload keeps the choice"


def test_signing_out_leaves_nothing_on_the_screen(browser: Browser, guarded: Guarded) -> None:
    with opened(browser, guarded.address, **PHONE) as page:
        sign_in(page, guarded.key("women"))
        page.get_by_text("4 items in the gallery").wait_for()
        assert page.locator("#chooser").is_hidden(), "one gallery is no choice"
        show(page, STREET)
        page.get_by_role("button", name="Sign out").tap()
        page.get_by_role("dialog", name="Sign in").wait_for()
        page.get_by_role("button", name="Not now").tap()
        page.get_by_text("You need to sign in").wait_for()
        assert page.get_by_role("dialog").count() == 0, "not now is an answer"
        assert (shown_photos(page), page.locator("#preview").get_attribute("src")) == ([], None)
        for part in ("#matches", "#stages", "#view", "#filters", "#stage", "#sign-out", "#chooser"):
            assert page.locator(part).is_hidden(), part
        assert page.locator("#sign-in").is_visible()


def test_a_session_that_ended_asks_for_the_key_and_goes_on(browser: Browser, guarded: Guarded) -> None:
    revoked = guarded.key("default")
    with opened(browser, guarded.address, **PHONE) as page:
        sign_in(page, revoked)
        show(page, jpeg(3))
        revoke_key(guarded.file, key_id(revoked))
        page.set_input_files("#photo", STREET)
        page.get_by_role("dialog", name="Sign in").wait_for()
        with page.expect_response(lambda answer: answer.url.endswith("/v1/search") and answer.ok):
            sign_in(page, guarded.key("default"))
        page.get_by_role("button", name="Garment", exact=True).wait_for()
        page.wait_for_function("() => document.getElementById('results').getAttribute('aria-busy') === 'false'")
        assert page.locator("#error").is_hidden()
        assert shown_photos(page)
