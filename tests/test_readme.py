"""The commands and programs of the first pages, in an empty folder, against a real service."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.checkout import IMPORT_PATH, ROOT
from tests.support.pages import ADDRESS, BACKGROUND, NOT_RUN, Block, blocks, empty_folder, run, wanted
from threadmatch.service.http.schemas.search import MAX_TOP_K, SearchOptions
from threadmatch.service.process.commands import service
from threadmatch.service.settings_table import settings_table

PAGES = ("docs/quickstart.md", "docs/attributes.md", "docs/models.md", "README.md")
SEARCH = (ROOT / "docs" / "search.md").read_text("utf-8")


def every_block() -> list[Block]:
    """The blocks of the pages, in the order in which a reader comes to them; what two pages say is there once."""
    found = [block for page in PAGES for block in blocks((ROOT / page).read_text("utf-8"))]
    return list({block.code: block for block in found}.values())


@pytest.fixture
def place(tmp_path: Path, commands: Path) -> tuple[Path, dict[str, str]]:
    """See `empty_folder`."""
    return empty_folder(tmp_path, commands)


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
    monkeypatch.setenv("PYTHONPATH", IMPORT_PATH)
    found = every_block()
    ran: list[str] = []
    start = next(number for number, block in enumerate(found) if block.note.startswith(BACKGROUND))
    ran += [run(block, environment, ADDRESS) for block in found[:start] if wanted(block)]
    before = len(ran)
    with serving(found[start], work) as address:
        ran += [run(block, environment, address) for block in found[start + 1 :] if wanted(block)]
    assert len(ran) >= 7
    curl, client = ran[before : before + 2]
    assert '"stage1_rank"' in curl
    for printed in (ran[1], client):
        assert printed.splitlines()[0].split()[0] == "1", "the Python programs printed ranked matches"
    assert (work / "result.json").is_file()
    assert (work / "my-model" / "model.safetensors").is_file()


def test_a_block_that_is_not_run_says_why() -> None:
    for block in every_block():
        assert block.language in ("sh", "python", "json", "toml"), f"line {block.line}: name the language"
        if block.language in ("sh", "python") and not wanted(block):
            assert len(block.note) > len(NOT_RUN) + 10 or block.note.startswith(BACKGROUND), f"line {block.line}"


def test_the_table_of_fields_is_the_services() -> None:
    asked = SEARCH.split("## What is asked")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| *`?([^|`]*)`? *\|", asked, re.M))
    for name, field in SearchOptions.model_fields.items():
        if field.default is None:
            assert name in rows
        else:
            assert rows[name].strip() == str(field.default).lower(), name
    assert f"1 to {MAX_TOP_K}" in asked


def test_variables_that_the_pages_name_exist() -> None:
    known = {name for name, *_ in settings_table()}
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        assert set(re.findall(r"THREADMATCH_[A-Z_]*[A-Z]", page.read_text("utf-8"))) <= known, page.name
