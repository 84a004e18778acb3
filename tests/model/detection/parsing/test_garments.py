from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from threadmatch.model.detection.parsing.garments import (
    Garment,
    choose,
    closeness,
    find_garments,
    kept_of_ground,
    outline,
    soft_mask,
)
from threadmatch.model.detection.parsing.kinds import KINDS
from threadmatch.model.detection.plain import plain_ground
from threadmatch.model.images import Box

H, W = 120, 80


def _probabilities(*parts: tuple[str, tuple[int, int, int, int], float]) -> NDArray[np.float32]:
    """Background, but in these parts partly: kind, (y0, y1, x0, x1), probability."""
    found = np.zeros((len(KINDS), H, W), np.float32)
    found[0] = 1
    for kind, (y0, y1, x0, x1), probability in parts:
        found[0, y0:y1, x0:x1] -= probability
        found[KINDS.index(kind), y0:y1, x0:x1] += probability
    return found


def _garment(kind: str, box: Box, *, area: float = 0.1, score: float = 0.9) -> Garment:
    return Garment(kind, box, score, score, area, np.zeros((H, W), np.uint8))


def test_a_garment_has_its_box_kind_score_and_area() -> None:
    (found,) = find_garments(_probabilities(("skirt", (30, 60, 20, 40), 0.8)))
    assert found.kind == "skirt"
    assert found.box == Box(20 / W, 30 / H, 40 / W, 60 / H)
    assert found.score == pytest.approx(0.8, abs=1e-5)
    assert found.area == pytest.approx(30 * 20 / (H * W))
    assert found.mask.shape == (H, W)
    assert found.mask[45, 30] == 255
    assert found.mask[100, 70] == 0


def test_garments_come_largest_first() -> None:
    found = find_garments(_probabilities(("hat", (0, 10, 30, 50), 0.9), ("top", (20, 60, 20, 60), 0.9)))
    assert [garment.kind for garment in found] == ["top", "hat"]


def test_left_and_right_shoe_are_one_garment() -> None:
    shoes = ("footwear", (100, 112, 10, 22), 0.9), ("footwear", (98, 110, 50, 62), 0.9)
    (found,) = find_garments(_probabilities(*shoes))
    assert found.box == Box(10 / W, 98 / H, 62 / W, 112 / H)


def test_two_panels_of_an_open_coat_are_one_garment_and_two_people_wear_two() -> None:
    panels = ("outerwear", (20, 80, 20, 30), 0.9), ("outerwear", (20, 80, 36, 46), 0.9)
    assert len(find_garments(_probabilities(*panels))) == 1
    people = ("outerwear", (20, 80, 2, 22), 0.9), ("outerwear", (20, 80, 50, 70), 0.9)
    assert len(find_garments(_probabilities(*people))) == 2


def test_specks_are_dropped() -> None:
    assert find_garments(_probabilities(("bag", (5, 8, 5, 8), 0.99))) == []
    large_and_speck = ("top", (40, 90, 20, 60), 0.9), ("top", (30, 36, 20, 26), 0.9)
    (found,) = find_garments(_probabilities(*large_and_speck))
    assert found.box.y0 == 40 / H


def test_what_is_hardly_likelier_than_the_ground_is_not_told_of() -> None:
    assert find_garments(_probabilities(("top", (20, 60, 20, 60), 0.55))) == []


def test_a_garment_of_doubtful_kind_is_a_sure_garment() -> None:
    part = (20, 60, 20, 60)
    (found,) = find_garments(_probabilities(("outerwear", part, 0.4), ("dress_or_jumpsuit", part, 0.45)))
    assert found.kind == "dress_or_jumpsuit"
    assert found.kind_score == pytest.approx(0.45, abs=1e-5)
    assert found.score == pytest.approx(0.85, abs=1e-5)


def test_a_photo_of_the_ground_has_no_garments() -> None:
    assert find_garments(_probabilities()) == []
    assert choose([], 0.0).reason == "nothing"


def test_closeness_is_one_in_the_middle_and_half_at_the_edge() -> None:
    assert closeness(Box(0.4, 0.4, 0.6, 0.6)) == pytest.approx(1)
    assert closeness(Box(-0.1, 0.4, 0.1, 0.6)) == pytest.approx(0.5)


def test_the_main_garment_is_large_and_near_the_middle() -> None:
    aside = _garment("top", Box(0.0, 0.3, 0.2, 0.6), area=0.11)
    middle = _garment("top", Box(0.4, 0.3, 0.6, 0.6), area=0.10)
    choice = choose([aside, middle], person=0.2)
    assert choice.garment is middle
    assert not choice.whole
    assert choice.reason == "garment"


def test_a_bag_is_meant_only_where_no_body_garment_is_seen() -> None:
    bag = _garment("bag", Box(0.3, 0.3, 0.7, 0.7), area=0.3)
    skirt = _garment("skirt", Box(0.4, 0.4, 0.6, 0.6), area=0.1)
    assert choose([bag, skirt], person=0.1).garment is skirt
    assert choose([bag], person=0.0).garment is bag


def test_one_garment_and_nobody_keeps_the_whole_frame() -> None:
    choice = choose([_garment("top", Box(0.1, 0.1, 0.9, 0.9), area=0.5)], person=0.001)
    assert choice.whole
    assert choice.reason == "one_garment"


def test_before_a_plain_ground_the_frame_stays() -> None:
    choice = choose([_garment("top", Box(0.3, 0.3, 0.6, 0.6))], person=0.2, plain=True)
    assert choice.whole
    assert choice.reason == "plain_ground"
    white = np.full((H, W, 3), 250, np.uint8)
    white[30:, 20:60] = 90
    assert plain_ground(white)
    assert not plain_ground(np.random.default_rng(0).integers(0, 256, (H, W, 3)).astype(np.uint8))


@pytest.mark.parametrize("doubtful", [{"score": 0.5}, {"area": 0.005}])
def test_a_doubtful_main_garment_leaves_the_photo_alone(doubtful: dict[str, float]) -> None:
    choice = choose([_garment("top", Box(0.4, 0.4, 0.6, 0.6), **doubtful)], person=0.0)
    assert choice.garment is None
    assert choice.reason == "unsure"


def test_an_outline_goes_around_the_mask() -> None:
    mask = np.zeros((H, W), np.uint8)
    mask[30:60, 20:40] = 255
    mask[90:95, 60:66] = 255
    large, small = outline(mask)
    assert {(round(x * W), round(y * H)) for x, y in large} == {(20, 30), (40, 30), (40, 60), (20, 60)} or (
        min(x for x, _ in large) == pytest.approx(20 / W, abs=1 / W)
        and max(y for _, y in large) == pytest.approx(60 / H, abs=1 / H)
    )
    assert len(small) >= 3
    assert all(0 <= value <= 1 for polygon in (large, small) for corner in polygon for value in corner)


def test_an_outline_of_nothing_is_empty() -> None:
    assert outline(np.zeros((H, W), np.uint8)) == []


def test_only_sure_ground_is_not_kept() -> None:
    background = np.full((H, W), 0.99, np.float32)
    background[30:60, 20:40], background[80:110, 20:60] = 0.05, 0.65
    kept = kept_of_ground(background)
    assert kept[10, 10] == 0
    assert kept[45, 30] == 255
    assert kept[95, 40] == 255


def test_a_mask_never_falls_hard() -> None:
    piece = np.zeros((H, W), np.uint8)
    piece[30:60, 20:40] = 1
    assert int(np.abs(np.diff(soft_mask(piece).astype(int), axis=1)).max()) < 200


def test_the_kind_that_is_meant_is_taken_where_one_is_sure() -> None:
    coat = _garment("outerwear", Box(0.2, 0.1, 0.8, 0.6), area=0.3)
    jeans = _garment("trousers", Box(0.3, 0.6, 0.7, 0.9), area=0.1)
    bag = _garment("bag", Box(0.7, 0.5, 0.8, 0.6), area=0.02, score=0.7)
    assert choose([coat, jeans], 0.2, kinds={"trousers", "shorts"}).garment is jeans
    assert choose([coat, jeans, bag], 0.2, kinds={"bag"}).garment is coat
    assert choose([coat, jeans], 0.2, kinds={"hat"}).garment is coat
