"""The tests of attributes and of columns that a model predicted, over a cluster's gallery with the same items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.search import test_by_attributes
from tests.service.search.test_by_attributes import shop as shop
from tests.support.bodies import borrowed
from tests.support.clusters import address
from threadmatch.indexer import keeping
from threadmatch.indexer.opening import open_gallery
from threadmatch.model.inference import Model
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.retriever import Retriever

pytestmark = pytest.mark.cluster
globals().update(borrowed(test_by_attributes, "retriever"))


@pytest.fixture(scope="module")
def place(cluster_settings: Path, shop: Path) -> str:
    made = address(cluster_settings)
    keeping.copy(shop / "gallery", made)
    return made


@pytest.fixture
async def retriever(place: str, attributes_model: Model) -> AsyncIterator[Retriever]:
    gallery = open_gallery(place)
    async with ModelQueues(attributes_model) as queues:
        yield Retriever(gallery, queues)
    gallery.close()
