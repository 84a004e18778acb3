"""Clusters of the tests: engines that start once a session, and galleries in them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from numpy.typing import NDArray

from tests.support.made_up import build, content, version
from threadmatch.indexer.edits.live_writes import Delete, Put
from threadmatch.service.bench.engines import (
    Server,
    lacking_milvus,
    lacking_redis,
    milvus,
    redis,
    running,
    settings_file,
)

if TYPE_CHECKING:
    from threadmatch.indexer.cluster.gallery import Cluster, ClusterGallery
    from threadmatch.model.inference import Model

PROGRAMS = Path.home() / ".cache" / "threadmatch" / "milvus"
numbers = itertools.count(1)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis of the whole session."""
    if reason := lacking_redis():
        pytest.skip(reason)
    server = redis(tmp_path_factory.mktemp("redis"))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Milvus of the whole session. Whoever kills it starts it again."""
    if reason := lacking_milvus():
        pytest.skip(reason)
    server = milvus(tmp_path_factory.mktemp("milvus"), PROGRAMS)
    with running(server):
        yield server


@pytest.fixture(scope="session")
def cluster_settings(redis_server: Server, milvus_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a cluster of one Redis and one Milvus, both running."""
    return settings_file(tmp_path_factory.mktemp("cluster"), stores=[redis_server], milvus=milvus_server)


def address(settings: Path, name: str = "") -> str:
    """Of a gallery; another one with each call where no name is given."""
    return f"cluster://{name or f'shop_{next(numbers)}'}@{settings}"


@contextmanager
def connected(place: str) -> Iterator[Cluster]:
    from threadmatch.indexer.cluster.gallery import Cluster
    from threadmatch.indexer.cluster.settings import read_address

    cluster = Cluster(read_address(place))
    try:
        yield cluster
    finally:
        cluster.close()


@asynccontextmanager
async def served_from(place: str, model: Model, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the whole service over a cluster's gallery.

    Args:
        place: of the gallery.
        model: that searches it.
        changes: of the settings that tests have.
    """
    from tests.support import serving  # torch and the whole service: not before a test asks for it
    from threadmatch.indexer.opening import open_gallery
    from threadmatch.service.app import create_app

    gallery = open_gallery(place, features_fingerprint=model.features_fingerprint)
    try:
        async with serving.running(
            create_app(serving.settings(Path(place), **changes), model=model, gallery=gallery)
        ) as client:
            yield client
    finally:
        gallery.close()


def fill(
    place: str,
    folder: Path,
    items: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """A gallery of these made-up items, copied from a folder."""
    from threadmatch.indexer.cluster.to_cluster import copy_to_cluster

    build(folder, items, metadata=metadata)
    with connected(place) as cluster:
        copy_to_cluster(folder, cluster)


def edit_cluster(
    gallery: ClusterGallery,
    items: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    gone: Sequence[str] = (),
) -> None:
    """Put and delete items as the service does."""
    from threadmatch.indexer.cluster.editing import ClusterEditor

    puts = [
        Put(version(name, **(metadata or {}).get(name, {})), content(name, vector)) for name, vector in items.items()
    ]
    for outcome in ClusterEditor(gallery).apply([*puts, *map(Delete, gone)]):
        assert not isinstance(outcome, Exception), outcome
