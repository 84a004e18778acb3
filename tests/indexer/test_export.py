"""A gallery written out as a catalogue: what it carries, and what it says that it lacks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.edits import put
from tests.support.shop import PixelEncoder, Shop
from threadmatch.indexer.export import export
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_items_that_were_put_move_with_their_photos_and_are_missed_without(
    shop: Shop, tmp_path: Path, name: str
) -> None:
    shop.ingest(shop.rows(2))
    put(shop.gallery, "new", 50)
    bare = export(shop.gallery, tmp_path / f"bare-{name}")
    assert (bare.items, bare.without_photo, bare.examples) == (3, 1, ("new",))
    assert "--with-photos" in bare.warning()
    whole = export(shop.gallery, tmp_path / name, photos=tmp_path / "photos")
    assert not whole.warning()
    options = IngestOptions(batch_size=2, workers=1)
    result = ingest(tmp_path / name, tmp_path / "moved", model=PixelEncoder(), options=options)
    assert (result.items, result.rejected) == (3, 0)


def test_codes_come_back_as_they_were(shop: Shop, tmp_path: Path) -> None:
    codes = [("12E5", "11234567890123456789"), ("7E3", "00000000000000000001"), ("1001", "5")]
    rows = [shop.row(number, style=style, barcode=barcode) for number, (style, barcode) in enumerate(codes)]
    shop.ingest(rows)
    gallery = shop.open()
    assert gallery.columns()["style"] == gallery.columns()["barcode"] == "string"
    query = np.ones(gallery.manifest.embedding_dim, np.float32) / np.sqrt(gallery.manifest.embedding_dim)
    assert [found.id for found in gallery.shortlist(query, 9, filter='style == "12E5"')] == ["item-0"]
    export(shop.gallery, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        assert [(row["style"], row["barcode"]) for row in csv.DictReader(file)] == codes
    export(shop.gallery, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["style"] for line in lines] == ["12E5", "7E3", "1001"]
