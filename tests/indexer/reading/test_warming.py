"""Warming reads a generation's files into memory, as far as there is room, and changes nothing else."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.made_up import build, unit
from tests.support.side_files import forget, side_files
from threadmatch.indexer.index import VectorIndex
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.warming import files_bytes, warm
from threadmatch.indexer.store import generations


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "gallery"
    build(folder, {f"item-{number}": unit(1, seed=number)[0] for number in range(400)}, flat_max=100)
    return folder


def opened(folder: Path) -> tuple[Path, VectorIndex]:
    manifest = Gallery.open(folder).manifest
    generation = generations.generation_folder(folder, manifest.generation)
    return generation, VectorIndex.read(generation / generations.INDEX_FILE, manifest.index)


def in_memory(path: Path) -> bool:
    """Whether all of a file is in the page cache."""
    with path.open("rb") as file:
        room = bytearray(path.stat().st_size)
        try:
            return os.preadv(file.fileno(), [room], 0, os.RWF_NOWAIT) == len(room)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                pytest.skip("this file system does not say what is in memory")
            return False


def test_what_was_on_the_disk_alone_is_in_memory_afterwards(folder: Path) -> None:
    features = next(path for path in side_files(folder) if "feature" in path.name)
    forget(features)
    if in_memory(features):
        pytest.skip("files cannot be sent to the disk here: it is in memory itself")
    gallery = Gallery.open(folder)
    warmed, whole = gallery.warm(sys.maxsize, lambda: False)
    assert warmed == whole > features.stat().st_size
    assert in_memory(features)


def test_it_reads_as_much_as_has_room_the_index_first_and_nothing_where_that_has_none(folder: Path) -> None:
    generation, index = opened(folder)
    assert not index.exact
    whole = files_bytes(generation, index)
    assert warm(generation, index, whole) == whole
    assert warm(generation, index, index.size_bytes - 1) == 0
    assert warm(generation, index, index.size_bytes) == index.size_bytes
    assert warm(generation, index, index.size_bytes + 700) == index.size_bytes + 700


def test_it_leaves_off_when_it_is_told_to(folder: Path) -> None:
    generation, index = opened(folder)
    asked = iter([False, False, False, True])
    done = warm(generation, index, sys.maxsize, lambda: next(asked))
    assert index.size_bytes < done < files_bytes(generation, index)


@pytest.mark.parametrize("flat_max", [1000, 100])
def test_every_number_of_an_index_is_touched_and_none_changes(tmp_path: Path, flat_max: int) -> None:
    vectors = {f"item-{number}": unit(1, seed=number)[0] for number in range(300)}
    build(tmp_path / "gallery", vectors, flat_max=flat_max)
    _, index = opened(tmp_path / "gallery")
    before = index.vectors(index.ids)
    assert sum(index.touched()) == index.size_bytes > 2 * 300 * index.dim
    np.testing.assert_array_equal(index.vectors(index.ids), before)
