"""Near-duplicates are found when a generation is published or an item is put; a search answers the same without."""

from __future__ import annotations

import io
import itertools
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.made_up import MODEL, SIZE, build, content, version
from tests.support.snapshots import shirt_photo
from threadmatch.indexer.edits.live_writes import Editor, Put
from threadmatch.indexer.edits.looking_at import with_look
from threadmatch.indexer.reading.duplicates import Duplicates, Verdicts
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.snapshot import Snapshot
from threadmatch.indexer.store import looking
from threadmatch.indexer.store.database import DATABASE
from threadmatch.indexer.store.looking import ROUGH_BOUND
from threadmatch.indexer.store.looks import look_of
from threadmatch.indexer.upkeep import compact, verify
from threadmatch.model.same_photo import MAX_ROUGH, cells_of, roughness

Vectors = NDArray[np.float32]
KINDS = 6


def jpeg(seed: int, quality: int = 90) -> bytes:
    """A shirt; photos of one seed are one photo."""
    pixels = shirt_photo(seed, size=(80, 60)).astype(np.float32)
    pixels += np.random.default_rng([seed, 1]).normal(0, 4, pixels.shape)
    with io.BytesIO() as file:
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
        return file.getvalue()


def made(folder: Path, numbers: range) -> None:
    """Items n, whose photo is that of n % KINDS saved at another quality; all embeddings are alike."""
    for number in numbers:
        build(folder, {f"item-{number}": vector(number)}, photo=jpeg(number % KINDS, 90 - 5 * (number // KINDS)))


def vector(number: int) -> Vectors:
    value = np.ones(SIZE, np.float32)
    value += 0.1 * np.random.default_rng(number).standard_normal(SIZE, np.float32)
    return np.asarray(value / np.linalg.norm(value), np.float32)


def forget(folder: Path) -> None:
    """As a former version left it: without looks."""
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("DROP TABLE looks")


def twins(snapshot: Snapshot) -> list[tuple[str, str | None]]:
    """Of each item, which of those before it shows its photo."""
    candidates = snapshot.shortlist(vector(0), 100)
    items = snapshot.items(candidates)
    found = Duplicates(snapshot, candidates, items, Verdicts())
    order = sorted(range(len(items)), key=lambda place: items[place].id)
    same = [found.twin(place, order[:before]) for before, place in enumerate(order)]
    return [
        (items[place].id, None if twin is None else items[twin].id) for place, twin in zip(order, same, strict=True)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "gallery"
    made(folder, range(2 * KINDS))
    return folder


@pytest.fixture
def photos_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Items whose display photos a snapshot gave."""
    read: list[str] = []
    photo = Snapshot.photo

    def counted(self: Snapshot, item_id: str) -> bytes:
        read.append(item_id)
        return photo(self, item_id)

    monkeypatch.setattr(Snapshot, "photo", counted)
    return read


def test_what_was_published_is_answered_without_photos_and_as_by_comparing(
    folder: Path, tmp_path: Path, photos_read: list[str]
) -> None:
    found = twins(Gallery.open(folder).current)
    assert photos_read == []
    assert sum(same is not None for _, same in found) == KINDS, "each photo is there twice"
    former = Path(shutil.copytree(folder, tmp_path / "former"))
    forget(former)
    assert twins(Gallery.open(former).current) == found
    assert photos_read, "a gallery of a former version compares while one waits"
    made(former, range(2 * KINDS, 2 * KINDS + 1))
    photos_read.clear()
    assert len(twins(Gallery.open(former).current)) == 2 * KINDS + 1
    assert photos_read == [], "the next generation knows of all items"


def test_an_item_that_is_put_is_compared_before(tmp_path: Path, photos_read: list[str]) -> None:
    folder = tmp_path / "gallery"
    made(folder, range(KINDS))
    gallery = Gallery.open(folder)
    editor = Editor(folder, features_fingerprint=MODEL.features_fingerprint)
    for number in (KINDS, 2 * KINDS, 100):
        photo = jpeg(number % KINDS if number < 100 else number, 70 + number // KINDS)
        put = with_look(gallery.current, content(f"put-{number}", vector(number), photo=photo))
        assert not isinstance(editor.apply([Put(version(f"put-{number}"), put)])[0], Exception)
    editor.close()
    photos_read.clear()
    found = dict(twins(gallery.current))
    assert (found[f"put-{KINDS}"], found["put-100"]) == ("item-0", None)
    assert found[f"put-{2 * KINDS}"] in ("item-0", f"put-{KINDS}")
    assert photos_read == []


def test_a_photo_that_is_none_is_like_no_other_and_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    build(folder, {"torn": vector(1)}, photo=b"torn")
    build(folder, {"torn-again": vector(2)}, photo=b"torn ")
    build(folder, {"whole": vector(3)}, photo=jpeg(1))
    assert [same for _, same in twins(Gallery.open(folder).current)] == [None, None, None]


def test_a_damaged_look_is_compared_anew_named_and_made_again(
    tmp_path: Path, photos_read: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gallery"
    made(folder, range(KINDS + 1))
    expected = twins(Gallery.open(folder).current)
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("UPDATE looks SET data = zeroblob(length(data)) WHERE content IN (1, 7)")
    assert twins(Gallery.open(folder).current) == expected
    assert photos_read != []
    assert any("look" in problem for problem in verify(folder).problems)
    with caplog.at_level(logging.WARNING):
        compact(folder)
    photos_read.clear()
    assert twins(Gallery.open(folder).current) == expected
    assert photos_read == []
    assert verify(folder).problems == []


def test_pairs_that_no_neighbourhood_held_are_compared_by_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos_read: list[str]
) -> None:
    monkeypatch.setattr(looking, "PAIRS_A_PHOTO", 0.0)
    folder = tmp_path / "gallery"
    made(folder, range(2 * KINDS))
    found = twins(Gallery.open(folder).current)
    assert sum(same is not None for _, same in found) == KINDS
    assert len(photos_read) >= 2 * KINDS


def test_cells_never_part_what_the_photos_would_join() -> None:
    random = np.random.default_rng(0)
    squares = random.uniform(-100, 100, (4, 160, 160, 3)).astype(np.float32)
    for one, other in itertools.combinations(squares, 2):
        near = one + (other - one) * (MAX_ROUGH / roughness(cells_of(one), cells_of(other)[None])[0])
        exact = float(roughness(cells_of(one), cells_of(near)[None])[0])
        first, second = look_of(cells_of(one), {}).cells, look_of(cells_of(near), {}).cells
        assert first is not None
        assert second is not None
        assert exact == pytest.approx(MAX_ROUGH, abs=1e-3)
        assert roughness(first, second[None])[0] <= ROUGH_BOUND
