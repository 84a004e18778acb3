"""A gallery of an older format brought up: killed at many moments, read and edited meanwhile, whole at any time."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.support.edits import put
from tests.support.forked import Forked
from tests.support.former import make_former
from tests.support.made_up import build, edit, regions, unit
from tests.support.patience import wait_until
from tests.support.shop import Shop, answers, contents
from tests.support.upgrading import main
from threadmatch.indexer.edits.folding import fold
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store.database import DATABASE, open_read_only
from threadmatch.indexer.store.records import FORMER_TABLES, has_table
from threadmatch.indexer.store.upgrades import BATCH_CONTENTS
from threadmatch.indexer.store.versions import Store
from threadmatch.indexer.upkeep import verify

COUNT = 12 * BATCH_CONTENTS + 7
VECTORS = unit(COUNT)


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of format 2 with enough items for a dozen batches."""
    folder = tmp_path_factory.mktemp("former") / "gallery"
    build(folder, {f"item-{n}": VECTORS[n] for n in range(COUNT)})
    make_former(folder, version=2)
    return folder


@pytest.fixture
def folder(former: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(former, tmp_path / "gallery"))


def upgrading(folder: Path, *, held_after: int | None = None) -> Forked:
    """Args: held_after: contents after which it stands still."""
    return Forked(main, str(folder), *([] if held_after is None else [str(held_after)]))


def moved(folder: Path) -> int:
    """Records in `features`; -1 where there is no such table yet."""
    connection = open_read_only(folder)
    try:
        if not has_table(connection, "features"):
            return -1
        return int(connection.execute("SELECT count(*) FROM features").fetchone()[0])
    finally:
        connection.close()


def left(folder: Path) -> list[str]:
    """Tables of the former format that are there still."""
    connection = open_read_only(folder)
    try:
        return [table for table in FORMER_TABLES.values() if has_table(connection, table)]
    finally:
        connection.close()


def assert_whole(gallery: Gallery) -> None:
    """Every 41st item is its own nearest neighbour, and its regions are what they were, to the last bit."""
    for number in range(0, COUNT, 41):
        found = gallery.shortlist(VECTORS[number], 3)
        assert found[0].id == f"item-{number}"
        expected = np.stack([regions(candidate.id) for candidate in found])
        np.testing.assert_array_equal(gallery.current.features("regions", found), expected)


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the tables are made": lambda folder: moved(folder) >= 0,
    "one batch has moved": lambda folder: moved(folder) >= 2 * BATCH_CONTENTS,
    "half has moved": lambda folder: moved(folder) >= COUNT - 1,
    "all has moved": lambda folder: moved(folder) >= 2 * COUNT,
}
HALF_WAY = {"one batch has moved": BATCH_CONTENTS, "half has moved": COUNT // 2}
"""Moments that would pass: the process stands still at them."""


def killed(former: Path, tmp_path: Path, moment: str) -> Path:
    """A copy whose upgrade was killed at a moment."""
    folder = Path(shutil.copytree(former, tmp_path / "gallery"))
    with upgrading(folder, held_after=HALF_WAY.get(moment)) as process:
        wait_until(partial(MOMENTS[moment], folder), moment, every_s=0.0005)
        process.send_signal(signal.SIGKILL)
    assert moment not in HALF_WAY or 0 < moved(folder) < 2 * COUNT
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_when(moment: str, former: Path, tmp_path: Path) -> None:
    folder = killed(former, tmp_path, moment)
    assert moment not in HALF_WAY or left(folder) == list(FORMER_TABLES.values())
    assert_whole(Gallery.open(folder))
    assert verify(folder).problems == []
    edit(folder, {"new": unit(1, seed=5)[0]}, gone=["item-1"])  # an edit does not wait for the rest
    with upgrading(folder) as process:
        assert process.wait() == 0
    assert left(folder) == []
    assert moved(folder) == 2 * (COUNT + 1)
    assert verify(folder).problems == []
    gallery = Gallery.open(folder)
    assert_whole(gallery)
    assert gallery.item_count == COUNT
    assert gallery.shortlist(unit(1, seed=5)[0], 1)[0].id == "new"


def test_a_gallery_that_is_open_answers_and_takes_edits_while_another_process_brings_it_up(folder: Path) -> None:
    gallery = Gallery.open(folder)
    assert_whole(gallery)
    stop = threading.Event()
    failures: list[BaseException] = []
    rounds = [0]

    def search() -> None:
        try:
            while not stop.is_set():
                assert_whole(gallery)
                rounds[0] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    process = upgrading(folder)
    made = 0
    while process.poll() is None:
        edit(folder, {f"new-{made}": unit(1, seed=100 + made)[0]})
        made += 1
        found = gallery.shortlist(unit(1, seed=99 + made)[0], 1)
        assert found[0].id == f"new-{made - 1}"
    before = rounds[0]
    wait_until(lambda: rounds[0] >= before + 2 or bool(failures), "a round of searches after it")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert process.wait() == 0
    assert left(folder) == []
    assert made > 0
    assert gallery.current.item_count == COUNT + made
    assert verify(folder).problems == []


@pytest.mark.parametrize("version", [1, 2])
def test_whoever_reads_writes_nothing_and_the_first_fold_moves_all(shop: Shop, version: int) -> None:
    shop.ingest(shop.rows(5))
    before = contents(shop.open()), answers(shop.open())
    make_former(shop.gallery, version=version)
    bytes_before = (shop.gallery / DATABASE).read_bytes()
    assert (contents(shop.open()), answers(shop.open())) == before
    assert verify(shop.gallery).problems == []
    assert (shop.gallery / DATABASE).read_bytes() == bytes_before
    put(shop.gallery, "a", 50)
    assert left(shop.gallery) == ["embeddings", "regions"], "an edit moves nothing"
    fold(shop.gallery)
    assert left(shop.gallery) == []
    assert set(contents(shop.open())) == {f"item-{n}" for n in range(5)} | {"a"}
    assert shop.open().manifest.format == 3
    assert verify(shop.gallery).problems == []


def test_the_file_of_a_gallery_brought_up_hardly_grows(folder: Path) -> None:
    before = (folder / DATABASE).stat().st_size
    Store(folder).close()
    connection = sqlite3.connect(folder / DATABASE)
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    connection.close()
    assert pages * size < 1.5 * before


def test_photos_encoded_before_are_not_encoded_again(shop: Shop) -> None:
    shop.ingest(shop.rows(4))
    make_former(shop.gallery, version=2)
    result = shop.ingest(shop.rows(6))
    assert (result.encoded, result.skipped, result.items) == (2, 4, 6)
