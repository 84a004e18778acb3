"""What a gallery costs at several sizes: a small one, measured whole, and nothing of it left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadmatch.service.bench.scale import ROWS, main


def test_a_small_gallery_is_measured_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--items", "120", "--no-pictures", "--markdown", "--folder", str(tmp_path / "new" / "place")])
    shown = capsys.readouterr().out
    assert "120" in shown.splitlines()[0]
    assert shown.count("\n|") >= len(ROWS)
    assert list((tmp_path / "new" / "place").iterdir()) == []
