"""What is read to open galleries: each index once, and none to learn a model's name."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import golden
from threadmatch.indexer.reading.gallery import current_manifest
from threadmatch.indexer.store.generations import INDEX_FILE
from threadmatch.service.app import create_app
from threadmatch.service.cli.serve import _check_galleries
from threadmatch.service.config import Settings
from threadmatch.service.errors import StartError
from threadmatch.service.galleries.loading import open_all, open_both

reads: Counter[str] = Counter()
"""How often each index file was opened in this process."""


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(INDEX_FILE):
        reads[str(Path(arguments[0]).parents[2])] += 1


sys.addaudithook(_count)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A service of two galleries."""
    first, second = golden.copy(tmp_path / "first"), golden.copy(tmp_path / "second")
    reads.clear()
    return Settings(gallery=first, galleries={"second": second}, model=str(golden.MODEL), device="cpu")


def test_a_manifest_says_a_models_name_without_its_index(settings: Settings) -> None:
    assert current_manifest(settings.gallery).model.name == "tiny"
    assert not reads


def test_a_gallery_and_its_model_are_opened_with_one_read(settings: Settings) -> None:
    model, gallery = open_both(settings.gallery, model=settings.model, device="cpu")
    assert (model.name, gallery.item_count) == ("tiny", 14)
    assert reads == {str(settings.gallery): 1}


async def test_a_service_that_starts_reads_each_index_once(settings: Settings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        assert reads == {str(settings.gallery): 1, str(settings.galleries["second"]): 1}


def test_each_gallery_of_the_settings_is_read_once(settings: Settings) -> None:
    _, opened = open_all(settings)
    assert {name: gallery.item_count for name, gallery in opened.items()} == {"default": 14, "second": 14}
    assert reads == {str(settings.gallery): 1, str(settings.galleries["second"]): 1}


def _take_away(settings: Settings) -> None:
    (settings.galleries["second"] / "CURRENT").unlink()


def _other_model(settings: Settings) -> None:
    path = settings.galleries["second"] / "generations" / "000002" / "manifest.json"
    path.write_text(path.read_text("utf-8").replace("4eaacd24d49ee7fd", "0000000000000000"), "utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"), [(_take_away, "no finished generation"), (_other_model, "cannot be compared")]
)
def test_the_parent_of_several_workers_refuses_what_they_would(
    settings: Settings, spoil: Callable[[Settings], None], message: str
) -> None:
    _check_galleries(settings)
    spoil(settings)
    with pytest.raises(StartError, match=message) as raised:
        _check_galleries(settings)
    assert "'second'" in str(raised.value)
    assert not reads, "the workers read the indexes"
