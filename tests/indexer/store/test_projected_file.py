"""The projection of a graph's vectors is derived: with it or without, scores are the same, and faults are named."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.made_up import SIZE, edit, unit
from tests.support.patience import PATIENCE_S
from tests.support.projections import ITEMS, current, files, make_few_many, put
from tests.support.side_files import FAULTS, damage_record
from threadmatch.indexer.projection import (
    FORMER_RECALL,
    LIKE_SHARE,
    PROJECTED,
    RECALL_LIKE,
    RECALL_UNLIKE,
    WIDE_LIKE,
    WIDE_UNLIKE,
)
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store import generations, projected_file, projected_recall
from threadmatch.indexer.store.publish import recover
from threadmatch.indexer.store.versions import Store
from threadmatch.indexer.upkeep import compact, rollback, verify

FILTERS = ("part < 1", "part < 3", "part < 1 and price != 7", "part < 5", "part == 0 and price < 40", "part > 99", None)


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    make_few_many(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generation with a projection."""
    folder = tmp_path_factory.mktemp("made") / "gallery"
    with pytest.MonkeyPatch.context() as patch:
        make_few_many(patch)
        put(folder, range(ITEMS))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "gallery"))


def change(folder: Path) -> None:
    """Put and delete as the service does."""
    about = {"item-20": {"part": 0, "price": 1}, "new": {"part": 0, "price": 2}}
    edit(folder, {"item-20": unit(1, seed=7777)[0], "new": unit(5, seed=3)[0]}, metadata=about, gone=["item-30"])


def answers(folder: Path) -> list[list[tuple[str, float]]]:
    """By filter and query the ids and distances of a shortlist."""
    snapshot = Gallery.open(folder).current
    return [
        [(found.id, round(found.distance, 6)) for found in snapshot.shortlist(query, 60, filter=expression)]
        for expression in FILTERS
        for query in unit(5, seed=3)
    ]


def test_with_the_file_filtered_searches_give_what_comparing_with_all_gives(folder: Path) -> None:
    parameters = current(folder).index.parameters
    assert parameters[PROJECTED] == SIZE
    assert float(parameters[RECALL_LIKE]) >= projected_recall.LIKE_AIM
    assert float(parameters[RECALL_UNLIKE]) >= projected_recall.UNLIKE_AIM
    change(folder)
    with_file = answers(folder)
    assert verify(folder).problems == []
    (path,) = files(folder)
    path.unlink()
    assert answers(folder) == with_file
    by_filter = dict(zip(FILTERS, with_file[::5], strict=True))
    assert [len(found) for found in by_filter.values()] == [60, 60, 60, 60, 60, 0, 60]
    first, second, *_ = (name for name, _ in by_filter["part < 1"])
    assert first == "new", "edits are searched beside it"
    edit(folder, {}, gone=[second])
    assert second not in [name for name, _ in answers(folder)[0]], "and hide what it has"


def test_the_file_is_what_searches_use(folder: Path) -> None:
    expected = answers(folder)
    (path,) = files(folder)
    stamp = current(folder).index
    of_another = unit(ITEMS, seed=5)
    weights = projected_file.Axes.of(of_another, SIZE).weights
    with projected_file.RecordWriter(path.with_name("x"), projected_file.RecordFile(path).about, align=64) as writer:
        writer.add(0, weights.tobytes())
        writer.add(ITEMS, projected_file.Axes.of(of_another, SIZE).codes(of_another).tobytes())
    path.with_name("x").replace(path)
    assert projected_file.read(path.parent, stamp) is not None
    changed = [before != after for before, after in zip(expected, answers(folder), strict=True)]
    assert all(changed[:15]), "a tenth and three tenths are chosen by it"
    assert not any(changed[15:]), "half of all, few, none and all are not"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_no_answer_is_named_and_mended(
    folder: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected, (path,) = answers(folder), files(folder)
    whole = path.read_bytes()
    FAULTS[fault](path)
    caplog.clear()
    assert answers(folder) == expected
    assert "a side file is not used" in [record.message for record in caplog.records]
    assert any("projected.rows" in problem for problem in verify(folder).problems)
    compact(folder, keep=1)
    assert verify(folder).problems == []
    (path,) = (found for found in files(folder) if found.parent.name == current(folder).generation)
    assert path.read_bytes() == whole
    caplog.clear()
    assert answers(folder) == expected
    assert caplog.records == []


def test_damage_anywhere_in_it_is_found_when_it_is_opened(folder: Path) -> None:
    (path,) = files(folder)
    for row in (0, 2100):
        damage_record(path, row)
        assert projected_file.read(path.parent, current(folder).index) is None
        damage_record(path, row)
    assert projected_file.read(path.parent, current(folder).index) is not None


def test_a_gallery_of_a_former_version_is_compared_exactly_until_it_is_published_again(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    assert PROJECTED not in put(folder, range(ITEMS), least=ITEMS + 1).index.parameters
    assert files(folder) == []
    assert verify(folder).problems == []
    before = answers(folder)
    compact(folder)
    assert answers(folder) == before
    assert files(folder) == []
    assert PROJECTED in put(folder, range(3)).index.parameters
    assert len(files(folder)) == 1


def test_it_is_linked_where_the_index_is_and_made_anew_where_that_grows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadmatch.indexer.store.generation_index.DELTA_MIN_ITEMS", 100)
    first = current(folder).index
    linked = put(folder, range(10)).index
    assert linked == first
    one, other = files(folder)
    assert one.stat().st_ino == other.stat().st_ino, "one copy on the disk"
    one.write_bytes(b"")  # of both: they are one
    again = put(folder, range(12)).index
    assert again == first
    assert verify(folder).problems == [], "what is damaged is not linked"
    grown = put(folder, range(ITEMS, ITEMS + 400)).index
    assert grown.type == "hnsw"
    assert "measuredItems" in grown.parameters
    assert grown.items > ITEMS
    assert verify(folder).problems == []
    expected = answers(folder)
    files(folder)[-1].unlink()
    assert answers(folder) == expected
    rollback(folder, "000003")
    assert verify(folder).problems == []


def test_where_recall_is_too_low_there_is_no_file_and_the_manifest_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(projected_file, "COMPONENTS", (1,))
    folder = tmp_path / "gallery"
    parameters = put(folder, range(ITEMS)).index.parameters
    assert parameters[PROJECTED] == 0
    assert 0.1 < float(parameters[RECALL_LIKE]) < 0.9
    assert parameters[WIDE_LIKE] == 220, "the widest was tried"
    assert files(folder) == []
    assert any("projection" in record.message for record in caplog.records)
    caplog.clear()
    assert verify(folder).problems == []
    snapshot = Gallery.open(folder).current
    (query,) = unit(1, seed=3)
    best = sorted(1 - float(unit(1, seed=n)[0] @ query) for n in range(0, ITEMS, 10))[:60]
    found = [candidate.distance for candidate in snapshot.shortlist(query, 60, filter="part < 1")]
    np.testing.assert_allclose(found, best, atol=1e-3)
    assert caplog.records == []


def test_a_projection_of_a_former_version_is_used_as_it_is_and_measured_anew_by_the_next_generation(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = answers(folder)
    (path,) = files(folder)
    manifest = current(folder)
    former: dict[str, int | str] = {PROJECTED: SIZE, WIDE_LIKE: 210, FORMER_RECALL: "1.0000"}
    others = {name: value for name, value in manifest.index.parameters.items() if not name.startswith("projected")}
    stamp = manifest.index.model_copy(update={"parameters": {**others, **former}})
    generations.write_manifest(path.parent, manifest.model_copy(update={"index": stamp}))
    assert answers(folder) == expected
    assert verify(folder).problems == []
    path.write_bytes(b"")
    compact(folder)
    assert answers(folder) == expected
    assert current(folder).index.parameters == stamp.parameters
    parameters = put(folder, range(3)).index.parameters
    assert {RECALL_LIKE, RECALL_UNLIKE, WIDE_UNLIKE, LIKE_SHARE} <= parameters.keys()
    assert FORMER_RECALL not in parameters
    assert verify(folder).problems == []
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def until_killed(folder: Path, mended: bool, moment: str) -> None:
    """Compact or publish in a process that dies by -9 when it opens the first file of that name."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and ".partial/" in str(arguments[0]) and moment in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    if mended:
        compact(folder)
    else:
        put(folder, range(ITEMS, ITEMS + 300))


@pytest.mark.parametrize(
    ("mended", "moment"), [(True, "projected.rows"), (False, "projected.rows"), (False, "alive.rows")]
)
def test_killed_while_it_is_written_answers_stay_and_the_next_time_ends_it(
    folder: Path, mended: bool, moment: str
) -> None:
    if mended:
        files(folder)[0].write_bytes(b"")
    before = answers(folder)
    process = multiprocessing.get_context("spawn").Process(target=until_killed, args=(folder, mended, moment))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL
    assert answers(folder) == before
    store = Store(folder)
    if unfinished := recover(folder, store):
        store.drop_run(unfinished)
    store.close()
    if mended:
        compact(folder)
        assert answers(folder) == before
    else:
        put(folder, range(ITEMS, ITEMS + 300))
    assert verify(folder).problems == []
    assert not list((folder / "generations").glob(".*.partial"))
    assert files(folder)[-1].stat().st_size > current(folder).items * SIZE
