"""Sets of street queries: split by owner, no owner lends another's background, the same for any number of workers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.snapshots import photo_folders
from threadmatch.model.data.manifest.rows import Selection, Split, read_manifest
from threadmatch.model.data.pairs import read_labelled
from threadmatch.model.data.setups import HARD_FRACTION, Setup
from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.street.street_set import _tasks, build_street_set, holds_garments, read_sources
from threadmatch.service.cli import app

SOURCES = ("clothing", "shop")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folders(tmp_path_factory.mktemp("photos"))


def rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))


def test_no_owner_stands_in_two_splits_and_every_split_has_some(folders: Path) -> None:
    photos = read_sources(folders, SOURCES)
    splits = {owner: {p.split for p in photos if p.owner == owner} for owner in {p.owner for p in photos}}
    assert all(len(of_owner) == 1 for of_owner in splits.values())
    assert {p.split for p in photos} == {"train", "val", "test"}
    assert {p.split for p in photos if p.owner.startswith("shop")} == {"train", "test"}
    for product in {p.product_id for p in photos}:
        assert len({p.owner for p in photos if p.product_id == product}) == 1


def test_backgrounds_and_covers_come_from_other_owners(folders: Path) -> None:
    photos = read_sources(folders, SOURCES)
    owner = {p.path: p.owner for p in photos}
    for task in _tasks(photos, 3, 0, Path("out")):
        assert task.neighbours
        assert task.photo.owner not in {owner[path] for path in task.neighbours}


def test_a_set_has_its_gallery_its_queries_and_what_is_known_of_them(folders: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    counts = build_street_set(
        folders, tmp_path, sources=SOURCES, split="test", per_item=4, workers=1, progress=lambda *at: steps.append(at)
    )
    gallery, queries = read_labelled(tmp_path / "gallery.csv"), read_labelled(tmp_path / "queries.csv")
    assert len(gallery) == counts["gallery"]
    assert len(queries) == counts["queries"] > 0
    assert counts["failed"] == 0
    assert steps[-1] == (len(queries), len(queries))
    known = {item.product_id: item for item in gallery}
    for query, row in zip(queries, rows(tmp_path / "queries.csv"), strict=True):
        assert known[query.product_id].path.is_file(), "the gallery keeps the original photo"
        assert query.box is not None
        with Image.open(query.path) as picture:
            query.box.clipped(*picture.size)
        if row["source_view"] == "back":
            assert row["setup"] == "hard_view"
        if row["setup"] == "hard_cropping":
            assert float(row["cropped"]) > HARD_FRACTION
        if row["setup"] == "hard_occlusion":
            assert float(row["occluded"]) > HARD_FRACTION
    assert {query.setup for query in queries} == {str(setup) for setup in Setup}
    assert read_manifest(tmp_path / "manifest.csv", Selection(Split.TEST)) == (gallery, queries)
    assert {row["source_view"] for row in rows(tmp_path / "queries.csv")} == {"only", "main", "back"}


def test_the_same_seed_makes_the_same_set_whatever_the_workers(folders: Path, tmp_path: Path) -> None:
    for name, workers, seed in (("a", 1, 3), ("b", 2, 3), ("c", 2, 4)):
        build_street_set(
            folders, tmp_path / name, sources=SOURCES, split="val", per_item=1, seed=seed, limit=6, workers=workers
        )
    a, b, c = (sorted((tmp_path / name / "queries").iterdir()) for name in "abc")
    assert [p.name for p in a] == [p.name for p in b]
    assert [p.read_bytes() for p in a] == [p.read_bytes() for p in b]
    assert [p.read_bytes() for p in a] != [p.read_bytes() for p in c]
    assert rows(tmp_path / "a" / "queries.csv") == rows(tmp_path / "b" / "queries.csv")


def test_a_photo_that_cannot_be_read_costs_its_own_queries_only(tmp_path: Path) -> None:
    root = photo_folders(tmp_path / "photos", photographers=3, skus=1)
    (root / "clothing" / "images" / "c0-0.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (root / "clothing" / "images" / "c0-1.jpg").unlink()
    counts = build_street_set(root, tmp_path / "out", sources=["clothing"], split="train", per_item=2, workers=1)
    assert counts == {"gallery": 2, "queries": 0, "failed": 4}


def test_a_missing_folder_or_column_is_named(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        build_street_set(folders, tmp_path, sources=["nowhere"])
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "items.csv").write_text("image,photographer\nx.jpg,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column"):
        build_street_set(tmp_path, tmp_path, sources=["odd"])


def test_a_folder_of_garments_is_told_from_others(folders: Path, tmp_path: Path) -> None:
    assert all(holds_garments(folders / name) for name in SOURCES)
    for name, table in (("street", "image,mask,id,split\n"), ("empty", ""), ("binary", "\0\xff")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "items.csv").write_text(table, "latin-1")
        assert not holds_garments(tmp_path / name)
    assert not holds_garments(tmp_path / "missing")


def test_the_command_makes_a_set_and_counts_it(folders: Path, tmp_path: Path) -> None:
    arguments = ["data", "streetify", str(folders), "--out", str(tmp_path / "set"), "--sources", ",".join(SOURCES)]
    done = CliRunner().invoke(app, [*arguments, "--split", "test", "--limit", "3", "--per-item", "1", "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "made" in done.output
    failed = CliRunner().invoke(app, ["data", "streetify", str(tmp_path), "--out", str(tmp_path / "x")])
    assert failed.exit_code == 1
    assert "items.csv" in failed.output


def test_real_photos_make_a_set(shared_data: Path, tmp_path: Path) -> None:
    counts = build_street_set(shared_data, tmp_path, split="test", per_item=1, limit=12, workers=2)
    assert counts["gallery"] == 12
    assert counts["queries"] >= 10
