"""One thread watches over many calls, and speaks up for those alone that are late."""

from __future__ import annotations

import threading

from tests.support.patience import PATIENCE_S
from threadmatch.indexer.catalogue.decoding.deadlines import Deadlines


def test_only_what_is_late_is_called_and_all_by_one_thread() -> None:
    deadlines = Deadlines()
    late, called, threads = threading.Event(), [], set()

    def call(name: str) -> None:
        called.append(name)
        threads.add(threading.current_thread())
        late.set()

    with deadlines.within(0.0, lambda: call("first")):
        assert late.wait(PATIENCE_S)
    late.clear()
    with deadlines.within(PATIENCE_S, lambda: call("in time")):
        pass
    with deadlines.within(PATIENCE_S, lambda: call("long")), deadlines.within(0.01, lambda: call("sooner")):
        assert late.wait(PATIENCE_S), "a nearer deadline is not kept waiting by a later one"
    assert called == ["first", "sooner"]
    assert len(threads) == 1
