"""Side files are derived: whatever becomes of them, answers stay, the fault is named, and they are made again."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.made_up import MODEL, SIZE, build, edit, unit
from tests.support.patience import PATIENCE_S
from tests.support.side_files import FAULTS, damage_record, forget, side_files, take_away
from threadmatch.indexer.reading.filters import parse_filter
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store import column_chunks, generations
from threadmatch.indexer.store.record_file import Described, RecordFile, RecordWriter, SideFileError
from threadmatch.indexer.upkeep import compact, rollback, verify

FILTERS = (None, "price < 7", 'color == "red" and price != 4', '"two" in tags', "price == None", 'id == "item-3"')


def about(number: int) -> dict[str, Any]:
    every = {"price": number, "color": ("red", "blue")[number % 2], "tags": ["one", "two"][: number % 3]}
    return {name: value for name, value in every.items() if (number + len(name)) % 5}


def put(folder: Path, numbers: range, *, gone: list[str] | None = None) -> None:
    items = {f"item-{number}": unit(1, seed=number)[0] for number in numbers}
    build(folder, items, metadata={f"item-{number}": about(number) for number in numbers}, gone=gone or [])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generations, the second with replaced and deleted rows, and edits on top."""
    folder = tmp_path_factory.mktemp("made") / "gallery"
    put(folder, range(40))
    put(folder, range(35, 50), gone=["item-7"])
    edit(folder, {"item-2": unit(1, seed=99)[0]}, metadata={"item-2": {"price": 2, "color": "red"}}, gone=["item-9"])
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "gallery"))


def answers(folder: Path) -> list[Any]:
    """All that searches read of a gallery: by filter ids, distances, metadata, features."""
    snapshot = Gallery.open(folder).current
    found: list[Any] = []
    for expression in FILTERS:
        candidates = snapshot.shortlist(unit(1, seed=3)[0], 60, filter=expression)
        found.append([(c.id, round(c.distance, 6)) for c in candidates])
        found.append([(item.id, item.product_id, item.metadata, item.box) for item in snapshot.items(candidates)])
        found.append(snapshot.features("regions", candidates).tobytes())
    return found


def test_files_say_what_the_database_says(folder: Path) -> None:
    expected = answers(folder)
    assert len(expected[0]) == 48
    assert all(0 < len(expected[3 * n]) < 48 for n in range(1, len(FILTERS)))
    take_away(folder)
    assert answers(folder) == expected


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["columns", "cards", "feature-regions", "alive"])
def test_a_fault_changes_no_answer_is_named_and_mended(
    folder: Path, name: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = answers(folder)
    current = generations.current_name(folder)
    for path in side_files(folder):
        if path.name.startswith(name) and path.parent.name == current:
            FAULTS[fault](path)
    caplog.clear()
    assert answers(folder) == expected
    if fault not in ("gone", "of another form"):
        assert any("file" in record.message or "damaged" in record.message for record in caplog.records)
    problems = verify(folder).problems
    assert any(name in problem or "side files" in problem for problem in problems), problems
    compact(folder)
    assert verify(folder).problems == []
    caplog.clear()
    after = answers(folder)
    assert after[::3] == expected[::3]
    assert caplog.records == []


def test_a_generation_takes_over_the_files_of_the_one_before_and_adds_what_is_new(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    put(folder, range(60))
    put(folder, range(60, 63))
    put(folder, range(63, 64))
    names = {
        generation: sorted(path.name for path in side_files(folder) if path.parent.name == generation)
        for generation in ("000001", "000002", "000003")
    }
    cards = {generation: [name for name in listed if "cards" in name] for generation, listed in names.items()}
    assert cards["000001"] == ["cards.000000000060.rows"]
    assert cards["000002"] == ["cards.000000000060.rows", "cards.000000000063.rows"]
    assert cards["000003"] == ["cards.000000000060.rows", "cards.000000000063.rows", "cards.000000000064.rows"]
    first, third = (generations.generation_folder(folder, name) for name in ("000001", "000003"))
    shared = "feature-regions.000000000060.rows"
    assert (first / shared).stat().st_ino == (third / shared).stat().st_ino, "one copy on the disk"
    put(folder, range(64, 100))
    assert len([path for path in side_files(folder) if path.parent.name == "000004" and "cards" in path.name]) == 1
    put(folder, range(60), gone=[f"item-{n}" for n in range(60, 100)])
    cards_file = next(path for path in side_files(folder) if path.parent.name == "000005" and "cards" in path.name)
    assert len(RecordFile(cards_file)) == 60, "dead rows do not stay for ever"
    assert verify(folder).problems == []


def test_rolled_back_and_built_on_again_answers_are_those_of_the_database(folder: Path) -> None:
    rollback(folder, "000001", edits=False)
    put(folder, range(3, 45))
    expected = answers(folder)
    take_away(folder)
    assert answers(folder) == expected


def test_filters_of_many_chunks_are_those_of_the_database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_chunks, "CHUNK_ROWS", 7)  # a constant of scale, not the thing under test
    put(folder, range(20, 30))
    take_away(folder)
    expected = answers(folder)
    compact(folder)
    files = [RecordFile(path) for path in side_files(folder) if "columns" in path.name]
    assert max(map(len, files)) == 7
    assert answers(folder)[::3] == expected[::3]
    assert parse_filter("price < 7", {"price": "integer"}) is not None


def test_a_file_that_was_not_finished_is_no_file(tmp_path: Path) -> None:
    def dies() -> None:
        with RecordWriter(tmp_path / "x", Described("x", 1, 9, {})) as writer:
            writer.add(1, b"one")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        dies()
    with pytest.raises(SideFileError, match="damaged"):
        RecordFile(tmp_path / "x")
    with pytest.raises(SideFileError, match="cannot be read"):
        RecordFile(tmp_path / "nothing")


@pytest.mark.parametrize("size", [100, 5000])  # mapped, and read from the descriptor
def test_records_asked_for_together_are_those_asked_for_one_by_one_and_damage_stays_its_own(
    tmp_path: Path, size: int
) -> None:
    kept = [bytes([n]) * (size + n) for n in range(50)]
    with RecordWriter(tmp_path / "x", Described("x", 1, 50, {}), align=64) as writer:
        for number, data in enumerate(kept):
            writer.add(number + 1, data)
    damage_record(tmp_path / "x", 4)
    file = RecordFile(tmp_path / "x")
    assert list(file.read_many([0, 2, 3, 4, 49])) == [kept[0], kept[2], None, kept[4], kept[49]]
    assert [file.read(place) for place in (3, 4)] == [None, kept[4]]
    assert file.damaged() == [4]


@pytest.mark.parametrize("size", [100, 5000])  # mapped, and read from the descriptor
@pytest.mark.parametrize("told", [True, False])  # whether the kernel says what is in memory
def test_records_are_gathered_into_rows_from_memory_and_from_the_disk(
    tmp_path: Path, size: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not told:
        monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    kept = np.random.default_rng(0).integers(0, 256, (60, size), np.uint8)
    with RecordWriter(tmp_path / "x", Described("x", 1, 61, {})) as writer:
        for number, data in enumerate(kept):
            writer.add(number + 1, data.tobytes())
        writer.add(61, b"of another size")
    damage_record(tmp_path / "x", 9)
    file = RecordFile(tmp_path / "x")
    forget(tmp_path / "x")
    places = np.array([59, 8, 60, 0, 31, 8, 17])
    for _ in range(2):  # from the disk where there is one, then from memory
        rows = np.zeros((len(places), size), np.uint8)
        whole = file.gather(places, size, rows)
        assert whole.tolist() == [True, False, False, True, True, False, True]
        np.testing.assert_array_equal(rows[whole], kept[places[whole]])


def test_a_file_is_closed_when_nobody_has_it_any_more(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "x", Described("x", 1, 1, {})) as writer:
        writer.add(1, b"one")
    files = [RecordFile(tmp_path / "x") for _ in range(5)]
    assert descriptors_of(tmp_path / "x") >= len(files)
    files.clear()
    gc.collect()
    assert descriptors_of(tmp_path / "x") == 0


def descriptors_of(path: Path) -> int:
    return sum(os.path.realpath(entry) == str(path.resolve()) for entry in Path("/proc/self/fd").iterdir())


def compact_until(folder: Path, moment: str) -> None:
    """`compact` in a process that dies by -9 when it opens the first file of that name."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and f".partial/{moment}" in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    compact(folder)


@pytest.mark.parametrize("moment", ["feature-regions", "alive"])
def test_killed_while_files_are_made_again_answers_stay_and_the_next_compaction_ends_it(
    folder: Path, moment: str
) -> None:
    put(folder, range(50, 650))
    for path in side_files(folder):
        if "cards" in path.name:
            path.write_bytes(b"")
    before = answers(folder)
    process = multiprocessing.get_context("spawn").Process(target=compact_until, args=(folder, moment))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL
    assert answers(folder)[::3] == before[::3]
    compact(folder)
    after = answers(folder)
    assert after[::3] == before[::3]
    assert verify(folder).problems == []
    take_away(folder)
    assert answers(folder) == after
    assert not list((folder / "generations").glob(".*.partial"))


def test_features_are_unpacked_as_they_were_packed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        snapshot = Gallery.open(folder).current
        found = snapshot.shortlist(np.eye(1, SIZE, dtype=np.float32)[0], 60)
        assert snapshot.features("regions", found).shape == (48, *MODEL.features[1].shape)
    assert caplog.records == []
