from __future__ import annotations

import numpy as np
import pytest

from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.evaluate.garments_found import TrueGarment, TruePhoto, box_iou, measure, true_garments
from threadmatch.model.images import Box

LABELS = {0: "background", 1: "coat", 2: "jacket", 3: "skin", 4: "belt", 5: "bag"}
H, W = 100, 80


class Says:
    """A detector that always says the same."""

    name = "says"
    on_model_thread = False

    def __init__(self, *proposals: Proposal) -> None:
        self._proposals = list(proposals)

    def detect(self, _: np.ndarray) -> list[Proposal]:
        return self._proposals


def test_labels_of_one_kind_are_one_garment_unless_labels_are_asked_for() -> None:
    mask = np.zeros((H, W), np.uint8)
    mask[20:40, 20:60], mask[40:70, 20:60], mask[70:90, 20:60] = 1, 2, 3
    (coat,) = true_garments(mask, LABELS)
    assert (coat.kind, coat.label) == ("outerwear", "jacket")
    assert coat.box == Box(20 / W, 20 / H, 60 / W, 70 / H)
    assert [one.label for one in true_garments(mask, LABELS, by_label=True)] == ["coat", "jacket"]


def test_specks_small_garments_and_belts_do_not_count() -> None:
    mask = np.zeros((H, W), np.uint8)
    mask[20:40, 20:60], mask[0:2, 0:3] = 1, 1
    mask[50:60, 20:40], mask[60:90, 20:60] = 5, 4
    (coat,) = true_garments(mask, LABELS)
    assert coat.box.y0 == 20 / H


def test_overlap_of_boxes() -> None:
    assert box_iou(Box(0, 0, 2, 2), Box(1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert box_iou(Box(0, 0, 1, 1), Box(1, 0, 2, 1)) == 0


def test_a_garment_is_found_at_half_an_overlap_and_its_kind_is_counted() -> None:
    box = Box(0.1, 0.1, 0.5, 0.9)
    garments = [
        TrueGarment("top", "shirt", box, 0.3, np.zeros((H, W), bool)),
        TrueGarment("bag", "purse", Box(0.8, 0.8, 0.9, 0.9), 0.05, np.zeros((H, W), bool)),
    ]
    photo = TruePhoto("one", np.zeros((H, W, 3), np.uint8), garments)
    figures = measure(Says(Proposal(box, 0.9, "dress_or_jumpsuit")), iter([photo]))
    assert figures["garments"] == 2
    assert figures["found"] == 0.5
    assert figures["kind_right"] == 0
    assert figures["by_kind"]["top"]["found"] == 1
    assert measure(Says(), iter([photo]))["found"] == 0
