"""The tests of searches, explanations and batches, over a cluster's gallery with the same items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.service.search import test_explain, test_many_photos, test_search
from tests.support.bodies import borrowed
from tests.support.clusters import address, served_from
from threadmatch.indexer import keeping
from threadmatch.model.inference import Model

pytestmark = pytest.mark.cluster
FIXTURES = ("client", "item_ids", "gallery", "tiny_model")
globals().update(borrowed(test_search, *FIXTURES))
globals().update(borrowed(test_explain, *FIXTURES))
globals().update(borrowed(test_many_photos, *FIXTURES))


@pytest.fixture(scope="module")
def place(cluster_settings: Path, gallery_folder: Path) -> str:
    made = address(cluster_settings)
    keeping.copy(gallery_folder, made)
    return made


@pytest_asyncio.fixture
async def client(place: str, tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    async with served_from(place, tiny_model) as client:
        yield client
