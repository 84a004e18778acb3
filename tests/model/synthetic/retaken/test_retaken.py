"""Photos taken again: what stays, what changes, and the set that they make."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.sets import read_sets
from threadmatch.model.images import Box
from threadmatch.model.synthetic.retaken.retaking import ITEM, LONG_SIDE_PX, QUERY, Strength, retake
from threadmatch.model.synthetic.street.cutout import Pixels
from threadmatch.service.cli import app

BOX = Box(60, 40, 140, 160)


def _photo(seed: int = 0) -> Pixels:
    """A striped garment on grey."""
    photo = np.full((200, 200, 3), 128, np.uint8)
    photo[40:160, 60:140] = np.random.default_rng(seed).integers(0, 256, 3)
    photo[40:160:8, 60:140] = 255
    return photo


@pytest.mark.parametrize("strength", [QUERY, ITEM])
def test_the_same_choices_take_the_same_photo_and_others_another(strength: Strength) -> None:
    def taken(seed: int) -> Pixels:
        return retake(_photo(), BOX, strength=strength, rng=np.random.default_rng(seed))[0]

    assert np.array_equal(taken(1), taken(1))
    assert not np.array_equal(taken(1), taken(2))


def test_the_box_goes_where_the_garment_goes() -> None:
    """Moved alone, without light or camera: the box still ends where the bright garment does."""
    plain = replace(QUERY, covered=0.0, cast=0.0, gamma=0.0, screen=0.0, blur_px=0.0, quality=(99, 100))
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[40:160, 60:140] = 200
    for seed in range(12):
        taken, box = retake(photo, BOX, strength=plain, rng=np.random.default_rng(seed))
        assert box is not None
        rows, columns = np.nonzero(taken[..., 1] > 60)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(found - (box.x0, box.y0, box.x1, box.y1)).max() <= 4


def test_a_cover_hides_a_part_of_the_garment_and_an_item_is_never_covered() -> None:
    still = {"bend": 0.0, "tilt": 0.0, "cast": 0.0, "gamma": 0.0, "screen": 0.0, "blur_px": 0.0, "quality": (99, 100)}
    front = np.full((50, 50, 3), 255, np.uint8)
    photo = np.zeros((200, 200, 3), np.uint8)

    def hidden(covered: float) -> list[float]:
        strength = replace(QUERY, covered=covered, **still)
        taken = (retake(photo, BOX, strength=strength, rng=np.random.default_rng(n), others=[front]) for n in range(20))
        return [float((one[0].max(axis=2) > 20).mean()) for one in taken]

    assert max(hidden(0.0)) == 0
    shares = hidden(1.0)
    assert min(shares) > 0.001
    assert max(shares) < 0.6
    assert ITEM.covered == 0


def test_a_large_photo_becomes_small_and_one_without_a_box_stays_without() -> None:
    taken, box = retake(np.zeros((900, 1200, 3), np.uint8), None, strength=QUERY, rng=np.random.default_rng(0))
    assert max(taken.shape[:2]) == LONG_SIDE_PX
    assert box is None


def _set(folder: Path) -> Path:
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(_photo(ord(name))).save(folder / f"{name}.jpg")
    rows = {
        "gallery.csv": "image,id,product_id\na.jpg,1,A\nb.jpg,2,B\n",
        "queries.csv": 'image,product_id,box,setup\nc.jpg,A,"60,40,140,160",easy\n',
    }
    for name, text in rows.items():
        (folder / name).write_text(text)
    return folder


def test_the_command_makes_a_set_that_training_joins_with_the_first(tmp_path: Path) -> None:
    given, made = _set(tmp_path / "given"), tmp_path / "made"
    ran = CliRunner().invoke(app, ["data", "retake", str(given), "--out", str(made), "--copies", "3", "--workers", "1"])
    assert ran.exit_code == 0, ran.output
    both = read_sets([given, made], Split.TRAIN)
    assert [image.product_id for image in both.gallery] == ["A", "B", "A", "B"]
    assert len({image.id for image in both.gallery}) == 4
    assert [image.product_id for image in both.queries] == ["A"] * 4
    assert [image.setup for image in both.queries] == ["easy"] * 4
    assert all(image.box is not None for image in both.queries)
    assert len({image.path.read_bytes() for image in both.queries}) == 4


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    given = _set(tmp_path / "given")
    (given / "b.jpg").write_bytes(b"no photo")
    with (given / "queries.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
    ran = CliRunner().invoke(app, ["data", "retake", str(given), "--out", str(tmp_path / "made"), "--workers", "1"])
    assert ran.exit_code == 1
    assert "b.jpg" in ran.output


def test_a_set_is_never_written_over_by_its_own_copies(tmp_path: Path) -> None:
    given = _set(tmp_path / "given")
    before = {path.name: path.read_bytes() for path in given.iterdir()}
    ran = CliRunner().invoke(
        app, ["data", "retake", str(given), "--out", str(given / ".." / "given"), "--workers", "1"]
    )
    assert ran.exit_code == 1
    assert "another folder" in ran.output
    assert {path.name: path.read_bytes() for path in given.iterdir()} == before
