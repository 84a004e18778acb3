"""How the failure run counts, and a small run of it; the one of docs/cluster.md is a command, minutes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadmatch.service.bench.cluster_failures import Call, Event, run, summed, table
from threadmatch.service.bench.engines import lacking_milvus


def test_a_call_counts_for_the_failure_that_it_ended_after() -> None:
    calls = [
        Call("search", 9.0, 0.1, "failed"),  # before anything: nobody's
        Call("search", 10.5, 0.2, "done"),
        Call("write", 12.0, 1.5, "unavailable"),
        Call("search", 13.0, 0.1, "wrong"),
        Call("search", 20.0, 7.0, "done"),
    ]
    first, second = summed(calls, [Event("one", 10.0), Event("two", 20.0)])
    assert (first.calls, first.unavailable, first.wrong, first.failed) == (3, 1, 1, 0)
    assert (first.recovered_s, first.stall_s) == (3.0, 1.5)
    assert (second.calls, second.recovered_s, second.stall_s) == (1, 0.0, 7.0)


def test_the_table_names_what_was_lost() -> None:
    event = {"name": "one", "calls": 3, "unavailable": 1, "failed": 0, "wrong": 0, "recovered_s": 2.5, "stall_s": 1.0}
    calm = {"store_bytes_an_item": 9_000, "moment_ms": 0.4, "shortlist_ms": 8.0, "gather_ms": 5.0}
    told = table(
        {"events": [event], "calm": calm, "copy": {"seconds": 3.0}, "writes_answered": 7, "writes_lost": ["item-3"]}
    )
    assert "| one | 3 | 1 | 0 | 0 | 2.5 s | 1.0 s |" in told
    assert "7 writes were answered; 1 of them are lost ['item-3']." in told


@pytest.mark.cluster
@pytest.mark.skipif(bool(lacking_milvus()), reason=lacking_milvus())
def test_hosts_that_die_under_load_lose_nothing_and_answer_nothing_wrong(tmp_path: Path) -> None:
    result = run(count=300, clients=2, writers=1, cut_s=1.0, work=tmp_path)
    assert result["writes_lost"] == []
    assert result["writes_answered"] > 0
    for event in result["events"]:
        assert (event["wrong"], event["failed"]) == (0, 0), event
    assert "Milvus killed" in table(result)
