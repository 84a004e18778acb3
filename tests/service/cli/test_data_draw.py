"""`threadmatch data draw`."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from threadmatch.service.cli import app


def test_draw_prints_counts_as_json_on_stdout_and_nothing_else(tmp_path: Path) -> None:
    arguments = ["data", "draw", "--items", "3", "--queries", "1", "--seed", "2", "--workers", "1", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["items"], answer["queries"], answer["drawn"], answer["kept"]) == (3, 1, 4, 0)
    assert len(Path(answer["catalogue"]).read_text().splitlines()) == 4


def test_a_folder_of_another_seed_exits_1_and_says_so(tmp_path: Path) -> None:
    for seed, code in (("2", 0), ("3", 1)):
        arguments = ["data", "draw", "--items", "1", "--queries", "0", "--seed", seed, "--workers", "1"]
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
        assert result.exit_code == code
    assert "empty folder" in result.stderr


def test_wrong_use_exits_2(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["data", "draw", "--out", str(tmp_path), "--items", "0"]).exit_code == 2
