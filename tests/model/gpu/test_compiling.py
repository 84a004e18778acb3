"""The kernels compile for an H200, which needs no GPU; that they then compute the right thing, only one can show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.checkout import IMPORT_PATH, ROOT
from tests.support.patience import PATIENCE_S

SHARED_BYTES = 227 * 1024
"""That a program may take on an H200 or H100."""


def test_both_kernels_compile_for_an_h200_use_its_tensor_cores_and_fit_its_shared_memory(tmp_path: Path) -> None:
    environment = {
        **os.environ, "PYTHONPATH": IMPORT_PATH, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "compile_kernels.py"],
        capture_output=True, text=True, check=False, timeout=5 * PATIENCE_S, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shipped, paper, dense = (json.loads(line) for line in done.stdout.splitlines())
    assert [one["kernel"] for one in (shipped, paper, dense)] == ["score_pairs", "score_pairs", "dense_match"]
    for one in (shipped, paper, dense):
        assert one["tensor_core_products"] > 0
        assert one["shared_bytes"] <= SHARED_BYTES
    for one in (shipped, paper):
        assert one["barriers"] > 5, "between what one thread writes and others read"
