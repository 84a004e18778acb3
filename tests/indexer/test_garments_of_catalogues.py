"""`box=auto`: of catalogue photos that show somebody the garment that the row means is encoded, of others all."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.shop import EMBEDDING_SIZE, PixelEncoder, Shop
from tests.support.street import passer_by
from threadmatch.indexer.catalogue.garments import CatalogueGarments, as_cell, given_box, kinds_of, looks
from threadmatch.indexer.export import export
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.features import REGIONS
from threadmatch.model.images import Box

SOME_VECTOR = np.eye(1, EMBEDDING_SIZE, dtype=np.float32)[0]


def catalogue(shop: Shop) -> list[dict[str, Any]]:
    """One photo of a passer-by under several names, and one of tiles that shows nobody."""
    shop.row(0)
    (shop.images / "worn.jpg").write_bytes(passer_by())
    named = {"coat": "Wool coat", "jeans": "Slim jeans", "plain": "", "hat": "Straw hat"}
    rows = [{"id": id, "image": "worn.jpg", "name": name} for id, name in named.items()]
    boxes = {"own": "20,30,120,200", "whole": "0,0,999,999"}
    return [
        *rows,
        *({"id": id, "image": "worn.jpg", "name": "Wool coat", "box": box} for id, box in boxes.items()),
        {"id": "tiles", "image": "000.jpg", "name": "Wool coat"},
    ]


def fill(shop: Shop, path: Path, gallery: Path, **options: Any) -> IngestResult:
    return ingest(path, gallery, model=PixelEncoder(), options=IngestOptions(images=shop.images, workers=1, **options))


def boxes(gallery: Path) -> dict[str, Box]:
    opened = Gallery.open(gallery)
    return {
        item.id: item.box for item in opened.current.items(opened.shortlist(np.eye(1, 24, dtype=np.float32)[0], 99))
    }


def regions(gallery: Path) -> dict[str, list[float]]:
    current = Gallery.open(gallery).current
    found = current.shortlist(SOME_VECTOR, 99)
    made = current.features(REGIONS, found)
    return {candidate.id: made[place].ravel().tolist() for place, candidate in enumerate(found)}


def test_the_garment_that_the_row_names_is_encoded_and_the_catalogues_own_box_wins(shop: Shop) -> None:
    path = shop.write(catalogue(shop))
    result = fill(shop, path, shop.gallery, box="auto")
    assert (result.items, result.encoded, result.framed) == (7, 7, 4)
    found = boxes(shop.gallery)
    width, height = found["whole"].x1, found["whole"].y1
    assert found["plain"] == found["coat"] == found["hat"]  # the coat is largest, and no hat is there
    assert found["coat"].y1 < 0.8 * height
    assert found["jeans"].y0 > found["coat"].y0 + 0.2 * height
    assert found["own"] == Box(20, 30, 120, 200)
    assert found["whole"] == Box(0, 0, width, height)
    assert found["tiles"] == Box(0, 0, 40, 50)
    seen = regions(shop.gallery)
    assert seen["coat"] == seen["plain"] != seen["whole"] != seen["jeans"]
    again = fill(shop, path, shop.gallery, box="auto")
    assert (again.encoded, again.skipped, again.generation) == (0, 7, result.generation)


def test_without_it_every_photo_is_taken_whole_unless_the_row_says_auto(shop: Shop) -> None:
    rows = catalogue(shop)
    path = shop.write([*rows, {**rows[0], "id": "asked", "box": "auto"}])
    assert fill(shop, path, shop.gallery).framed == 1
    found = boxes(shop.gallery)
    assert found["coat"] == found["jeans"] == found["whole"]
    assert found["asked"].y1 < 0.8 * found["whole"].y1


def test_a_gallery_moves_with_what_was_asked_of_each_row(shop: Shop, tmp_path: Path) -> None:
    fill(shop, shop.write(catalogue(shop)), shop.gallery, box="auto")
    export(shop.gallery, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        cells = {row["id"]: row["box"] for row in csv.DictReader(file)}
    assert (cells["coat"], cells["own"]) == ("auto", "20.0,30.0,120.0,200.0")
    fill(shop, tmp_path / "out.csv", tmp_path / "moved")
    assert regions(tmp_path / "moved") == regions(shop.gallery)


def test_a_box_has_one_written_form_for_all_that_ask_the_same() -> None:
    garments = CatalogueGarments(PixelEncoder(), "auto")
    asked = garments.asked_box("", '{"Category": "Women/Tops/Jackets", "name": "Slim jeans"}')
    assert looks(asked)
    assert kinds_of(asked) == {"outerwear"}
    assert (given_box(asked), as_cell(asked)) == ("", "auto")
    assert asked == garments.asked_box("AUTO", '{"category": "coat"}') != garments.asked_box("", "{}")
    assert kinds_of(garments.asked_box("", "{}")) == frozenset()
    assert garments.asked_box("none", "{}") == CatalogueGarments(PixelEncoder()).asked_box("", "{}") == ""
    assert as_cell(garments.asked_box("1,2,3,4", "{}")) == "1.0,2.0,3.0,4.0"
    with pytest.raises(InvalidImageError, match="four numbers"):
        garments.asked_box("left half", "{}")
