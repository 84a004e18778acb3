"""A full disk: a real one where a small disk may be mounted, the kernel's own error elsewhere."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.disks import fill, mounted, remount
from tests.support.made_up import build, unit
from tests.support.shop import EMBEDDING_SIZE, Shop
from tests.support.side_files import side_files, take_away
from threadmatch.indexer.edits.live_writes import Delete, Edited, Editor
from threadmatch.indexer.errors import GalleryError, GalleryFullError, ReadOnlyError
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.database import DATABASE
from threadmatch.indexer.store.write_errors import disk_errors
from threadmatch.indexer.upkeep import compact, rollback, verify


@pytest.fixture
def small_disk(shop: Shop) -> Iterator[Path]:
    """The gallery's folder as a disk of its own, of a few MiB."""
    with mounted(shop.gallery) as folder:
        yield folder


def test_a_full_disk_leaves_the_gallery_as_it_was_and_says_so(shop: Shop, small_disk: Path) -> None:
    shop.ingest(shop.rows(2))
    shop.ingest(shop.rows(4))
    ballast = fill(small_disk)

    for act in (lambda: shop.ingest(shop.rows(6)), lambda: rollback(small_disk), lambda: compact(small_disk, keep=1)):
        with pytest.raises(GalleryError, match="its disk is full") as told:
            act()
        assert "Errno" not in str(told.value)
    ballast.unlink()
    assert shop.open().item_count == 4
    assert shop.ingest(shop.rows(6)).items == 6


@pytest.mark.parametrize("killed", [False, True])
def test_writes_come_back_and_are_seen_once_a_read_only_disk_is_writable_again(
    shop: Shop, small_disk: Path, killed: bool
) -> None:
    shop.ingest(shop.rows(3))
    database = small_disk / DATABASE
    if killed:  # its writer left the files beside the database, which SQLite then maps for reading alone
        with contextlib.closing(sqlite3.connect(database)) as writer:
            writer.execute("INSERT INTO meta VALUES ('told', 'once')")
            writer.commit()
            left = {f"{database}{end}": Path(f"{database}{end}").read_bytes() for end in ("-wal", "-shm")}
        for path, data in left.items():
            Path(path).write_bytes(data)
    remount(small_disk, "ro")
    gallery = shop.open()
    writer_ = Editor(small_disk, features_fingerprint=gallery.manifest.model.features_fingerprint)
    assert found(gallery) == {"item-0", "item-1", "item-2"}
    assert isinstance(writer_.apply([Delete("item-1")])[0], ReadOnlyError)

    with gallery.current.readers.connection():  # a search under way keeps its connection to its end
        remount(small_disk, "rw")
        assert found(gallery) == {"item-0", "item-1", "item-2"}
    gallery.refresh()  # as a service does every second
    assert writer_.apply([Delete("item-1")]) == [Edited(existed=True, changed=True)]
    assert found(gallery) == {"item-0", "item-2"}
    writer_.close()
    gallery.close()


def test_a_gallery_on_a_full_disk_is_opened_and_searched_and_sees_writes_once_there_is_room(
    shop: Shop, small_disk: Path
) -> None:
    shop.ingest(shop.rows(3))
    ballast = fill(small_disk)
    gallery = shop.open()
    writer = Editor(small_disk, features_fingerprint=gallery.manifest.model.features_fingerprint)
    assert found(gallery) == {"item-0", "item-1", "item-2"}
    assert isinstance(writer.apply([Delete("item-1")])[0], GalleryFullError)
    ballast.unlink()
    assert writer.apply([Delete("item-1")]) == [Edited(existed=True, changed=True)]
    assert found(gallery) == {"item-0", "item-2"}
    writer.close()
    gallery.close()


def found(gallery: Gallery) -> set[str]:
    any_vector = np.eye(1, EMBEDDING_SIZE, dtype=np.float32)[0]
    return {candidate.id for candidate in gallery.shortlist(any_vector, 10)}


def test_side_files_that_find_no_room_leave_answers_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    build(folder, {f"item-{n}": vector for n, vector in enumerate(unit(600))})
    take_away(folder)
    before = Gallery.open(folder).shortlist(unit(1, seed=1)[0], 50)
    parts, kept = folder / "generations", tmp_path / "kept"
    shutil.copytree(parts, kept)
    with mounted(parts, size_kib=112):
        shutil.copytree(kept, parts, dirs_exist_ok=True)
        with pytest.raises(GalleryError, match="its disk is full"):
            compact(folder)
        assert Gallery.open(folder).shortlist(unit(1, seed=1)[0], 50) == before
    compact(folder)
    assert len(side_files(folder)) == 4
    assert Gallery.open(folder).shortlist(unit(1, seed=1)[0], 50) == before
    assert verify(folder).problems == []


def test_a_lock_needs_no_room_for_its_holders_name(tmp_path: Path) -> None:
    (tmp_path / generations.LOCK_FILE).symlink_to("/dev/full")
    with generations.lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "its disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "its owner's share of the disk is used up"),
        (OSError(errno.EROFS, "Read-only file system"), "its disk is read-only"),
        (sqlite3.OperationalError("disk I/O error"), "disk I/O error"),
    ],
)
def test_errors_of_a_disk_name_the_gallery(failure: Exception, reason: str) -> None:
    with pytest.raises(GalleryError) as told, disk_errors(Path("shop/gallery"), kept="what was encoded is kept"):
        raise failure
    assert str(told.value) == (
        f"writing to shop/gallery failed: {reason}; the gallery in service is as it was and what was encoded is kept: "
        "mend that and run the same command again"
    )
    assert told.value.__cause__ is failure


def test_a_databases_own_code_for_a_full_disk_is_known() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(GalleryError, match="its disk is full"), disk_errors(Path("gallery")):
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()


def test_what_may_be_about_a_catalogue_passes() -> None:
    with pytest.raises(FileNotFoundError), disk_errors(Path("gallery")):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "catalogue.csv")
