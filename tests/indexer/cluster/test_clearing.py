"""Photos that nobody names go; one that is named at whatever moment of the clearing stays whole."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import address, edit_cluster, fill
from tests.support.made_up import MODEL, content, unit
from threadmatch.indexer import keeping
from threadmatch.indexer.opening import open_gallery
from threadmatch.service.bench.engines import Server

pytest.importorskip("redis", reason="the extra `cluster` is not installed")
pytest.importorskip("pymilvus", reason="the extra `cluster` is not installed")

from threadmatch.indexer.cluster.clearing import clear_contents
from threadmatch.indexer.cluster.contents import Contents
from threadmatch.indexer.cluster.items import Items, RowEntry
from threadmatch.indexer.cluster.names import Names
from threadmatch.indexer.cluster.settings import StoreSettings
from threadmatch.indexer.cluster.store import Command, RecordStore

MADE = [content(f"item-{n}", vector) for n, vector in enumerate(unit(6))]
SPECS = MODEL.features


class Watched(RecordStore):
    """Lets something happen before the n-th of its calls."""

    def __init__(self, settings: StoreSettings, at: int, happen: Callable[[], None]) -> None:
        self.asked, self._at, self._happen = 0, at, happen
        super().__init__(settings)

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        self.asked += 1
        if self.asked == self._at:
            self._happen()
        return super().ask(commands)


@pytest.fixture
def settings(redis_server: Server) -> StoreSettings:
    return StoreSettings(nodes=(redis_server.place,))


@pytest.fixture
def items(settings: StoreSettings) -> Items:
    return Items(RecordStore(settings), Names(f"t{uuid.uuid4().hex[:20]}", "shop"), "000001")


def stored(items: Items) -> tuple[Contents, list[int]]:
    contents = Contents(items.store, items.names.prefix, MODEL.features_fingerprint)
    commands = [contents.command(one) for one in MADE]
    items.store.ask([command for _, command in commands])
    return contents, [number for number, _ in commands]


def name(items: Items, row: int, number: int) -> None:
    items.store.write(*items.entry_command(RowEntry(row, f"id-{row}", number)))


def test_what_no_row_of_any_generation_names_goes(items: Items) -> None:
    contents, numbers = stored(items)
    name(items, 1, numbers[0])
    name(Items(items.store, Names(items.names.prefix, "other"), "000007"), 9, numbers[1])
    count, size = clear_contents(items.store, items.names.prefix)
    assert count == 4
    assert size > 4 * sum(spec.size_bytes for spec in SPECS)
    assert contents.lacking(numbers, SPECS) == set(numbers[2:])
    assert clear_contents(items.store, items.names.prefix) == (0, 0)


def test_what_is_named_and_claimed_at_whatever_moment_stays_or_is_sent_again(
    settings: StoreSettings, items: Items
) -> None:
    moment, ended = 0, False
    while not ended:
        moment += 1
        contents, numbers = stored(items)

        def use(contents: Contents = contents, number: int = numbers[0], moment: int = moment) -> None:
            name(items, moment, number)
            if contents.claim([number], SPECS):
                items.store.write(*contents.command(MADE[0])[1])

        watched = Watched(settings, moment, use)
        clear_contents(watched, items.names.prefix)
        ended = watched.asked < moment
        if not ended:
            assert contents.lacking([numbers[0]], SPECS) == set(), f"before call {moment}"
            assert contents.lacking(numbers[1:], SPECS) == set(numbers[1:]), "the others are nobody's"
        items.store.write("DEL", items.names.bucket("000001", 1))
    assert moment >= 4, "it was looked at between dooming, looking and deleting"


def test_a_clearing_that_dies_half_way_harms_nobody(settings: StoreSettings, items: Items) -> None:
    contents, numbers = stored(items)

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clear_contents(Watched(settings, 3, die), items.names.prefix)
    assert contents.lacking(numbers, SPECS) == set()
    name(items, 1, numbers[0])
    assert clear_contents(items.store, items.names.prefix)[0] == len(numbers) - 1


@pytest.mark.cluster
def test_compacting_clears_what_only_dropped_generations_had(cluster_settings: Path, tmp_path: Path) -> None:
    place = address(cluster_settings)
    vectors = unit(4, seed=11)
    fill(place, tmp_path / "one", {"a": vectors[0], "b": vectors[1]})
    fill(place, tmp_path / "two", {"a": vectors[2]})
    done = keeping.compact(place, keep=1)
    assert done["generations"] == 1
    assert done["contents"] >= 2
    assert keeping.verify(place).problems == []
    gallery = open_gallery(place)
    edit_cluster(gallery, {"a": vectors[0]})  # it was cleared away, and is put anew
    assert gallery.current.shortlist(vectors[0], 1)[0].distance < 1e-3
    assert keeping.compact(place, keep=1)["contents"] == 0, "what the former version had stays with its generation"
    gallery.close()
