"""The last line of a test run, and that a real run ends with it; and which files begin it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import LONG
from tests.support.checkout import ROOT
from tests.support.patience import PATIENCE_S
from tests.support.skips import skipped_line


def test_the_line_counts_by_file_and_reason() -> None:
    skips = [("b.py", "no GPU here"), ("a.py", "no browser"), ("a.py", "no browser")]
    assert skipped_line(skips) == "skipped 3: 2 in a.py (no browser); 1 in b.py (no GPU here)"
    assert skipped_line([]) == "skipped nothing"


def test_the_files_that_begin_are_there() -> None:
    assert [name for name in LONG if not (ROOT / name).is_file()] == []


def test_a_run_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_unconfigure as pytest_unconfigure\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_runs(): pass\n@pytest.mark.skip(reason='no moon tonight')\ndef test_waits(): pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("skipped 1: 1 in ")
    assert done.stdout.splitlines()[-1].endswith("test_it.py (no moon tonight)")
