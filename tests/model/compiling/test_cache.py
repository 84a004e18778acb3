"""Converted networks on disk: whole or not there, believed only as written, and no disk no failure."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from threadmatch.model.compiling import cache
from threadmatch.model.compiling.cache import default_folder, keep_entry, read_entry


def write(folder: Path) -> None:
    (folder / "network.bin").write_bytes(b"weights")
    (folder / "network.xml").write_bytes(b"<net/>")


def kept(folder: Path) -> Path:
    keep_entry(folder, "key", write)
    entry = read_entry(folder, "key")
    assert entry is not None
    return entry


def test_what_is_kept_is_read_as_written(tmp_path: Path) -> None:
    entry = kept(tmp_path / "cache")
    assert (entry / "network.bin").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key"]
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["changed", "shorter", "file missing", "no receipt", "receipt of something else"])
def test_a_damaged_entry_is_removed_and_can_be_kept_again(tmp_path: Path, damage: str) -> None:
    entry = kept(tmp_path)
    if damage == "changed":
        (entry / "network.bin").write_bytes(b"Weights")
    elif damage == "shorter":
        os.truncate(entry / "network.bin", 3)
    elif damage == "file missing":
        (entry / "network.xml").unlink()
    elif damage == "no receipt":
        (entry / "receipt.json").unlink()
    else:
        (entry / "receipt.json").write_text('{"../key/network.xml": "0"}')
    assert read_entry(tmp_path, "key") is None
    assert not entry.exists()
    kept(tmp_path)


def test_a_writer_that_dies_leaves_no_entry(tmp_path: Path) -> None:
    def dies(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_entry(tmp_path, "key", dies)
    assert list(tmp_path.iterdir()) == []


def test_of_two_who_keep_the_same_one_wins_and_nobody_complains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meet = threading.Barrier(2)

    def at_once(folder: Path) -> None:
        write(folder)
        meet.wait(PATIENCE_S)

    threads = [threading.Thread(target=keep_entry, args=(tmp_path, "key", at_once)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_entry(tmp_path, "key") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert not caplog.records


def test_a_folder_that_cannot_be_made_costs_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    keep_entry(tmp_path / "file" / "cache", "key", write)
    assert [record.message for record in caplog.records] == [
        "converted network is not kept, so each start converts it anew"
    ]
    assert read_entry(tmp_path / "file" / "cache", "key") is None


def test_those_used_longest_ago_are_dropped(tmp_path: Path) -> None:
    for number in range(cache.ENTRIES_MAX + 2):
        keep_entry(tmp_path, f"{number}", write)
        if number < 3:
            os.utime(tmp_path / f"{number}" / "receipt.json", (number, number))
        if number == 2:
            assert read_entry(tmp_path, "0") is not None  # used again
    assert {path.name for path in tmp_path.iterdir()} == {
        str(number) for number in range(cache.ENTRIES_MAX + 2) if number not in (1, 2)
    }


def test_the_users_cache_folder_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "threadmatch"
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for ignored in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert default_folder() == tmp_path / "me" / ".cache" / "threadmatch"
