"""Folders of drawn pictures: the same whatever the workers, resumable, never mixed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import pytest

from threadmatch.model.data.setups import Setup
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box
from threadmatch.model.synthetic.drawn.drawn_shop import DrawnShop, draw_shop, write_drawn_set
from threadmatch.model.synthetic.garments.garment import garment

ITEMS, QUERIES, FIRST = 24, 4, 88  # garments 88 to 111: two parts


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    counts = write_drawn_set(folder, items=ITEMS, queries=QUERIES, seed=5, workers=1, first=FIRST)
    assert (counts.items, counts.queries, counts.drawn, counts.kept) == (ITEMS, QUERIES, ITEMS + QUERIES, 0)
    return folder


def test_the_catalogue_tells_what_was_drawn(drawn: Path) -> None:
    found = rows(drawn / "catalogue.csv")
    assert [row["id"] for row in found] == [f"drawn-{index:06d}" for index in range(FIRST, FIRST + ITEMS)]
    for number, row in enumerate(found):
        item = garment(5, FIRST + number)
        assert row["product_id"] == item.id
        assert row["name"] == item.name
        assert (row["family"], row["differs_in"]) == (item.family or "", item.differs_in or "")
        assert item.attributes.items() <= row.items()
        assert cv2.imread(str(drawn / row["image"])) is not None


def test_queries_ask_for_garments_of_the_shop_in_all_setups(drawn: Path) -> None:
    found = rows(drawn / "queries.csv")
    shop = {row["id"] for row in rows(drawn / "catalogue.csv")}
    assert [row["setup"] for row in found] == [str(setup) for setup in Setup]
    assert len({row["product_id"] for row in found}) == QUERIES
    for row in found:
        assert row["product_id"] in shop
        picture = cv2.imread(str(drawn / row["image"]))
        assert picture is not None
        box = Box.parse(row["box"])
        assert box == box.clipped(picture.shape[1], picture.shape[0])


def test_the_number_of_workers_changes_no_byte(drawn: Path, tmp_path: Path) -> None:
    write_drawn_set(tmp_path, items=ITEMS, queries=QUERIES, seed=5, workers=2, first=FIRST)
    assert contents(tmp_path) == contents(drawn)


def test_a_second_run_draws_nothing(drawn: Path) -> None:
    before = contents(drawn)
    counts = write_drawn_set(drawn, items=ITEMS, queries=QUERIES, seed=5, workers=1, first=FIRST)
    assert (counts.drawn, counts.kept) == (0, ITEMS + QUERIES)
    assert contents(drawn) == before


def test_a_run_after_a_kill_draws_only_the_parts_that_were_not_done(drawn: Path) -> None:
    before = contents(drawn)
    receipt = next((drawn / ".parts").glob("items-00000100-*"))
    receipt.unlink()  # killed before the second part was done, while a picture was being written
    (drawn / "images/000000/.drawn-000111.jpg.partial").write_bytes(b"half a pic")
    (drawn / "catalogue.csv").unlink()
    counts = write_drawn_set(drawn, items=ITEMS, queries=QUERIES, seed=5, workers=1, first=FIRST)
    assert counts.drawn == FIRST + ITEMS - 100
    assert contents(drawn) == before


def test_a_picture_that_was_deleted_is_drawn_again(drawn: Path) -> None:
    before = contents(drawn)
    (drawn / rows(drawn / "catalogue.csv")[3]["image"]).unlink()
    write_drawn_set(drawn, items=ITEMS, queries=QUERIES, seed=5, workers=1, first=FIRST)
    assert contents(drawn) == before


def test_progress_reaches_the_whole(drawn: Path) -> None:
    seen: list[tuple[int, int]] = []
    draw_shop(
        drawn,
        DrawnShop(items=ITEMS, queries=QUERIES, seed=5, first=FIRST),
        workers=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (ITEMS + QUERIES, ITEMS + QUERIES)


def test_another_seed_does_not_enter_the_folder(drawn: Path) -> None:
    with pytest.raises(DataError, match="draw into an empty folder"):
        write_drawn_set(drawn, items=1, queries=0, seed=6, workers=1)


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / "drawn.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        write_drawn_set(tmp_path, items=1, queries=0, seed=6, workers=1)


@pytest.mark.parametrize("wrong", [{"items": 0}, {"queries": -1}, {"workers": 0}, {"seed": -1}, {"first": -1}])
def test_counts_that_cannot_be_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(DataError):
        write_drawn_set(tmp_path, **({"items": 1, "queries": 0, "seed": 0, "workers": 1} | wrong))


def test_the_note_names_seed_and_version(drawn: Path) -> None:
    assert json.loads((drawn / "drawn.json").read_text())["seed"] == 5
