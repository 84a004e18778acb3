from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A shop whose photos are drawn when a row asks for them."""
    return Shop(tmp_path / "shop")
