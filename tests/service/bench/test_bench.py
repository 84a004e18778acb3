"""`threadmatch bench`: the measurements are of what they say, and the whole runs on a small gallery."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.support.checkout import IMPORT_PATH
from threadmatch.model import racing, speed
from threadmatch.model.compiling.network import BFLOAT16_ENGINE, has_bfloat16
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.service.bench import run
from threadmatch.service.bench.ingestion import first_rows
from threadmatch.service.bench.latency import WAYS
from threadmatch.service.bench.report import show_bench
from threadmatch.service.cli import app


def test_everything_is_measured_and_can_be_read_again(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scale, name, value in ((speed, "PAIRS", 8), (speed, "SQUARE", 1024), (run, "WARM_S", 0.1)):
        monkeypatch.setattr(scale, name, value)  # how much is measured, not how
    monkeypatch.setenv("PYTHONPATH", IMPORT_PATH)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("THREADMATCH_KEYS", str(tmp_path / "keys.json"))  # of a service of the user's own: asks for one
    flags = ["--model", str(tiny_model_folder), "--device", "cpu", "--gallery-items", "20", "--seconds", "0.2"]
    given = ["bench", "--work", str(tmp_path), *flags, "--clients", "1,3", "--batch", "2", "--json"]
    monkeypatch.setattr(sys, "argv", ["threadmatch", *given])
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["command"].startswith("threadmatch bench --work ")
    assert {"cpu", "cores", "torch", "torch_threads", "load_before"} <= result["machine"].keys()
    tiny, paper = result["rerank"]
    assert paper["needed_mflop"] == pytest.approx(250, rel=0.05), "the 0.25 GFLOP a pair of the paper's sizes"
    assert tiny["needed_mflop"] < 5
    for row in result["rerank"]:
        assert row["share"] == pytest.approx(
            row["serving_pairs_per_s"] * row["needed_mflop"] / 1000 / row["matrix_gflops"], abs=0.01
        )
    assert [row["model"] for row in result["encode"]] == [str(tiny_model_folder), DEFAULT_PARSER]
    encoder = {"torch", "openvino", BFLOAT16_ENGINE} if has_bfloat16() else {"torch", "openvino"}
    for row, engines in zip(result["encode"], (encoder, {"torch", "openvino"}), strict=True):
        assert row["engine"] == "openvino"
        assert row["images_per_s"].keys() == row["one_photo_ms"].keys() == engines
        assert all(value > 0 for value in (*row["images_per_s"].values(), *row["one_photo_ms"].values()))
    assert [row["width"] for row in result["decode"]][1] == 1500
    assert [row["items"] for row in result["ingestion"]] == [4, 20]
    assert all(row["images_per_second"] > 0 for row in result["ingestion"])
    assert [(row["clients"], row["way"]) for row in result["latency"]] == list(itertools.product([1, 3], WAYS))
    for row in result["latency"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["searches"] >= 20
        assert sum(row["stage_share"].values()) == pytest.approx(1, abs=0.02)
        assert {"encode", "rerank", "http"} <= row["stage_share"].keys()
        assert row["workers"] == 1
        assert row["processor_ms"] > row["clients_ms"] > 0
        assert 1 <= row["batches"]["encode"] <= row["clients"]
    console = Console(width=100, record=True, quiet=False, file=(tmp_path / "out.txt").open("w"))
    show_bench(result, console)
    console.file.close()
    shown = (tmp_path / "out.txt").read_text()
    for part in ("Reranking", "Encoding", "Decoding", "Ingestion", "POST /search", "share of it"):
        assert part in shown


def test_wrong_use_is_named(tmp_path: Path) -> None:
    def used(*flags: str) -> tuple[int, str, BaseException | None]:
        done = CliRunner().invoke(app, ["bench", "--work", str(tmp_path), *flags])
        return done.exit_code, done.stderr, done.exception

    code, said, error = used("--clients", "one")
    assert (code, "--clients" in said, type(error)) == (2, True, SystemExit)
    code, said, error = used("--model", str(tmp_path / "nowhere"), "--no-service", "--seconds", "0.1")
    assert (code, "nowhere" in said, type(error)) == (1, True, SystemExit)


def test_contestants_take_turns_and_their_first_call_is_not_counted() -> None:
    calls: list[str] = []
    timings = racing.race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=0)
    assert calls == ["a", "b"] * (1 + racing.LEAST_ROUNDS)
    assert {timing.rounds for timing in timings.values()} == {racing.LEAST_ROUNDS}
    assert all(timing.best_s <= timing.median_s for timing in timings.values())


def test_the_first_rows_are_whole_rows(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text('image,name\n1.jpg,"two\nlines"\n2.jpg,b\n3.jpg,c\n')
    part = first_rows(tmp_path / "all.csv", 2, tmp_path / "part.csv")
    assert part.read_text().splitlines() == ["image,name", '1.jpg,"two', 'lines"', "2.jpg,b"]
