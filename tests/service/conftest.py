"""A real gallery of a few drawn photos, ingested with the tiny model; its ids are as odd as catalogues make them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.support.attributes import with_attributes
from tests.support.processes import serving
from tests.support.serving import build_gallery, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model, load_model
from threadmatch.service.app import create_app

ODD_IDS = (
    "plain", "with space", "a/b", "a/b/image", "image", "ümlaut-ß", "per%20cent", "100%", "q?x=1#frag", "semi;amp&amp",
    "日本", "../up", "quote\"'", "plus+sign",
)  # fmt: skip
PLAIN_ITEMS = 26


@pytest.fixture(scope="session")
def item_ids() -> list[str]:
    """The gallery's ids; item n shows photo(1 + n)."""
    return [*ODD_IDS, *(f"item-{number:02}" for number in range(PLAIN_ITEMS))]


@pytest.fixture(scope="session")
def gallery_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model, item_ids: list[str]) -> Path:
    """The gallery on disk. Tests that change a gallery build their own."""
    return build_gallery(tmp_path_factory.mktemp("service"), tiny_model, item_ids)


@pytest.fixture(scope="session")
def gallery(gallery_folder: Path, tiny_model: Model) -> Gallery:
    """The same, open."""
    return Gallery.open(gallery_folder, features_fingerprint=tiny_model.features_fingerprint)


@pytest_asyncio.fixture
async def client(gallery_folder: Path, gallery: Gallery, tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the whole service over the tiny model and the small gallery."""
    async with running(create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)) as client:
        yield client


@pytest.fixture(scope="session")
def attributes_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a part of three attributes."""
    return with_attributes(tiny_model_folder, tmp_path_factory.mktemp("attributes") / "tiny")


@pytest.fixture(scope="session")
def attributes_model(attributes_model_folder: Path) -> Model:
    """The same, loaded."""
    return load_model(attributes_model_folder, device="cpu")


@pytest.fixture(scope="session")
def address(
    attributes_model: Model,
    attributes_model_folder: Path,
    item_ids: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Where a real `threadmatch serve` listens, one for all tests: the small gallery's items with attributes.

    It takes feedback.
    """
    folder = build_gallery(tmp_path_factory.mktemp("served"), attributes_model, item_ids)
    options = ("--gallery", str(folder), "--model", str(attributes_model_folder), "--device", "cpu")
    with serving(*options, THREADMATCH_FEEDBACK=str(tmp_path_factory.mktemp("feedback"))) as (_, address):
        yield address
