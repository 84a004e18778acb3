"""Threads that wait: what the commands say to the libraries that compute, before these are loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from threadmatch.service.process.threads import BLAS_TIMEOUT, CV_THREADS, SPIN_COUNT, let_waiting_threads_sleep

SAID = ("OPENBLAS_THREAD_TIMEOUT", "OPENCV_FOR_THREADS_NUM", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
USUAL = {
    "OPENBLAS_THREAD_TIMEOUT": BLAS_TIMEOUT,
    "OPENCV_FOR_THREADS_NUM": CV_THREADS,
    "GOMP_SPINCOUNT": SPIN_COUNT,
}
OWN = {"OPENBLAS_THREAD_TIMEOUT": "26", "OPENCV_FOR_THREADS_NUM": "2", "GOMP_SPINCOUNT": "5"}
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize(
    ("given", "then"),
    [({}, USUAL), (OWN, OWN), (PASSIVE, {name: USUAL[name] for name in SAID[:2]} | PASSIVE)],
)
def test_threads_sleep_soon_unless_the_environment_says_otherwise(
    given: dict[str, str], then: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SAID:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    let_waiting_threads_sleep()
    assert {name: os.environ[name] for name in SAID if name in os.environ} == then


@pytest.mark.parametrize("command", ["threadmatch.service.cli", "threadmatch.service.__main__"])
def test_neither_command_loads_numpy_cv2_or_torch_before_that_is_said(command: str) -> None:
    program = f"import sys, {command}; print(*{{'numpy', 'torch', 'cv2'}} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == ""


def test_opencv_and_openblas_heed_what_is_said() -> None:
    """A thread that spins is running ("R") a few milliseconds after a product, one that sleeps is not."""
    program = (
        "from threadmatch.service.process.threads import let_waiting_threads_sleep; let_waiting_threads_sleep();"
        "import threading, time, cv2, numpy as np; from pathlib import Path; print(cv2.getNumThreads());"
        "many, one = np.ones((20_000, 512), np.float32), np.ones(512, np.float32); many @ one; time.sleep(0.03);"
        "others = [task for task in Path('/proc/self/task').iterdir() if int(task.name) != threading.get_native_id()];"
        "print([(task / 'stat').read_text().rsplit(')', 1)[1].split()[0] for task in others].count('R'))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in SAID}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["1", "0"]
