"""The photos that ship, laid out as a shop's own files: a catalogue, its images, and street photos to ask with.

OUT/catalogue.csv    id, image, name, category
OUT/images/          the photos
OUT/queries/         the three that the page offers to try
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Final

from threadmatch.model.synthetic.street.street_set import read_sources
from threadmatch.service.demo.sources import SHIPPED_PHOTOS

CATALOGUE_FILE: Final = "catalogue.csv"
SAMPLES: Final = Path(__file__).parents[1] / "page"


def write_shop(out: Path) -> int:
    """Write the folder; what is there already is written again, and the catalogue comes last.

    Returns:
        How many items it has.

    Raises:
        OSError: the folder cannot be written.
    """
    for name in ("images", "queries"):
        (out / name).mkdir(parents=True, exist_ok=True)
    photos = read_sources(SHIPPED_PHOTOS, ["clothing"])
    for photo in photos:
        shutil.copyfile(photo.path, out / "images" / photo.path.name)
    for sample in sorted(SAMPLES.glob("sample-*.jpg")):
        shutil.copyfile(sample, out / "queries" / sample.name)
    partial = out / f".{CATALOGUE_FILE}.partial"
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "image", "name", "category"))
        for photo in photos:
            known = dict(photo.row)
            writer.writerow((photo.id, f"images/{photo.path.name}", known["name"], known["category"]))
    partial.replace(out / CATALOGUE_FILE)
    return len(photos)
