"""Folders of a service that was killed are swept by the next one; those of a living one stay."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.checkout import IMPORT_PATH
from threadmatch.service.owned_folders import UNLOCKED_S, owned_folder, sweep

HOLD = """
import sys
from threadmatch.service.owned_folders import owned_folder
with owned_folder("swept-") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_stays_while_its_owner_lives_and_goes_after_it_was_killed(place: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
    )  # fmt: skip
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    (folder / "counter.db").write_bytes(b"1")
    assert sweep("swept-") == []
    assert folder.is_dir()
    owner.kill()
    owner.communicate()
    with owned_folder("swept-") as mine:
        assert not folder.exists()
        assert mine.is_dir()
    assert list(place.iterdir()) == []


def test_a_folder_without_an_owner_s_lock_goes_when_it_is_old(place: Path) -> None:
    for name, age_s in (("swept-new", 0.0), ("swept-old", 2 * UNLOCKED_S)):
        (place / name).mkdir()
        at = (place / name).stat().st_mtime - age_s
        os.utime(place / name, (at, at))
    assert [folder.name for folder in sweep("swept-")] == ["swept-old"]
