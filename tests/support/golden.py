"""The gallery of the release before, in `tests/golden`: format 2, two generations, then three edits on top.

It was made with the tiny model beside it: ten items, then fourteen; after that `drawn-000003` got another price,
`put-later` was put with the same photo, `drawn-000005` was deleted. `answers/` holds what that release answered.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.checkout import ROOT

GOLDEN = ROOT / "tests" / "golden"
MODEL = GOLDEN / "tiny"
PHOTOS = sorted((GOLDEN / "photos").glob("*.jpg"))


def copy(folder: Path) -> Path:
    """The gallery in a new folder of its own."""
    return Path(shutil.copytree(GOLDEN / "gallery", folder))


def answer(name: str) -> Any:
    """What the release before answered, such as "0-grnet" to the first photo, or "vectors" to vectors."""
    return json.loads((GOLDEN / "answers" / f"{name}.json").read_text("utf-8"))
