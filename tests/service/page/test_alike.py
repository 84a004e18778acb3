"""Chips for attributes: what the matches must be like above all, what each did to the order, and where it is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import edges, explained, jpeg, show, whole
from threadmatch.model.synthetic.nonsense import as_jpeg, nonsense

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Locator, Page


def press(page: Page, button: Locator) -> dict[str, Any]:
    """Press what searches anew; its answer, once that is shown."""
    with page.expect_response("**/v1/search") as searched:
        button.click()
    answer: dict[str, Any] = searched.value.json()
    page.locator("#results[aria-busy=false]").wait_for()
    return answer


def test_a_chip_brings_up_what_is_alike_and_each_card_tells_what_it_did(desktop: Page) -> None:
    show(desktop, jpeg(9))
    whole(desktop)
    chips = desktop.get_by_role("group", name="What must be alike above all").get_by_role("button")
    assert chips.all_inner_texts()[:3] == ["Same neckline", "Same sleeves", "Same mood"]
    answer = press(desktop, desktop.get_by_role("button", name="Same neckline"))
    asked = answer["matches"][2]["attributes"]
    assert [(own["name"], own["weight"]) for own in asked] == [("neckline", 1)]
    for card, match in zip(desktop.locator("#matches li").all(), answer["matches"], strict=True):
        [own] = match["attributes"]
        words = card.locator(".trait").inner_text()
        assert own["predicted_item"]["value"] in words
        assert ("▲" in words, "▼" in words) == (own["moved"] > 0, own["moved"] < 0)
    both = press(desktop, desktop.get_by_role("button", name="Same mood"))
    assert desktop.locator("#matches li").first.locator(".trait").count() == 2
    assert "the same neckline and mood above all" in desktop.inner_text("#status") or both["no_match"]
    alone = press(desktop, desktop.get_by_text("Any garment"))
    assert {match["stage"] for match in alone["matches"]} == {"attributes"}
    assert "by the same neckline and mood alone" in desktop.inner_text("#status")
    with desktop.expect_response("**/v1/search") as again:
        desktop.reload()
    assert [own["name"] for own in again.value.json()["matches"][0]["attributes"]] == ["neckline", "mood"]
    desktop.get_by_role("button", name="Same mood", pressed=True).wait_for()
    assert desktop.locator("#alike-alone").is_checked(), "a reload loses nothing"


def test_a_photo_of_nothing_has_nothing_that_could_be_alike(desktop: Page) -> None:
    chips = desktop.get_by_role("group", name="What must be alike above all")
    wall: FilePayload = {"name": "wall.jpg", "mimeType": "image/jpeg", "buffer": as_jpeg(nonsense("flat", 0))}
    for photo, shown in ((wall, False), (jpeg(9), True)):
        show(desktop, photo)
        desktop.locator("#results[aria-busy=false]").wait_for()
        chips.wait_for(state="visible" if shown else "hidden")


def test_where_an_attribute_is_seen_lies_over_both_photos_while_it_is_pointed_at(desktop: Page) -> None:
    show(desktop, jpeg(9))
    desktop.locator("#results[aria-busy=false]").wait_for()
    chip = desktop.get_by_role("button", name="Same sleeves")
    chip.hover()
    seen = desktop.locator("#seen .heat")
    seen.wait_for()
    assert "attribute=sleeves&side=query" in (seen.get_attribute("src") or "")
    assert seen.evaluate("(layer) => layer.decode().then(() => layer.naturalWidth)") > 0
    assert edges(desktop, "#seen .heat") == pytest.approx(edges(desktop, "#frame"), abs=3), "the part that was searched"
    press(desktop, chip)
    desktop.locator("#home").hover()
    seen.wait_for(state="detached")
    trait = desktop.locator("#matches .trait").nth(1)
    desktop.locator("#matches .open").nth(1).focus()
    desktop.keyboard.press("Tab")  # by keyboard as by mouse
    assert trait.evaluate("(one) => one === document.activeElement")
    layer = desktop.locator("#matches li").nth(1).locator(".photo .heat")
    layer.wait_for()
    assert "side=item" in (layer.get_attribute("src") or "")
    seen.wait_for()
    desktop.keyboard.press("Tab")
    layer.wait_for(state="detached")


def test_the_dialog_says_in_what_both_are_alike_and_a_finger_shows_where(phone: Page) -> None:
    show(phone, jpeg(9))
    answer = press(phone, phone.get_by_role("button", name="Same neckline"))
    with phone.expect_response("**/explanation*") as explanation:
        phone.locator("#matches .open").first.tap()
    told = {own["name"]: own for own in explanation.value.json()["attributes"]}
    explained(phone)
    mine, theirs = (told["neckline"][f"predicted_{side}"] for side in ("query", "item"))
    same = mine["value"] == theirs["value"]
    assert min(mine["probability"], theirs["probability"]) > 0.6, "sure enough to be said"
    words = f"same neckline ({theirs['value']})" if same else f"neckline ({theirs['value']}, not {mine['value']})"
    assert words in phone.inner_text("#sentence")
    trait = phone.locator("#traits .trait", has_text="neckline")
    trait.tap()
    phone.wait_for_function(
        """() => [...document.querySelectorAll("#compare img.heat")].every(
            (layer) => layer.src.includes("attribute=neckline") && layer.complete && layer.naturalWidth)"""
    )
    assert "for the neckline" in phone.inner_text("#heat-note")
    trait.tap()
    phone.locator("#compare img.heat").first.wait_for(state="hidden")
    assert answer["matches"][0]["attributes"][0]["similarity"] == pytest.approx(
        told["neckline"]["similarity"], abs=1e-3
    )
