"""A run's curves become a picture and events that hold exactly what curves.jsonl says."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from threadmatch.model.errors import DataError
from threadmatch.model.train.loop.curves import read_curves, write_curves
from threadmatch.service.cli import app

ROWS = [
    {"step": 0, "global_top1": 0.5, "grnet_mrr": 0.6, "recall": 0.9},
    {"step": 4, "loss_total": 2.5, "global_top1": 0.55, "grnet_mrr": 0.65, "recall": 0.91, "seconds": 3.0},
]


def _run(folder: Path) -> Path:
    (folder / "curves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def _events(folder: Path) -> dict[tuple[str, int], float]:
    """What the event files say: length, its checksum, a protocol buffer, its checksum, again and again."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            data = data[16 + length :]
    return found


def test_curves_are_drawn_and_written_as_events_and_a_second_time_replaces_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    _run(tmp_path)
    for _ in range(2):
        (files,) = write_curves(tmp_path)
    assert files.events is not None
    with Image.open(files.picture) as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(10**6) or []) > 50, "more than an empty frame"
    expected = {
        (name.replace("_", "/", 1), row["step"]): value for row in ROWS for name, value in row.items() if name != "step"
    }
    assert _events(files.events) == pytest.approx(expected)
    assert len(list(files.events.iterdir())) == 1


def test_fine_tuning_has_a_picture_and_events_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    _run(tmp_path)
    (tmp_path / "finetune.jsonl").write_text('{"step": 0, "greedy_top1": 0.25}\n')
    finetune, head = write_curves(tmp_path)
    assert (finetune.picture.name, head.picture.name) == ("finetune.png", "curves.png")
    assert finetune.events is not None
    assert head.events is not None
    assert _events(finetune.events) == {("greedy/top1", 0): 0.25}
    assert ("greedy/top1", 0) not in _events(head.events)


def test_a_torn_line_is_passed_over_and_a_repeated_step_counts_once(tmp_path: Path) -> None:
    with (_run(tmp_path) / "curves.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "global_top1": 0.7}) + '\n{"step": 8, "global_to')
    assert read_curves(tmp_path / "curves.jsonl")["global_top1"] == [(0, 0.5), (4, 0.7)]


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has none of finetune\.jsonl"):
        write_curves(tmp_path)
    (tmp_path / "curves.jsonl").write_text("nonsense\n")
    outcome = CliRunner().invoke(app, ["curves", str(tmp_path)])
    assert outcome.exit_code == 1
    assert "no line with a step" in outcome.output


def test_the_command_names_the_picture(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["curves", str(_run(tmp_path))])
    assert outcome.exit_code == 0, outcome.output
    assert str(tmp_path / "curves.png") in outcome.output
