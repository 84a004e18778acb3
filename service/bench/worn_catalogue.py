"""A catalogue whose photos show people: what `ingest --box` finds in them, and what that is worth.

    python -m threadmatch.service.bench.worn_catalogue SET

SET is a folder of worn garments (`model.synthetic.judging_sets --role test`, its `worn`). Here it is turned around: the
street photos are the catalogue, one row a garment, and the garments cut out on white are searched for. Each garment is
cut out of the photo it is searched in, so the figures flatter; they say what the boxes are worth, not what a shop gets.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from threadmatch.indexer.store.manifest import BoxRule
from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.inference import load_model
from threadmatch.service.galleries.filling import ingest
from threadmatch.service.galleries.local import LocalGallery

LOOSE: Final = "worn"
"""The queries of a set whose box holds all of the garment."""
WAYS: Final[Mapping[str, tuple[BoxRule, bool, bool]]] = {
    "--box none": ("none", False, False),
    "--box auto, no words": ("auto", False, False),
    "--box auto, the row says what it is": ("auto", True, False),
    "the garment's own loose box": ("none", False, True),
}
"""What is ingested: the rule, whether rows have a category, and whether they have their box."""


@dataclass(frozen=True, slots=True)
class Found:
    """Of one way to ingest: items, top-1 and top-5 of the searches in per cent, photos a second of the ingestion."""

    items: int
    top1: float
    top5: float
    photos_a_second: float


def measure(folder: Path, work: Path, *, limit: int | None = None) -> dict[str, Found]:
    """Ingest the set's street photos in each way, and search for its garments.

    Args:
        folder: SET.
        work: for catalogues and galleries.
        limit: garments at most.
    """
    shown = {
        image.product_id: image for image in reversed(read_labelled(folder / "queries.csv")) if image.setup == LOOSE
    }
    asked = [image for image in read_labelled(folder / "gallery.csv") if image.product_id in shown][:limit]
    model = load_model()
    found = {}
    for number, (way, (rule, words, boxes)) in enumerate(WAYS.items()):
        catalogue = work / f"{number}.csv"
        _write(catalogue, [shown[image.product_id] for image in asked], words=words, boxes=boxes)
        started = time.perf_counter()
        result = ingest(catalogue, work / str(number), images=Path("/"), model=model, box=rule)
        seconds = time.perf_counter() - started
        with LocalGallery(work / str(number), model=model) as gallery:
            first = [
                [match.id for match in gallery.search(image.path, box="none", group_by="item", top_k=5).matches]
                for image in asked
            ]
        right = [image.product_id for image in asked]
        found[way] = Found(
            result.items,
            100 * sum(ids[:1] == [own] for ids, own in zip(first, right, strict=True)) / len(right),
            100 * sum(own in ids for ids, own in zip(first, right, strict=True)) / len(right),
            len(right) / seconds,
        )
    return found


def _write(path: Path, rows: list[LabelledImage], *, words: bool, boxes: bool) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "box", "category"])
        for row in rows:
            kind = row.category.replace("_or_", " ") if words else ""
            writer.writerow([row.product_id, row.path.resolve(), str(row.box) if boxes else "", kind])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="What --box of ingestion is worth where photos show people.")
    parser.add_argument("set", type=Path, help="folder of worn garments: gallery.csv, queries.csv")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps({way: asdict(one) for way, one in measure(given.set, Path(work)).items()}, indent=2))


if __name__ == "__main__":
    main()
