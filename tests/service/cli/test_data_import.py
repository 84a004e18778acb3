"""`threadmatch data import-...`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support import layouts
from threadmatch.service.cli import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


@pytest.mark.parametrize(
    ("command", "build"),
    [
        ("import-deepfashion", layouts.consumer_to_shop),
        ("import-deepfashion", layouts.in_shop),
        ("import-deepfashion-c2s", layouts.consumer_to_shop),
        ("import-deepfashion-inshop", layouts.segmented_in_shop),
        ("import-street2shop", layouts.street2shop),
        ("import-findfashion", layouts.findfashion),
    ],
)
def test_one_command_makes_a_manifest_that_can_be_checked(
    tmp_path: Path, command: str, build: Callable[[Path], Path]
) -> None:
    result = run(command, str(build(tmp_path / "tree")), "--out", str(tmp_path / "m.csv"), "--json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["rows"] > 10) == (0, True)
    assert sum(count for split in answer["counts"].values() for count in split.values()) == answer["rows"]
    checked = json.loads(run("check", str(tmp_path / "m.csv"), "--quick", "--json").stdout)
    assert "missing_image" not in checked["problems"]
    assert checked["usable_rows"] == answer["rows"]


def test_what_is_odd_is_told_on_stderr_and_the_next_command_on_stdout(tmp_path: Path) -> None:
    result = run("import-street2shop", str(layouts.street2shop(tmp_path)), "--out", str(tmp_path / "m.csv"))
    assert result.exit_code == 0
    assert "street photo not fetched, 1 times" in result.stderr
    assert "test: 2 customer" in result.stdout
    assert f"threadmatch data check {tmp_path / 'm.csv'}" in result.stdout


def test_a_folder_in_another_form_exits_1_and_wrong_use_2(tmp_path: Path) -> None:
    result = run("import-deepfashion-c2s", str(tmp_path), "--out", str(tmp_path / "m.csv"))
    assert (result.exit_code, "list_eval_partition.txt is missing" in result.stderr) == (1, True)
    layouts.consumer_to_shop(tmp_path)
    result = run("import-deepfashion-c2s", str(tmp_path), "--out", str(tmp_path / "m.xlsx"))
    assert (result.exit_code, "expected one of .csv" in result.stderr) == (1, True)
    assert run("import-deepfashion-c2s", str(tmp_path)).exit_code == 2
    wrong = ["import-findfashion", str(tmp_path), "--out", str(tmp_path / "m.csv"), "--views", "0=frnt"]
    assert run(*wrong).exit_code == 2
