"""What every body of the `FeatureStore` seam must do. Another body joins by a line in `BODIES`."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.former import make_former
from tests.support.made_up import MODEL, build, content, edit, regions, unit
from tests.support.side_files import damage_record, side_files
from threadmatch.indexer.errors import FeatureMissingError
from threadmatch.indexer.reading.connections import Readers
from threadmatch.indexer.reading.feature_store import DamagedRecordError, FeatureStore, MappedFeatures, SqliteFeatures
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.side_files import SideFiles
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.database import DATABASE
from threadmatch.indexer.store.records import FORMER_TABLES, has_table
from threadmatch.service.bench.engines import Server, settings_file

NAMES = [f"item-{n}" for n in range(60)]
VECTORS = dict(zip(NAMES, unit(len(NAMES)), strict=True))


@dataclass(frozen=True)
class Made:
    """A store of the features of NAMES, the rows it knows them by, and how to damage a record of one."""

    store: FeatureStore
    rows: dict[str, int]
    damage: Callable[[str, str], None]
    """Arguments: item, feature."""


Body = Callable[[Path], Made]


def sqlite(folder: Path) -> Made:
    """Items of a generation, and some that edits put."""
    build(folder, {name: VECTORS[name] for name in NAMES[:40]})
    edit(folder, {name: VECTORS[name] for name in NAMES[40:]})
    return made(folder)


def sqlite_of_the_former_format(folder: Path) -> Made:
    sqlite(folder)
    make_former(folder, version=2)
    return made(folder)


def made(folder: Path) -> Made:
    found = Gallery.open(folder).shortlist(unit(1)[0], len(NAMES))
    rows = {candidate.id: candidate.row for candidate in found}

    def damage(item: str, feature: str) -> None:
        database = sqlite3.connect(folder / DATABASE)
        former = has_table(database, FORMER_TABLES[feature])
        table, named = (FORMER_TABLES[feature], "") if former else ("features", f" AND name = '{feature}'")
        source, column, row = ("items", "seq", rows[item]) if rows[item] > 0 else ("edits", "edit", -rows[item])
        database.execute(
            f"UPDATE {table} SET data = zeroblob(length(data))"
            f" WHERE content = (SELECT content FROM {source} WHERE {column} = ?){named}",
            (row,),
        )
        database.commit()
        database.close()

    return Made(SqliteFeatures(Readers(folder), MODEL.features), rows, damage)


def mapped(folder: Path) -> Made:
    """Side files before the database: what is damaged in one comes from the other, so both are damaged."""
    behind = sqlite(folder)
    assert isinstance(behind.store, SqliteFeatures)
    manifest = generations.read_manifest(folder, "000001")
    side = SideFiles(generations.generation_folder(folder, "000001"), manifest)
    regions_file = next(path for path in side_files(folder) if path.name.startswith("feature-regions"))

    def damage(item: str, feature: str) -> None:
        behind.damage(item, feature)
        if feature == "regions":
            damage_record(regions_file, behind.rows[item])

    return Made(MappedFeatures(side, behind.store), behind.rows, damage)


def redis_protocol(folder: Path, server: Server) -> Made:
    """A store of its own names, filled without any Milvus: a feature store knows of none."""
    from threadmatch.indexer.cluster.contents import FEATURE, Contents
    from threadmatch.indexer.cluster.feature_store import RowContents, StoredFeatures
    from threadmatch.indexer.cluster.items import Items, RowEntry
    from threadmatch.indexer.cluster.names import Names
    from threadmatch.indexer.cluster.settings import ClusterSettings
    from threadmatch.indexer.cluster.store import RecordStore

    settings = ClusterSettings.read(settings_file(folder, stores=[server]))
    store, names = RecordStore(settings.store), Names(f"t{uuid.uuid4().hex[:20]}", "shop")
    contents = Contents(store, names.prefix, MODEL.features_fingerprint)
    items = Items(store, names, "000001")
    rows: dict[str, int] = {}
    numbers: dict[str, int] = {}
    for row, name in enumerate(NAMES, start=500):
        numbers[name], command = contents.command(content(name, VECTORS[name]))
        store.ask([command, items.entry_command(RowEntry(row, name, numbers[name]))])
        rows[name] = row

    def damage(item: str, feature: str) -> None:
        spec = next(spec for spec in MODEL.features if spec.name == feature)
        key = contents.key(numbers[item])
        whole = store.one("HGET", key, FEATURE + spec.key)
        store.write("HSET", key, FEATURE + spec.key, whole[:-1] + bytes([whole[-1] ^ 1]))

    return Made(StoredFeatures(contents, RowContents(items), MODEL.features), rows, damage)


BODIES: dict[str, Body] = {
    "SQLite": sqlite,
    "SQLite, the former format": sqlite_of_the_former_format,
    "side files": mapped,
}


@pytest.fixture(params=[*BODIES, "Redis's protocol"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    if request.param not in BODIES:
        return redis_protocol(tmp_path, request.getfixturevalue("redis_server"))
    return BODIES[request.param](tmp_path / "gallery")


def test_it_says_what_it_keeps(given: Made) -> None:
    assert given.store.specs == MODEL.features


def test_features_come_in_the_order_that_was_asked_in_to_the_last_bit(given: Made) -> None:
    names = [NAMES[n] for n in np.random.default_rng(0).permutation(len(NAMES))]
    rows = [given.rows[name] for name in names]
    found = given.store.get("regions", rows)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, np.stack([regions(name) for name in names]))
    vectors = given.store.get("embedding", rows)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.stack([VECTORS[name] for name in names]))


def test_a_row_may_be_asked_for_twice(given: Made) -> None:
    row = given.rows["item-3"]
    np.testing.assert_array_equal(given.store.get("regions", [row, row]), np.stack([regions("item-3")] * 2))


def test_nothing_asked_is_nothing_got(given: Made) -> None:
    assert given.store.get("regions", []).shape == (0, *MODEL.features[1].shape)


def test_what_was_got_is_the_callers_own(given: Made) -> None:
    rows = [given.rows["item-1"], given.rows["item-50"]]
    given.store.get("regions", rows)[:] = 0
    np.testing.assert_array_equal(given.store.get("regions", rows), np.stack([regions("item-1"), regions("item-50")]))


def test_a_feature_that_is_not_kept_is_named(given: Made) -> None:
    with pytest.raises(FeatureMissingError, match=r"'cells' \(it has embedding, regions\)"):
        given.store.get("cells", [given.rows["item-0"]])


def test_a_row_that_is_not_there_is_named(given: Made) -> None:
    with pytest.raises(DamagedRecordError) as raised:
        given.store.get("regions", [given.rows["item-0"], 10**9])
    assert (raised.value.row, raised.value.name) == (10**9, "regions")


@pytest.mark.parametrize("item", ["item-2", "item-55"])
@pytest.mark.parametrize("feature", ["regions", "embedding"])
def test_a_damaged_record_is_named_and_its_neighbours_are_not(given: Made, item: str, feature: str) -> None:
    given.damage(item, feature)
    with pytest.raises(DamagedRecordError) as raised:
        given.store.get(feature, [given.rows["item-0"], given.rows[item]])
    assert (raised.value.row, raised.value.name) == (given.rows[item], feature)
    assert len(given.store.get(feature, [given.rows["item-0"], given.rows["item-3"]])) == 2
    others = {"regions", "embedding"} - {feature}
    assert all(len(given.store.get(name, [given.rows[item]])) == 1 for name in others)


def test_threads_share_it(given: Made) -> None:
    failures: list[BaseException] = []

    def read(seed: int) -> None:
        try:
            names = [NAMES[n] for n in np.random.default_rng(seed).permutation(len(NAMES))]
            found = given.store.get("regions", [given.rows[name] for name in names])
            np.testing.assert_array_equal(found, np.stack([regions(name) for name in names]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
