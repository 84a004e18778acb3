"""The tests of products and duplicates, over a cluster's gallery with the same items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.service.search import test_products
from tests.service.search.test_products import folder as folder
from tests.support.bodies import borrowed
from tests.support.clusters import address, served_from
from threadmatch.indexer import keeping
from threadmatch.model.inference import Model

pytestmark = pytest.mark.cluster
globals().update(borrowed(test_products, "client"))


@pytest.fixture(scope="module")
def place(cluster_settings: Path, folder: Path) -> str:
    made = address(cluster_settings)
    keeping.copy(folder, made)
    return made


@pytest_asyncio.fixture
async def client(place: str, tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    async with served_from(place, tiny_model) as client:
        yield client
