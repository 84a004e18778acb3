"""The code blocks of the documentation, and how to run them as a reader would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.checkout import IMPORT_PATH
from tests.support.commands import write_programs

ADDRESS = "http://127.0.0.1:8000"
NOT_RUN = "not run here: "
BACKGROUND = "started in the background"
TIME_LIMIT_S = 180


@dataclass(frozen=True)
class Block:
    """A block of code, its language and the comment above it."""

    line: int
    language: str
    code: str
    note: str


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block with the HTML comment right above it."""
    for found in re.finditer(r"(?:<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        yield Block(text.count("\n", 0, found.start(2)) + 1, found[2], found[3], found[1] or "")


def empty_folder(tmp_path: Path, commands: Path) -> tuple[Path, dict[str, str]]:
    """An empty folder, and an environment in which `threadmatch` and `python` are this checkout's.

    Args:
        tmp_path: for the folder, and for one of programs.
        commands: where they are run; see `tests.support.commands`.
    """
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    write_programs(bin_folder, commands)
    work = tmp_path / "work"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THREADMATCH_")}
    environment |= {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": IMPORT_PATH}
    return work, environment


def wanted(block: Block) -> bool:
    """Whether the block is to be run: a shell's or Python's, and not marked otherwise."""
    return block.language in ("sh", "python") and not block.note.startswith(NOT_RUN)


def run(block: Block, environment: dict[str, str], address: str) -> str:
    """Run a block as its reader would; its output."""
    code = block.code.replace(ADDRESS, address)
    with tempfile.NamedTemporaryFile("w", suffix=".py") as program:
        program.write(code)
        program.flush()
        command = ["bash", "-euo", "pipefail", "-c", code] if block.language == "sh" else ["python", program.name]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            stdout, stderr = process.communicate(timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"line {block.line}:\n{code}\n{stdout}\n{stderr}"
    return stdout
