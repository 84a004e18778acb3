"""Edits beside real processes: a writer killed at many moments, a real ingestion under way."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.indexer.test_kill import committed, finish, start
from tests.support import edits
from tests.support.edits import put
from tests.support.forked import Forked
from tests.support.patience import wait_until
from tests.support.shop import Shop, contents
from threadmatch.indexer.edits.folding import fold
from threadmatch.indexer.store.database import open_read_only
from threadmatch.indexer.upkeep import verify


def writer(folder: Path, first: int) -> Forked:
    """A process that puts items `w-FIRST`, `w-FIRST+1`, ... and says each one once it is durable."""
    return Forked(edits.main, str(folder), str(first))


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_said(shop: Shop) -> None:
    shop.ingest(shop.rows(3))
    said: set[str] = set()
    for attempt, after_s in enumerate((0.0, 0.003, 0.01, 0.002)):
        process = writer(shop.gallery, 1000 * attempt)
        said |= {next(process.stdout).strip() for _ in range(1 + 4 * attempt)}
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        said |= {line.strip() for line in process.stdout}
        assert process.wait() == -signal.SIGKILL
        there = {name: item.metadata for name, (item, _) in contents(shop.open()).items()}
        assert said <= there.keys()
        for name in there.keys() - {f"item-{n}" for n in range(3)}:
            assert there[name] == {"name": name}, "whole or not at all"
        if attempt == 1:
            fold(shop.gallery)
    assert len(said) >= 1 + 5 + 9 + 13
    assert verify(shop.gallery).problems == []


@pytest.mark.parametrize("how", ["it ends", "it is killed and run again"])
def test_edits_during_a_real_ingestion_survive_it(shop: Shop, how: str) -> None:
    shop.ingest(shop.rows(4))
    reader = shop.open()
    before = committed(shop.gallery)
    rows = [shop.row(number, price=-number) for number in range(80)]
    catalogue = shop.write(rows)
    process = start(shop, catalogue, held_after=8)
    wait_until(lambda: committed(shop.gallery) >= before + 8 or process.poll() is not None, "two batches are done")
    made: dict[str, int] = {}
    for number in (0, 3, 79):  # in the gallery already; and the last row, which is still to come
        put(shop.gallery, f"item-{number}", 200 + number, price=1000 + number)
        made[f"item-{number}"] = 1000 + number
    put(shop.gallery, "new", 300, price=1)
    assert process.poll() is None, "the ingestion still runs, or this shows nothing"
    assert reader.item("item-0").metadata["price"] == 1000, "found while the ingestion runs"
    if how == "it is killed and run again":
        process.send_signal(signal.SIGKILL)
        process.communicate()
        put(shop.gallery, "item-1", 301, price=1001)
        made["item-1"] = 1001
        process = start(shop, catalogue)
    assert finish(process)["items"] == 80
    there = contents(shop.open())
    assert len(there) == 81
    wanted = {f"item-{number}": -number for number in range(80)} | made | {"new": 1}
    assert {name: item.metadata["price"] for name, (item, _) in there.items()} == wanted
    assert verify(shop.gallery).problems == []
    connection = open_read_only(shop.gallery)
    assert connection.execute("SELECT count(*) FROM runs WHERE state = 'open'").fetchone() == (0,)
    connection.close()
