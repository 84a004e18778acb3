"""Help texts say what an option takes in words of people who do not write Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from threadmatch.service.cli import app
from threadmatch.service.cli.plain_help import speak_plainly
from threadmatch.service.config import Settings
from threadmatch.service.settings_table import settings_table

COMMAND: Any = typer.main.get_command(app)
speak_plainly(COMMAND)
PYTHON = re.compile(r"\b(?:str|int|float|bool|NoneType)\b|list\[|<class|Ellipsis|pathlib")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


@pytest.mark.parametrize("path", list(commands(COMMAND)), ids=" ".join)
def test_no_help_text_has_a_type_of_python(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    COMMAND.main([*path, "--help"], prog_name="threadmatch", standalone_mode=False)
    shown = capsys.readouterr().out
    assert "Usage: threadmatch" in shown
    assert PYTHON.search(shown) is None


def test_the_settings_have_no_type_of_python_either() -> None:
    assert not [row for row in settings_table() if PYTHON.search(row[1])]


def test_serve_names_where_it_listens_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # said once, however often it is asked
        COMMAND.main(["serve", "--help"], prog_name="threadmatch", standalone_mode=False)
        options = re.sub(r"[│\s]+", " ", capsys.readouterr().out.partition("Settings,")[0])
        for name in ("host", "port"):
            assert options.count(f"(default: {Settings.model_fields[name].default})") == 1


def test_the_release_is_named() -> None:
    outcome = CliRunner().invoke(app, ["--version"])
    assert (outcome.exit_code, outcome.stdout) == (0, f"threadmatch {version('threadmatch')}\n")
