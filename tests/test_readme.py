"""The README's commands and programs, run in their order in an empty folder, against a real service."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.config import settings_table
from service.processes import program, service
from service.schemas import MAX_TOP_K, SearchOptions

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
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


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An empty folder, and an environment in which `threadmatch` and `python` are this checkout's."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    words = " ".join(f"'{word}'" for word in program())
    for name, command in (("threadmatch", words), ("python", sys.executable)):
        (bin_folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (bin_folder / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THREADMATCH_")}
    environment |= {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return work, environment


@contextmanager
def serving(block: Block, work: Path) -> Iterator[str]:
    """The service of a block that is one `threadmatch serve`, on a free port; its address."""
    words = block.code.split()
    assert words[:2] == ["threadmatch", "serve"]
    assert block.code.count("\n") == 1
    with service([*words[1:], "--port", "0"], work / "serve.log") as running:
        yield running.address


def test_every_block_runs_in_order(place: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    work, environment = place
    monkeypatch.chdir(work)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = list(blocks(README))
    ran: list[str] = []
    start = next(number for number, block in enumerate(found) if block.note.startswith(BACKGROUND))
    ran += [run(block, environment, ADDRESS) for block in found[:start] if wanted(block)]
    with serving(found[start], work) as address:
        ran += [run(block, environment, address) for block in found[start + 1 :] if wanted(block)]
    assert len(ran) >= 7
    assert '"stage1_rank"' in ran[2]
    assert ran[3].splitlines()[0].split()[0] == "1", "the Python program printed ranked matches"
    assert (work / "result.json").is_file()
    assert (work / "my-model" / "model.safetensors").is_file()


def wanted(block: Block) -> bool:
    return block.language in ("sh", "python") and not block.note.startswith(NOT_RUN)


def run(block: Block, environment: dict[str, str], address: str) -> str:
    """Run a block as its reader would; its output."""
    code = block.code.replace(ADDRESS, address)
    command = ["bash", "-euo", "pipefail", "-c", code] if block.language == "sh" else ["python", "-c", code]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        stdout, stderr = process.communicate(timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, f"README.md, line {block.line}:\n{code}\n{stdout}\n{stderr}"
    return stdout


def test_a_block_that_is_not_run_says_why() -> None:
    for block in blocks(README):
        assert block.language in ("sh", "python", "json"), f"line {block.line}: name the language"
        if not wanted(block):
            assert len(block.note) > len(NOT_RUN) + 10 or block.note.startswith(BACKGROUND), f"line {block.line}"


def test_every_link_leads_to_a_file() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_table_of_fields_is_the_services() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| *`?([^|`]*)`? *\|", README, re.M))
    for name, field in SearchOptions.model_fields.items():
        if field.default is None:
            assert name in rows
        else:
            assert rows[name].strip() == str(field.default).lower(), name
    assert f"at most {MAX_TOP_K}" in README


def test_variables_that_the_pages_name_exist() -> None:
    known = {name for name, *_ in settings_table()}
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert set(re.findall(r"THREADMATCH_[A-Z_]*[A-Z]", page.read_text("utf-8"))) <= known, page.name
