"""Several processes train one model: the same weights in each, written by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.backbone import build_backbone
from model.train.curves import END_TO_END_LOG, FINETUNE_LOG
from model.train.processes import Processes

SCRIPT = Path(__file__).with_name("train_together.py")


@pytest.mark.parametrize("log", [FINETUNE_LOG, END_TO_END_LOG])
def test_two_processes_end_in_the_same_weights_and_write_once(tmp_path: Path, log: str) -> None:
    _write_maps(tmp_path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [*torchrun, str(SCRIPT), str(tmp_path), log],
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": root,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / log).read_text().splitlines()]
    assert steps == [0, 2, 4], "one process writes"


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
