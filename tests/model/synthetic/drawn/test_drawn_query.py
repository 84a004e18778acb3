"""Street queries of drawn garments: what is recorded about them is what the picture shows."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest

from threadmatch.model.data.setups import HARD_FRACTION, Setup
from threadmatch.model.synthetic.drawn.drawn_query import StreetScene, draw_street_query, draw_street_scene
from threadmatch.model.synthetic.garments.dyes import Color
from threadmatch.model.synthetic.garments.garment import garment

GARMENTS = range(30, 36)


@functools.cache
def scenes(setup: Setup) -> list[StreetScene]:
    return [draw_street_scene(garment(7, index), setup=setup, seed=index) for index in GARMENTS]


@pytest.mark.parametrize("setup", list(Setup))
def test_fractions_and_box_are_those_of_the_masks(setup: Setup) -> None:
    for scene in scenes(setup):
        query = scene.query
        height, width = query.image.shape[:2]
        x0, y0 = scene.frame
        inside = scene.whole[y0 : y0 + height, x0 : x0 + width]
        assert inside.shape == scene.visible.shape == (height, width)
        assert math.isclose(query.cropped_fraction, 1 - inside.sum() / scene.whole.sum(), abs_tol=1e-12)
        assert math.isclose(query.occluded_fraction, 1 - scene.visible.sum() / inside.sum(), abs_tol=1e-12)
        y, x = np.nonzero(scene.visible)
        box = query.box
        assert (box.x0, box.y0, box.x1, box.y1) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        edge = np.concatenate([scene.whole[0], scene.whole[-1], scene.whole[:, 0], scene.whole[:, -1]])
        assert not edge.any(), "the canvas holds the whole garment"


@pytest.mark.parametrize("setup", list(Setup))
def test_a_setup_keeps_its_word(setup: Setup) -> None:
    for scene in scenes(setup):
        cropped, occluded = scene.query.cropped_fraction, scene.query.occluded_fraction
        assert scene.query.setup is setup
        assert (cropped > HARD_FRACTION) == (setup is Setup.HARD_CROPPING)
        assert (occluded > HARD_FRACTION) == (setup is Setup.HARD_OCCLUSION)
        assert scene.visible.mean() > 0.01
        assert setup is Setup.HARD_VIEW or not scene.back


def test_easy_queries_show_nearly_all_of_the_garment() -> None:
    for scene in scenes(Setup.EASY):
        assert scene.query.cropped_fraction < 0.05
        assert scene.query.occluded_fraction < 0.13


def test_about_half_of_the_hard_views_are_backs() -> None:
    backs = [draw_street_scene(garment(7, 4), setup=Setup.HARD_VIEW, seed=seed).back for seed in range(10)]
    assert 2 <= sum(backs) <= 8


@pytest.mark.parametrize("setup", list(Setup))
def test_the_visible_mask_is_where_the_picture_changes_with_the_garments_colour(setup: Setup) -> None:
    item = next(g for g in (garment(7, i) for i in range(50, 99)) if g.category == "sweater" and g.look.logo is None)
    pictures = []
    for rgb in ((235, 20, 20), (20, 235, 20)):
        dye = Color("test", rgb)
        look = dataclasses.replace(
            item.look, pattern="plain", main=dye, trim_color=dye, button_color=dye, closure="none", trim="none"
        )
        scene = draw_street_scene(dataclasses.replace(item, look=look), setup=setup, seed=3)
        pictures.append(scene.query.image.astype(np.int16))
    changed = np.abs(pictures[0] - pictures[1])[..., :2].min(axis=2) > 45
    overlap = (changed & scene.visible).sum() / (changed | scene.visible).sum()
    assert overlap > 0.9


def test_the_same_seed_gives_the_same_pixels_and_another_one_another_scene() -> None:
    item = garment(7, 12)
    first = draw_street_query(item, setup=Setup.EASY, seed=1)
    again = draw_street_query(item, setup=Setup.EASY, seed=1)
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.box, first.occluded_fraction) == (again.box, again.occluded_fraction)
    other = draw_street_query(item, setup=Setup.EASY, seed=2)
    assert other.image.shape != first.image.shape or (other.image != first.image).any()


def test_a_cover_that_can_never_hide_enough_gives_way_to_another() -> None:
    """Garment 8 of shop 3: its first cover has a gap, and grew without end."""
    query = draw_street_query(garment(3, 8), setup=Setup.HARD_OCCLUSION, seed=2)
    assert query.occluded_fraction > 0
