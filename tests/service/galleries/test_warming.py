"""A service warms its galleries in the background, within the memory that is free, and says so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.support.patience import PATIENCE_S, until, wait_until
from tests.support.serving import build_gallery, post, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.galleries.warming import Warming, available_bytes


class Slow:
    """A gallery whose warming lasts until it is told to leave off, or may end."""

    def __init__(self) -> None:
        self.rooms: list[int] = []
        self.may_end = threading.Event()
        self.left_off = False
        self.generation = "000001"

    def warm(self, room_bytes: int, stopped: Callable[[], bool]) -> tuple[int, int]:
        self.rooms.append(room_bytes)
        while not self.may_end.wait(0.01):
            if stopped():
                self.left_off = True
                return 0, 1
        return 1, 1


def test_it_begins_once_at_a_time_and_again_for_what_is_new() -> None:
    slow = Slow()
    warming = Warming("shop", cast(Gallery, slow), 0.5)
    warming.start()
    warming.start()
    slow.may_end.set()
    assert warming.join(PATIENCE_S)
    assert len(slow.rooms) == 1
    assert slow.rooms[0] > 2**20
    warming.start()
    assert warming.join(PATIENCE_S)
    assert len(slow.rooms) == 2


def test_a_generation_that_comes_meanwhile_is_warmed_in_place_of_the_one_before() -> None:
    slow = Slow()
    warming = Warming("shop", cast(Gallery, slow), 0.5)
    warming.start()
    wait_until(lambda: len(slow.rooms) == 1, "the first was begun")
    slow.generation = "000002"
    wait_until(lambda: len(slow.rooms) == 2, "the second was begun")
    assert slow.left_off
    slow.may_end.set()
    assert warming.join(PATIENCE_S)
    assert len(slow.rooms) == 2


def test_it_leaves_off_when_the_service_stops_and_does_not_begin_again() -> None:
    slow = Slow()
    warming = Warming("shop", cast(Gallery, slow), 0.5)
    warming.start()
    warming.stop()
    assert warming.join(PATIENCE_S)
    assert slow.left_off or not slow.rooms
    warming.start()
    assert len(slow.rooms) <= 1


def test_a_share_of_nothing_warms_nothing() -> None:
    slow = Slow()
    warming = Warming("shop", cast(Gallery, slow), 0.0)
    warming.start()
    assert warming.join(PATIENCE_S)
    assert slow.rooms == []


def test_memory_is_what_the_container_leaves_and_its_files_can_make_room(tmp_path: Path) -> None:
    free = available_bytes(tmp_path)
    assert free > 2**20
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 500\nactive_file 100\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert available_bytes(tmp_path) == 1000 - 900 + 600
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) > 2**20


async def test_a_service_warms_its_gallery_beside_the_first_searches(
    tmp_path: Path, tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    folder = build_gallery(tmp_path / "gallery", tiny_model, ["one", "two"])
    gallery = Gallery.open(folder, features_fingerprint=tiny_model.features_fingerprint)
    with caplog.at_level(logging.INFO):
        async with running(create_app(settings(folder), model=tiny_model, gallery=gallery)) as client:
            assert (await post(client)).status_code == 200
            await until(lambda: any(record.message == "gallery warmed" for record in caplog.records))
