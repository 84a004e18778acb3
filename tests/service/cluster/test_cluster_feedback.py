"""The tests of feedback, on searches of a cluster's gallery with the same items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.service.feedback import test_feedback
from tests.support.bodies import borrowed
from tests.support.clusters import address, served_from
from threadmatch.indexer import keeping
from threadmatch.model.inference import Model

pytestmark = pytest.mark.cluster
globals().update(borrowed(test_feedback, "client", "tmp_path"))


@pytest.fixture(scope="module")
def place(cluster_settings: Path, gallery_folder: Path) -> str:
    made = address(cluster_settings)
    keeping.copy(gallery_folder, made)
    return made


@pytest_asyncio.fixture
async def client(place: str, tiny_model: Model, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served_from(place, tiny_model, feedback=str(tmp_path / "said")) as client:
        yield client
