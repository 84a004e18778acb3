"""The tests of PUT, PATCH, DELETE and lists, over a cluster's gallery: another one for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.service.galleries import test_edits
from tests.service.galleries.test_edits import pristine as pristine
from tests.support.bodies import borrowed
from tests.support.clusters import address, served_from
from threadmatch.indexer import keeping
from threadmatch.model.inference import Model

pytestmark = pytest.mark.cluster
globals().update(borrowed(test_edits, "shop"))


@pytest_asyncio.fixture
async def shop(cluster_settings: Path, pristine: Path, tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    place = address(cluster_settings)
    keeping.copy(pristine, place)
    async with served_from(place, tiny_model) as client:
        yield client
