"""The library that checks our metrics, and a small set of pictures to measure on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.model.striped import draw_set


@pytest.fixture(scope="session")
def ranx() -> Any:
    """The library, run as plain Python: compiling it takes half a minute, and a test's rankings are short."""
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    return pytest.importorskip("ranx")


@pytest.fixture(scope="session")
def striped_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 products, two photos each in the gallery, one query each."""
    return draw_set(tmp_path_factory.mktemp("striped") / "set", range(40), angles=2)
