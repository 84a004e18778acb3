"""A full disk: a real one where a small disk may be mounted, the kernel's own error elsewhere."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.made_up import build, unit
from tests.support.shop import Shop
from tests.support.side_files import side_files, take_away
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.write_errors import disk_errors
from threadmatch.indexer.upkeep import compact, rollback, verify

SMALL_DISK_MIB = 4


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A folder as a disk of its own, of a few KiB or MiB."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(shop: Shop) -> Iterator[Path]:
    """The gallery's folder as a disk of its own, of a few MiB."""
    shop.gallery.mkdir(parents=True)
    with mounted(shop.gallery, f"{SMALL_DISK_MIB}m"):
        yield shop.gallery


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    path = folder / "fill"
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 1):
            with suppress(OSError):
                while True:
                    file.write(b"0" * size)
    assert shutil.disk_usage(folder).free == 0
    return path


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


def test_side_files_that_find_no_room_leave_answers_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    build(folder, {f"item-{n}": vector for n, vector in enumerate(unit(600))})
    take_away(folder)
    before = Gallery.open(folder).shortlist(unit(1, seed=1)[0], 50)
    parts, kept = folder / "generations", tmp_path / "kept"
    shutil.copytree(parts, kept)
    with mounted(parts, "112k"):
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
