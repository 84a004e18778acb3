"""Small disks of memory, full or read-only, where the system lets us mount them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SMALL_DISK_KIB = 4096


@contextlib.contextmanager
def mounted(folder: Path, *, size_kib: int = SMALL_DISK_KIB) -> Iterator[Path]:
    """A folder as a disk of its own; the test is skipped where that needs more rights."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free; the file that takes it all."""
    path = folder / "fill"
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"0" * size)
    assert shutil.disk_usage(folder).free == 0
    return path


def remount(folder: Path, how: str) -> None:
    """Make it read-only ("ro") or writable ("rw")."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)
