"""`make bench-gpu`: its script runs here as far as a CPU goes, and a section that fails costs itself alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.checkout import IMPORT_PATH, ROOT
from tests.support.patience import PATIENCE_S
from threadmatch.indexer.gpu_bench import search_rates, why_no_gpu
from threadmatch.service.bench import gpu
from threadmatch.service.bench.gpu import LONGEST_S, run_sections
from threadmatch.service.bench.gpu_sections import SECTIONS


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> object:
    """The command in this process, its sections in processes of their own; its exit code."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", *flags])
    for name, value in (("PYTHONPATH", IMPORT_PATH), ("OMP_NUM_THREADS", "1"), ("CUDA_VISIBLE_DEVICES", "")):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        gpu.main()
    return end.value.code


def test_in_the_interpreter_it_checks_both_kernels_and_writes_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton")
    out = tmp_path / "checks.json"
    assert run(monkeypatch, "--interpret", "--out", str(out)) == 0, capsys.readouterr().err
    said = json.loads(out.read_text())
    assert said["passed"]
    assert said["interpreted"]
    assert said["sections"].keys() == {"kernels"}
    checks = said["sections"]["kernels"]["result"]["checks"]
    assert {check["precision"] for check in checks if "precision" in check} == {"float32", "bfloat16"}
    assert any(0 < check["apart"] < check["allowed"] for check in checks)
    assert [check["matcher"] for check in checks if "matcher" in check] == ["grnet, small"]


def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "threadmatch.service.bench.gpu", "--out", str(tmp_path / "gpu.json")],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "bench-gpu: device cuda was asked for, but torch sees no CUDA device; --interpret checks the kernels on the CPU"
    ]
    assert not (tmp_path / "gpu.json").exists()


def test_wrong_use_is_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--quickly") == 2
    assert "--quickly" in capsys.readouterr().err


def test_a_section_that_fails_or_takes_too_long_is_written_down_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", IMPORT_PATH)
    monkeypatch.setattr(gpu, "SECTIONS", {**SECTIONS, "kernels": replace(SECTIONS["kernels"], limit_s=0.5)})
    out = tmp_path / "gpu.json"
    said = run_sections(["index", "kernels"], interpret=True, work=tmp_path, out=out)
    assert json.loads(out.read_text()) == said
    assert not said["passed"]
    assert list(said["sections"]) == ["index", "kernels"]
    failed, slow = said["sections"].values()
    assert failed["error"] == "ended with exit code 1"
    assert failed["said"], "the end of what it said"
    assert slow["error"] == "took longer than its 0 s"


def test_the_sections_that_check_come_before_those_that_measure_and_fit_the_run() -> None:
    assert list(SECTIONS)[:2] == ["kernels", "ranks"]
    assert all(section.limit_s < LONGEST_S for section in SECTIONS.values())
    assert [name for name, section in SECTIONS.items() if section.interpreted] == ["kernels"]


def test_faiss_without_a_gpu_is_measured_on_the_cpu_and_says_why() -> None:
    found = search_rates(items=2000, dim=16)
    assert found["cpu"].keys() == {1, 64}
    if reason := why_no_gpu():
        assert (found["gpu"], found["reason"]) == (None, reason)
    else:
        assert found["same_first"] > 0.99
