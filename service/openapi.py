"""The OpenAPI description as a file: `python -m threadmatch.service.openapi` writes it, a test compares it."""

from __future__ import annotations

import json
from pathlib import Path

from threadmatch.service.app import create_app
from threadmatch.service.config import Settings

COMMITTED = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"


def description() -> str:
    """The description of the app as it is now, as the text of the committed file."""
    return json.dumps(create_app(Settings(gallery=Path("gallery"))).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    COMMITTED.write_text(description(), "utf-8")
