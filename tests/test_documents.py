"""The documents as a whole: links lead somewhere, quoted messages are the code's, the reference is complete."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.pages import blocks, wanted
from tests.test_readme import PAGES as RUN_TOGETHER
from threadmatch.service.cli.reference import api_page, commands_page, settings_page
from threadmatch.service.settings_table import settings_table

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
SITE = (ROOT / "mkdocs.yml").read_text("utf-8")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
TROUBLE = (DOCS / "troubleshooting.md").read_text("utf-8")


def prose(page: Path) -> str:
    """A page without its blocks of code, fenced or indented, and without code in its lines."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    text = re.sub(r"(?:(?<=\n\n)|\A)(?: {4,}[^\n]*\n)+", "", text)
    return re.sub(r"`[^`\n]+`", "", text)


@cache
def anchors(page: Path) -> frozenset[str]:
    """What headings of a page can be linked to by, as GitHub and Python-Markdown alike make it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        found.append(re.sub(r"-+", "-", slug))
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert there.is_file(), f"{target} is no file"
        if anchor:
            assert anchor in anchors(there), f"{target}: the page has {', '.join(sorted(anchors(there)))}"


def test_files_that_the_pages_name_exist() -> None:
    for page in set(PAGES) - {ROOT / "CHANGELOG.md"}:
        for name in re.findall(r"\b((?:model|indexer|service|tests|deploy)/[\w./-]*\w)", page.read_text("utf-8")):
            module, _, _attribute = name.rpartition(".")
            assert any((ROOT / known).exists() for known in (name, f"{name}.py", f"{module}.py")), name


def test_every_page_is_in_the_sites_navigation_and_can_be_reached_from_the_readme() -> None:
    named = set(re.findall(r": ([\w/-]+\.md)$", SITE, re.M))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert named == pages | {"index.md", "CHANGELOG.md"} | {
        f"reference/{name}.md" for name in ("api", "settings", "commands")
    }
    linked = {target.partition("#")[0] for target in LINK.findall(prose(ROOT / "README.md"))}
    assert {f"docs/{page}" for page in pages} <= linked


def test_a_block_that_no_test_runs_says_why() -> None:
    for page in {DOCS / name for name in ("client.md", "search.md")} ^ set(PAGES):
        if page.relative_to(ROOT).as_posix() not in RUN_TOGETHER:
            for block in blocks(page.read_text("utf-8")):
                assert not wanted(block), f"{page.name}, line {block.line}: run it, or say why not"


def test_the_readme_fits_two_screens() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 90


def test_messages_that_are_quoted_are_those_of_the_code() -> None:
    code = "\n".join(
        path.read_text("utf-8") for room in ("model", "indexer", "service") for path in (ROOT / room).rglob("*.py")
    )
    # A message over two lines of code is one; what it inserts is anything.
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    quoted = [
        quote for row in re.findall(r"^\| (.*?) \|", TROUBLE, re.M) for quote in re.findall(r"`([^`]{12,})`", row)
    ]
    assert len(quoted) > 30
    for quote in quoted:
        for piece in filter(None, re.split(r"[\s,]*\.\.\.[\s,;]*", quote)):
            assert piece in code, f"no message has {piece!r}"


def test_the_reference_names_every_setting_command_and_route() -> None:
    settings, commands = settings_page(), commands_page()
    assert re.findall(r"^## `(\w+)`$", settings, re.M) == [name for name, *_ in settings_table()]
    for name in ("serve", "ingest", "search", "gallery rollback", "keys add", "data check", "train"):
        assert f"## `threadmatch {name}`" in commands
    assert "| `--top-k` | `<number>` | `10` |" in commands
    described = json.loads((DOCS / "openapi.json").read_text("utf-8"))
    api = api_page(described)
    for path, methods in described["paths"].items():
        for method in methods:
            assert f"## `{method.upper()} {path}`" in api
    assert "| `no_match_reason` |" in api
    assert not re.search(r"\$ref|None \|", api + commands + settings)
