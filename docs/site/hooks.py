"""What mkdocs does beside rendering: README is the first page, the reference is generated, other files come along."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from threadmatch.service.cli.reference import api_page, commands_page, settings_page

ROOT = Path(__file__).resolve().parents[2]
ALONGSIDE = ("CHANGELOG.md", "LICENSE", "deploy/threadmatch.env")
"""Files outside of docs/ that pages link to; the site has them at the same place."""

MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.M | re.S)
DRAWING = "![From a catalogue and a photo to an answer](images/concepts.svg)"
"""In place of a diagram that a browser could draw only by a script from another site."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files of docs/."""
    pages = {
        "index.md": (ROOT / "README.md").read_text("utf-8"),
        "reference/settings.md": settings_page(),
        "reference/commands.md": commands_page(),
        "reference/api.md": api_page(json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))),
    }
    pages |= {name: (ROOT / name).read_text("utf-8") for name in ALONGSIDE}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository as links of the site."""
    name = page.file.src_uri
    markdown = MERMAID.sub(DRAWING, markdown)
    if name in ("index.md", "CHANGELOG.md"):
        return re.sub(r"\]\(docs/", "](", markdown)
    depth = name.count("/")
    up = "../" * (depth + 1)
    if name.startswith("reference/"):
        return markdown
    return markdown.replace(f"]({up}README.md", f"]({'../' * depth}index.md").replace(f"]({up}", f"]({'../' * depth}")
