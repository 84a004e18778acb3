"""The shipped parser on drawn people: no shared data needed."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from threadmatch.model.data.setups import Setup
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.detector import ParserDetector, load_parser_detector
from threadmatch.model.detection.parsing.garments import outline
from threadmatch.model.detection.parsing.kinds import KINDS
from threadmatch.model.detection.parsing.network import lite0_parser
from threadmatch.model.detection.parsing.weights import SHIPPED, WEIGHTS_FILE, ParserConfig
from threadmatch.model.evaluate.garments_found import box_iou
from threadmatch.model.images import Box
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_scene
from threadmatch.model.synthetic.garments.garment import garment

needs_weights = pytest.mark.skipif(
    not (SHIPPED / DEFAULT_PARSER / WEIGHTS_FILE).exists(), reason="the parser's weights are not here"
)


@pytest.fixture(scope="module")
def untrained() -> ParserDetector:
    return ParserDetector(lite0_parser(), ParserConfig(name="untrained", sides_px=(64, 32)))


@pytest.fixture(scope="module")
def shipped() -> ParserDetector:
    return load_parser_detector()


@pytest.mark.parametrize("sides", [(90, 60), (60, 90), (1, 1), (1000, 3)])
def test_photos_of_any_form_are_parsed(untrained: ParserDetector, sides: tuple[int, int]) -> None:
    photo = np.zeros((*sides, 3), np.uint8)
    kinds = untrained.probabilities(photo)
    assert kinds.shape == ((len(KINDS), 32, 16) if sides[0] >= sides[1] else (len(KINDS), 16, 32))
    np.testing.assert_allclose(kinds.sum(axis=0), 1, atol=1e-5)
    for proposal in untrained.detect(photo):
        assert 0 <= proposal.box.x0 < proposal.box.x1 <= 1


@needs_weights
def test_drawn_garments_are_found(shipped: ParserDetector) -> None:
    found = []
    for index in range(12):
        scene = draw_street_scene(garment(901, index), setup=Setup.EASY, seed=1)
        height, width = scene.query.image.shape[:2]
        box = scene.query.box
        true = Box(box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height)
        found.append(any(box_iou(true, proposal.box) >= 0.5 for proposal in shipped.detect(scene.query.image)))
    assert sum(found) >= 8


@needs_weights
def test_one_process_has_it_once_while_somebody_has_it(shipped: ParserDetector, tmp_path: Path) -> None:
    assert load_parser_detector() is shipped
    other = load_parser_detector(engine="torch", cache=tmp_path)
    assert other is not shipped
    assert load_parser_detector(engine="torch", cache=tmp_path) is other
    seen = weakref.ref(other)
    del other
    gc.collect()
    assert seen() is None, "nobody has it any more"


@needs_weights
def test_an_empty_wall_shows_no_garment(shipped: ParserDetector) -> None:
    assert shipped.parse(np.full((400, 300, 3), 200, np.uint8)).choice.garment is None


@needs_weights
def test_a_garments_outline_lies_in_its_box(shipped: ParserDetector) -> None:
    scene = draw_street_scene(garment(901, 0), setup=Setup.EASY, seed=1)
    for one in shipped.parse(scene.query.image).garments:
        for x, y in outline(one.mask)[0]:
            assert one.box.x0 - 0.03 <= x <= one.box.x1 + 0.03
            assert one.box.y0 - 0.03 <= y <= one.box.y1 + 0.03
