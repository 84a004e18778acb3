"""The photos below a folder, for whoever has a folder and no table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

IMAGE_SUFFIXES: Final = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jp2")
)
"""What is taken for a photo; whether it is one, reading it will say."""


def photos_below(folder: Path) -> Iterator[Path]:
    """Every file that is named like a photo, in an order that stays; nothing hidden."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield path
