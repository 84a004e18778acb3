"""How many garments of street photos a detector finds: `python -m threadmatch.model.evaluate.garments_found ROOT`.

A garment is what a photo's mask gives to one kind (`kinds.STREET_LABELS`, likeliest kind), without specks, where it
takes at least LEAST_SHARE of the photo. It is found where a proposal's box overlaps its own by FOUND_IOU.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.detector import load_parser_detector
from threadmatch.model.detection.parsing.garments import LEAST_AREA
from threadmatch.model.detection.parsing.kinds import GARMENTS, STREET_LABELS
from threadmatch.model.detection.proposals import Detector, GrabCutDetector
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box

LEAST_SHARE: Final = 0.03
FOUND_IOU: Final = 0.5


@dataclass(frozen=True, slots=True)
class TrueGarment:
    """A garment as a mask has it.

    Fields:
        kind: of `kinds.GARMENTS`.
        label: the set's own, the largest where several are of one kind.
        box: shares of the photo.
        area: share of the photo.
        mask: (H, W) bool.
    """

    kind: str
    label: str
    box: Box
    area: float
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TruePhoto:
    """A street photo and its garments."""

    id: str
    pixels: NDArray[np.uint8]
    garments: list[TrueGarment]


def true_photos(folder: Path, *, split: str = "val", by_label: bool = False) -> Iterator[TruePhoto]:
    """Photos of street/ with the garments of their masks.

    Args:
        folder: street/.
        split: "train" or "val".
        by_label: a garment for every label, where one kind has several: a vest over a coat.

    Raises:
        DataError: the folder is not as its README says.
    """
    try:
        with (folder / "labels.csv").open(newline="") as file:
            labels = {int(row["value"]): row["label"] for row in csv.DictReader(file)}
        with (folder / "items.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        for row in rows:
            mask = np.asarray(Image.open(folder / row["mask"]))
            pixels = np.asarray(Image.open(folder / row["image"]).convert("RGB"))
            yield TruePhoto(row["id"], pixels, true_garments(mask, labels, by_label=by_label))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{folder} cannot be read as street photos: {error}") from error


def true_garments(
    mask: NDArray[np.uint8], labels: dict[int, str], *, by_label: bool = False, least: float = LEAST_SHARE
) -> list[TrueGarment]:
    """The garments of a mask.

    Args:
        mask: (H, W) values of `labels`.
        labels: by value.
        by_label: see `true_photos`.
        least: share of the photo below which a garment does not count.
    """
    groups: dict[str, list[int]] = {}
    for value in np.unique(mask).tolist():
        kind = STREET_LABELS[labels[value]][0]
        if kind in GARMENTS and len(STREET_LABELS[labels[value]]) <= 3:  # belts and the like are of many kinds
            groups.setdefault(labels[value] if by_label else kind, []).append(value)
    garments = []
    for values in groups.values():
        inside = _without_specks(np.isin(mask, values))
        area = float(inside.mean())
        if area >= least:
            largest = max(values, key=lambda value: int((mask == value).sum()))
            kind = STREET_LABELS[labels[largest]][0]
            garments.append(TrueGarment(kind, labels[largest], _box(inside), area, inside))
    return garments


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union."""
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / (one.width * one.height + other.width * other.height - shared)


def measure(detector: Detector, photos: Iterator[TruePhoto]) -> dict[str, Any]:
    """Found garments, in all and by kind; `kind_right` counts those of the found whose best box names their kind."""
    outcomes: dict[str, list[tuple[bool, bool]]] = {}  # by kind: found, and named rightly too
    boxes = 0
    for photo in photos:
        proposals = detector.detect(photo.pixels)
        boxes += len(proposals)
        for garment in photo.garments:
            best = max(proposals, key=lambda proposal: box_iou(garment.box, proposal.box), default=None)
            found = best is not None and box_iou(garment.box, best.box) >= FOUND_IOU
            right = found and best is not None and best.label == garment.kind
            outcomes.setdefault(garment.kind, []).append((found, right))
    every = np.array([outcome for kind in outcomes.values() for outcome in kind], dtype=bool).reshape(-1, 2)
    count_found, count_right = (int(count) for count in every.sum(axis=0))
    return {
        "garments": len(every),
        "found": count_found / max(1, len(every)),
        "kind_right": count_right / max(1, count_found),
        "boxes": boxes,
        "by_kind": {
            kind: {"garments": len(each), "found": sum(found for found, _ in each) / len(each)}
            for kind, each in sorted(outcomes.items())
        },
    }


def _without_specks(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    kept = [n for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= LEAST_AREA * inside.size]
    return np.isin(labels, kept)


def _box(inside: NDArray[np.bool_]) -> Box:
    height, width = inside.shape
    x, y, w, h = cv2.boundingRect(inside.astype(np.uint8))
    return Box(x / width, y / height, (x + w) / width, (y + h) / height)


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("root", type=Path, help="folder of street/")
    options.add_argument("--parser", default=DEFAULT_PARSER, help="name or folder, or grabcut")
    options.add_argument("--by-label", action="store_true", help="a garment a label in place of a kind")
    given = options.parse_args()
    detector: Detector = GrabCutDetector() if given.parser == "grabcut" else load_parser_detector(given.parser)
    photos = true_photos(given.root / "street", by_label=given.by_label)
    print(json.dumps(measure(detector, photos), indent=2))


if __name__ == "__main__":
    main()
