"""Long work says how far it is: a line now and then where no terminal is, a bar where there is one."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.model.striped import draw_set
from tests.model.train.recipes import write_recipe
from tests.support.threads import one_thread
from threadmatch.service.cli import app
from threadmatch.service.cli.progress import LINE_EVERY_S, FieldFormatter, Shown


class _Clock:
    """Goes on when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def _lines(heard: list[tuple[float, str, int, int, str]]) -> list[str]:
    """What is printed where no terminal is, of calls that each come so many seconds after the one before."""
    out, clock = io.StringIO(), _Clock()
    with Shown(Console(file=out), clock=clock) as show:
        for seconds, stage, done, total, note in heard:
            clock.now += seconds
            show(stage, done, total, note)
    return out.getvalue().splitlines()


def test_a_stage_says_a_line_at_its_start_and_one_now_and_then() -> None:
    steps = [(1.0, "training", n, 100, "") for n in range(1, 21)]
    lines = _lines(steps)
    assert lines[0] == "training: 1 of 100"
    assert lines[1] == "training: 6 of 100, 1.0/s, about 94 s left"
    assert len(lines) == 1 + 19 // LINE_EVERY_S


def test_the_rate_is_that_of_what_was_done_since_the_stage_began() -> None:
    """A run that goes on from step 900 has not done 900 steps in a second."""
    assert _lines([(0.0, "training", 900, 1000, ""), (10.0, "training", 920, 1000, "")])[1] == (
        "training: 920 of 1000, 2.0/s, about 40 s left"
    )


def test_a_new_stage_is_said_at_once_unless_it_follows_on_the_heels_of_a_line() -> None:
    lines = _lines([
        (0.0, "encoding", 1, 9, ""), (0.5, "ranking", 1, 9, ""), (0.4, "encoding", 1, 9, ""), (2.0, "saving", 0, 0, ""),
    ])  # fmt: skip
    assert lines == ["encoding: 1 of 9", "saving"]


def test_what_is_worth_saying_stands_beside_it_and_brackets_are_no_markup() -> None:
    assert _lines([(0.0, "rows", 7, 0, "2 rejected"), (9.0, "rows [a]", 7, 0, "")]) == [
        "rows: 7, 2 rejected",
        "rows [a]: 7",
    ]


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    with Shown(Console(file=out, force_terminal=True, width=120)) as show:
        show("training", 3, 9, "mrr 0.5")
        show("ranking", 1, 4)
    shown = out.getvalue()
    assert "ranking" in shown
    assert "1/4" in shown


def test_a_terminal_that_cannot_draw_over_a_line_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    with Shown(Console(file=out, force_terminal=True, width=120)) as show:
        show("training", 3, 9, "mrr 0.5")
        show("training", 4, 9)
    assert out.getvalue().splitlines() == ["training: 3 of 9, mrr 0.5"]


def test_log_lines_say_their_fields() -> None:
    record = logging.makeLogRecord({"msg": "evaluated", "step": 250, "grnet_mrr": 0.87123})
    assert FieldFormatter().format(record) == "evaluated: step 250, grnet_mrr 0.8712"
    assert FieldFormatter().format(logging.makeLogRecord({"msg": "no threshold"})) == "no threshold"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe and two small sets."""
    root = tmp_path_factory.mktemp("progress")
    draw_set(root / "train", range(16))
    draw_set(root / "val", range(50, 62))
    write_recipe(root)
    return root


def test_train_and_evaluate_say_how_far_they_are_without_a_terminal(sets: Path, tmp_path: Path) -> None:
    trained = CliRunner().invoke(
        app, ["train", str(sets / "recipe-val.toml"), "--run", str(tmp_path / "run"), "--json"]
    )
    assert trained.exit_code == 0, trained.output
    assert "encoding photos: 16 of 16" in trained.stderr
    tables = [f"--{kind}={sets / 'val' / table}" for kind, table in (
        ("gallery-csv", "gallery.csv"), ("query-csv", "queries.csv"),
    )]  # fmt: skip
    model = str(tmp_path / "run" / "checkpoint")
    measured = CliRunner().invoke(
        app, ["evaluate", *tables, "--model", model, "--candidates", "8", "--out", str(tmp_path / "out.json"), "--json"]
    )
    assert measured.exit_code == 0, measured.output
    assert "encoding photos: 12 of 12" in measured.stderr
    assert measured.stdout.startswith("{"), "stdout is for the result alone"
