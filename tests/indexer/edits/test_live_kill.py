"""Edits beside real processes: a writer killed at many moments, a real ingestion under way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.indexer.test_kill import committed, finish, start
from tests.support.checkout import ROOT
from tests.support.edits import put
from tests.support.patience import wait_until
from tests.support.shop import Shop, contents
from threadmatch.indexer.edits.folding import fold
from threadmatch.indexer.store.database import open_read_only
from threadmatch.indexer.upkeep import verify


def writer(folder: Path, first: int) -> subprocess.Popen[str]:
    """A process that puts items `w-FIRST`, `w-FIRST+1`, ... and says each one once it is durable."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.edits", str(folder), str(first)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_said(shop: Shop) -> None:
    shop.ingest(shop.rows(3))
    said: set[str] = set()
    for attempt, after_s in enumerate((0.0, 0.003, 0.01, 0.002)):
        process = writer(shop.gallery, 1000 * attempt)
        assert process.stdout is not None
        said |= {process.stdout.readline().strip() for _ in range(1 + 4 * attempt)}
        time.sleep(after_s)
        process.kill()
        said |= {line.strip() for line in process.stdout if line.endswith("\n")}
        process.wait()
        process.stdout.close()
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
