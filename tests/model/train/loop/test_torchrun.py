"""Several processes train one model: the same weights in each, written by one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from tests.model.striped import draw_set
from tests.model.train.recipes import write_recipe
from tests.support.checkout import IMPORT_PATH, ROOT
from tests.support.patience import PATIENCE_S
from threadmatch.model.backbone import build_backbone
from threadmatch.model.inference import load_model
from threadmatch.model.train.loop.run_folder import END_TO_END, FINETUNE, HEAD
from threadmatch.model.train.loop.torchrun import Processes

TUNING = """
[finetune]
from_stage = 3
steps = 2
queries = 8
group = 2
evaluate_every = 2
"""
SCRIPT = Path(__file__).with_name("train_together.py")
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": IMPORT_PATH}
ENVIRONMENT["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _steps(log: Path) -> list[int]:
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


def test_two_processes_end_in_the_same_weights_and_write_once(tmp_path: Path) -> None:
    _write_maps(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _run([sys.executable, str(SCRIPT), str(tmp_path), str(port)], tmp_path)
    one, two = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    for log in (FINETUNE.log, END_TO_END.log):
        assert _steps(tmp_path / "run" / log) == [0, 2, 4], "one process writes"


def test_the_documented_command_ends_in_one_checkpoint(tmp_path: Path) -> None:
    """With two processes and a tiny recipe in place of what docs/training.md names."""
    [line] = [line for line in (ROOT / "docs" / "training.md").read_text().splitlines() if "torchrun" in line]
    for name, products in (("train", range(16)), ("val", range(100, 110))):
        draw_set(tmp_path / name, products)
    write_recipe(tmp_path, more=TUNING).rename(tmp_path / "recipe.toml")
    said = _run(line.replace("--nproc-per-node 4", "--nproc-per-node 2").split(), tmp_path)
    run = tmp_path / "runs" / "x"
    assert said.count("checkpoint in runs/x/checkpoint") == 1
    assert load_model(run / "checkpoint").name == "stripes"
    assert _steps(run / FINETUNE.log) == [0, 2]
    assert _steps(run / HEAD.log) == [0, 3, 6]


def test_one_process_on_the_cpu_needs_no_other() -> None:
    alone = Processes()
    assert alone.main
    module = torch.nn.Linear(2, 2)
    assert alone.shared(module) is module
    with alone.main_first():
        alone.wait()
    alone.end()


def _write_maps(folder: Path) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    front, _ = build_backbone("timm:test_efficientnet").eval().split(3)
    with torch.no_grad():
        maps = front(torch.from_numpy(rng.integers(0, 256, (16, 3, 64, 64), dtype=np.uint8))).permute(0, 2, 3, 1)
    noise = rng.normal(0, 0.1, maps.shape)
    np.savez(
        folder / "maps.npz", gallery=maps.numpy().astype(np.float16), queries=(maps.numpy() + noise).astype(np.float16)
    )
