"""Measures of explanations and of proposed boxes, against the same thing done by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import TINY_CONFIG
from tests.support.serving import photo
from threadmatch.model.chain import Stage
from threadmatch.model.data.encoded import encode_images
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.boxes import measure_boxes, overlap
from threadmatch.model.evaluate.faithfulness import NODES, PAIRS, Asked, markdown, measure, pixels_of
from threadmatch.model.grnet import GRNet
from threadmatch.model.images import Box, load_image
from threadmatch.model.inference import Model
from threadmatch.model.matching import as_explaining
from threadmatch.model.similarity import scale_spans
from threadmatch.model.sparse_graph import SparseGraph


@pytest.fixture
def images(tmp_path: Path) -> list[LabelledImage]:
    """Four photos of as many products, each its own query."""
    made = []
    for number in range(4):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(photo(number))
        made.append(LabelledImage(path, str(number), f"p{number}", Box(10, 20, 100, 140), "", ""))
    return made


def test_the_drop_is_what_blanking_by_hand_costs(tiny_model: Model, images: list[LabelledImage]) -> None:
    query, item = images[0], LabelledImage(images[1].path, "1", "p0", images[1].box, "", "")
    measured = measure(tiny_model, [item], [query, images[2]], pairs=5)
    assert measured.scores.shape == (1,), "a query whose product is not in the gallery is left out"
    pixels = [load_image(i.path.read_bytes(), image_px=64, box=i.box)[0].pixels for i in (query, item)]
    found = tiny_model.encode(np.stack(pixels))["regions"]
    score = float(tiny_model.score({"regions": found[0]}, {"regions": found[1:]})[0])
    assert measured.scores[0] == pytest.approx(score, abs=1e-5)
    asked = Asked(tiny_model, [item], "grnet")
    (told,) = asked.matcher.evidence({"regions": found[0]}, {"regions": found[1:]}, top=1)
    region = told.after[0].query_region
    start, end = next(span for span in scale_spans(tiny_model.config.grids) if span[0] <= region < span[1])
    drops = {}
    for other in range(start, end):
        again = tiny_model.encode(asked.blank(pixels[0], other)[None])["regions"][0]
        drops[other] = score - float(tiny_model.score({"regions": again}, {"regions": found[1:]})[0])
    assert measured.named["after"][0] == pytest.approx(drops.pop(region), abs=1e-5)
    assert measured.others["after"][0] == pytest.approx(np.mean(list(drops.values())), abs=1e-5)


def test_a_blank_region_has_the_mean_colour_and_the_rest_stays(tiny_model: Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    asked = Asked(tiny_model, [], "grnet")
    boxes = asked.matcher.region_boxes()
    last = len(boxes) - 1  # the lower right cell of the finest scale
    x0, y0, _, _ = np.rint(boxes[last] * 64).astype(int)
    out = asked.blank(pixels, last)
    np.testing.assert_array_equal(out[:y0], pixels[:y0])
    np.testing.assert_array_equal(out[:, :x0], pixels[:, :x0])
    assert (out[y0:, x0:] == np.rint(pixels.reshape(-1, 3).mean(0)).astype(np.uint8)).all()


def test_the_report_names_every_method(tiny_model: Model, images: list[LabelledImage]) -> None:
    result = measure(tiny_model, images, images, pairs=3, seed=1).report(tiny_model, seed=1, seconds=2.0)
    assert (result["pairs"], result["matcher"]) == (3, "grnet")
    assert result["methods"].keys() == PAIRS.keys()
    for figures in result["methods"].values():
        assert math.isclose(
            figures["drop_named"] - figures["drop_random"], figures["gain"]["mean"], rel_tol=1e-6, abs_tol=1e-9
        )
        assert figures["gain"]["low"] <= figures["gain"]["mean"] <= figures["gain"]["high"]
    assert markdown(result).count("\n") == 2 + len(PAIRS)
    with pytest.raises(DataError, match="product_id"):
        measure(tiny_model, images[:1], images[1:], pairs=3)


@pytest.fixture(scope="module")
def cells_model() -> Model:
    """Cells, a dense match and a graph behind it that compares the items of a shortlist."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GRNet(replace(TINY_CONFIG, features=("embedding", "regions", "cells")))
    network.graph = SparseGraph(network.map_grid(), {"mutual:cosine": 3.0, "standing": 0.5}, bias=-1.0)
    network.chain = (Stage("dense"), Stage("sparse", 3))
    return Model(network)


def test_a_matcher_over_cells_scores_among_the_rivals_of_a_search(
    cells_model: Model, images: list[LabelledImage]
) -> None:
    measured = measure(cells_model, images, images[2:3], pairs=1)
    assert (measured.matcher, measured.ways, measured.scores.shape) == ("sparse", NODES, (1,))

    shop = encode_images(cells_model, images).as_kept(cells_model.features)
    dense, sparse = cells_model.matchers["dense"], cells_model.matchers["sparse"]
    pixels = load_image(images[2].path.read_bytes(), image_px=64, box=images[2].box)[0].pixels

    def encoded(shown: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {name: values[0] for name, values in cells_model.encode(shown[None]).items()}

    photo = encoded(pixels)
    [first] = dense.score_many([photo], [{"cells": shop.features["cells"]}])
    rivals = np.argsort(-first)[:3]
    assert 2 in rivals, "a photo is like itself"
    items, at = shop.items(rivals, ["cells"]), rivals.tolist().index(2)
    asked = Asked(cells_model, images, "sparse")
    explaining = as_explaining(sparse)
    assert explaining is not None
    told = explaining.evidence(photo, items, top=100)[at]
    scores = {
        cell: float(sparse.score_many([encoded(asked.blank(pixels, cell))], [items])[0][at])
        for cell in range(len(told.after))
    }
    whole = float(sparse.score_many([photo], [items])[0][at])
    assert measured.scores[0] == pytest.approx(whole, abs=1e-4)
    named = told.after[0].query_region
    assert measured.named["after"][0] == pytest.approx(whole - scores.pop(named), abs=1e-3)
    assert measured.others["after"][0] == pytest.approx(whole - np.mean(list(scores.values())), abs=1e-3)


def test_an_item_that_a_search_does_not_score_takes_the_last_ones_part(
    cells_model: Model, images: list[LabelledImage]
) -> None:
    asked = Asked(cells_model, images, "sparse")
    photo = {name: values[0] for name, values in cells_model.encode(pixels_of(cells_model, images[0])[None]).items()}
    found = [asked.given(photo, place) for place in range(len(images))]
    assert [len(items["cells"]) for items, _ in found] == [3] * 4
    assert sum(at == 2 for _, at in found) == 2, "the third, and the fourth in its place"


def test_only_matchers_whose_regions_can_be_compared_are_measured(cells_model: Model, tiny_model: Model) -> None:
    with pytest.raises(ConfigError, match="no matcher 'sparse'"):
        Asked(tiny_model, [], "sparse")
    with pytest.raises(ConfigError, match="of 'greedy' are not measured; take one of sparse, dense, grnet"):
        Asked(cells_model, [], "greedy")


class Given:
    """A detector that always sees this box, in shares."""

    name, on_model_thread = "given", False

    def __init__(self, *boxes: Box) -> None:
        self.boxes = boxes

    def detect(self, photo: NDArray[np.uint8]) -> list[Proposal]:
        assert photo.dtype == np.uint8
        return [Proposal(box, 1.0) for box in self.boxes]


def test_a_detector_that_is_right_scores_as_the_given_boxes(tiny_model: Model, images: list[LabelledImage]) -> None:
    right = Given(Box(10 / 120, 20 / 160, 100 / 120, 140 / 160))
    result = measure_boxes(tiny_model, right, images, images, most=(4, 4))
    assert result["overlap"]["proposed"]["mean"] == pytest.approx(1)
    assert result["overlap"]["whole"]["mean"] == pytest.approx(90 * 120 / (120 * 160))
    assert result["top1"]["given"] == result["top1"]["proposed"] > 0, "the same crops find the same"
    nothing = measure_boxes(tiny_model, Given(), images, images, most=(2, 4))
    assert nothing["overlap"]["proposed"] == nothing["overlap"]["whole"]
    assert nothing["queries"] == 2
    unboxed = [LabelledImage(images[0].path, "0", "p0", None, "", "")]
    with pytest.raises(DataError, match="box"):
        measure_boxes(tiny_model, right, images, unboxed)


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(Box(0, 0, 2, 2), Box(1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert overlap(Box(0, 0, 1, 1), Box(2, 2, 3, 3)) == 0
