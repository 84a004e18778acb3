"""Galleries with a projection, of few items: constants of scale are changed, and are told here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.made_up import build, unit
from threadmatch.indexer import index as index_module
from threadmatch.indexer.store import generations, projected_file, projected_recall
from threadmatch.indexer.store.manifest import Manifest

Array = NDArray[np.float32]
ITEMS = 2400
LEAST = 1000


def make_few_many(patch: pytest.MonkeyPatch) -> None:
    """Constants of scale, not the thing under test."""
    patch.setattr(index_module, "EXACT_ROWS", 100)
    patch.setattr(index_module, "EXACT_TIMES", 1)
    patch.setattr(index_module, "SCANNED_ROWS", 400)  # two fifths of all
    patch.setattr(projected_file, "PART_ROWS", 700)
    patch.setattr(projected_recall, "WIDTHS", (210, 220))


def put(
    folder: Path, numbers: range, *, least: int = LEAST, gone: list[str] | None = None, scales: Array | None = None
) -> Manifest:
    """Publish items of which a tenth has each `part`; a graph from 500 items on. `scales`: (E,) of their variation."""
    items = {f"item-{n}": unit(1, seed=n)[0] for n in numbers}
    if scales is not None:
        items = {name: vector * scales / np.linalg.norm(vector * scales) for name, vector in items.items()}
    about = {f"item-{n}": {"part": n % 10, "price": n % 100} for n in numbers}
    build(folder, items, flat_max=500, projected_min=least, metadata=about, gone=gone or [])
    return current(folder)


def current(folder: Path) -> Manifest:
    name = generations.current_name(folder)
    assert name is not None
    return generations.read_manifest(folder, name)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "generations").glob("*/projected.rows"))
