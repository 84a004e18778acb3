"""A gallery that the release before made: opened, searched, edited, folded, rolled back, verified, compacted."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import golden
from threadmatch.indexer.edits.folding import delete_items, fold
from threadmatch.indexer.edits.live_writes import Delete, Edited, Editor, Put
from threadmatch.indexer.errors import FeatureMissingError
from threadmatch.indexer.export import export
from threadmatch.indexer.reading.gallery import Gallery, current_manifest
from threadmatch.indexer.store.database import open_read_only
from threadmatch.indexer.store.records import FORMER_TABLES, has_table
from threadmatch.indexer.store.versions import Store, Version
from threadmatch.indexer.upkeep import compact, list_generations, rollback, verify
from threadmatch.model.features import FeatureSpec

ANSWERS = golden.answer("vectors")
PHOTOS = ANSWERS["photos_crc"]
SPECS = (FeatureSpec("embedding", (256,), "float32", indexed=True), FeatureSpec("regions", (24, 24), "float16"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The gallery, to be changed."""
    return golden.copy(tmp_path / "gallery")


def queries() -> list[tuple[str, NDArray[np.float32], str | None]]:
    """Name of the answer, unit vector, filter: as they were asked of the release before."""
    random = np.random.default_rng(5)
    asked: list[tuple[str, NDArray[np.float32], str | None]] = []
    for filter in (None, "price < 60"):
        for number in range(3):
            vector = random.standard_normal(256).astype(np.float32)
            vector /= np.linalg.norm(vector)
            asked.append((f"{number} {filter or ''}".strip(), vector, filter))
    return asked


def assert_answers_as_before(gallery: Gallery) -> None:
    """Ids, distances, features and photos of the release before; rows where nothing was folded since."""
    snapshot = gallery.current
    for name, vector, filter in queries():
        found = snapshot.shortlist(vector, 20, filter=filter)
        assert {c.id for c in found} == {item_id for item_id, _, _ in ANSWERS[name]}
        distances = [distance for _, _, distance in ANSWERS[name]]
        np.testing.assert_allclose([c.distance for c in found], distances, atol=1e-6)
        by_id = {item_id: distance for item_id, _, distance in ANSWERS[name]}
        np.testing.assert_allclose([c.distance for c in found], [by_id[c.id] for c in found], atol=1e-6)
        packed = {
            c.id: r.astype("<f2").tobytes() for c, r in zip(found, snapshot.features("regions", found), strict=True)
        }
        known = ANSWERS["regions_crc"]
        assert {i: zlib.crc32(data) for i, data in packed.items() if i in known} == {
            i: known[i] for i in packed.keys() & known
        }
    assert {s.id: zlib.crc32(snapshot.photo(s.id)) for s in snapshot.stored_items()} == PHOTOS
    assert verify(gallery.folder).problems == []


def is_brought_up(folder: Path) -> bool:
    connection = open_read_only(folder)
    try:
        return not any(has_table(connection, table) for table in FORMER_TABLES.values())
    finally:
        connection.close()


def test_it_is_opened_and_searched_as_it_is(folder: Path) -> None:
    gallery = Gallery.open(folder)
    assert gallery.manifest.format == 2
    assert gallery.features == gallery.current.feature_specs == SPECS
    assert gallery.manifest.embedding_dim == 256
    assert [c.row for c in gallery.shortlist(queries()[0][1], 20)] == [row for _, row, _ in ANSWERS["0"]]
    assert_answers_as_before(gallery)
    assert not is_brought_up(folder)
    assert current_manifest(folder) == gallery.manifest


def test_a_feature_that_it_does_not_keep_is_refused_by_name(folder: Path) -> None:
    snapshot = Gallery.open(folder).current
    with pytest.raises(FeatureMissingError, match=r"no feature 'cells' \(it has embedding, regions\)"):
        snapshot.features("cells", snapshot.shortlist(queries()[0][1], 3))


def test_brought_up_it_answers_as_before(folder: Path) -> None:
    gallery = Gallery.open(folder)
    Store(folder).close()
    assert is_brought_up(folder)
    assert_answers_as_before(gallery)  # which is open since before
    assert_answers_as_before(Gallery.open(folder))


def test_edits_on_top_of_it_are_seen_at_once_and_folded(folder: Path) -> None:
    gallery = Gallery.open(folder)
    editor = Editor(folder, features_fingerprint=gallery.manifest.model.features_fingerprint)
    edits: list[Put | Delete] = [Put(Version("put-later", None, '{"price": 3}', "", 4)), Delete("drawn-000001")]
    assert editor.apply(edits) == [Edited(existed=True, changed=True)] * 2
    editor.close()
    there = {stored.id for stored in gallery.current.stored_items()}
    assert there == PHOTOS.keys() - {"drawn-000001"}
    assert gallery.item("put-later").metadata == {"price": 3}
    assert fold(folder).folded == 5
    assert is_brought_up(folder)
    gallery.refresh()
    assert (gallery.generation, gallery.manifest.format, gallery.features) == ("000003", 3, SPECS)
    assert {stored.id for stored in gallery.current.stored_items()} == there
    assert verify(folder).problems == []


def test_folded_and_compacted_it_answers_as_before(folder: Path) -> None:
    assert fold(folder).folded == 3
    assert_answers_as_before(Gallery.open(folder))
    assert compact(folder, keep=1)["generations"] == 1
    assert_answers_as_before(Gallery.open(folder))


def test_it_is_rolled_back_to_its_first_generation_and_forward_again(folder: Path) -> None:
    assert rollback(folder).generation == "000001"
    ten = {f"drawn-{number:06d}" for number in range(10)}
    gallery = Gallery.open(folder)
    assert {stored.id for stored in gallery.current.stored_items()} == ten - {"drawn-000005"} | {"put-later"}
    rollback(folder, "000002")
    assert_answers_as_before(Gallery.open(folder))
    assert rollback(folder, "000001", edits=False).format == 3
    assert {stored.id for stored in Gallery.open(folder).current.stored_items()} == ten
    assert [entry["generation"] for entry in list_generations(folder)] == ["000001", "000002", "000003"]
    assert verify(folder).problems == []


def test_an_item_of_it_is_deleted_and_the_rest_exported(folder: Path, tmp_path: Path) -> None:
    assert delete_items(folder, ["drawn-000002"]).format == 3
    assert export(folder, tmp_path / "out.csv").items == len(PHOTOS) - 1
    assert verify(folder).problems == []
