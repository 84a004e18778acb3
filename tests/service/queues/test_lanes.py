"""Lanes: turns by client, budgets, callers that leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from tests.support.patience import until
from threadmatch.service.errors import OverloadedError, StoppedError
from threadmatch.service.queues import clients
from threadmatch.service.queues.lanes import FairLane, Stop


class Work:
    """Pieces of work that note their order and wait for a gate."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.stopped: list[str] = []
        self.gate = threading.Event()

    def piece(self, name: str) -> Callable[[Stop], str]:
        def do(stop: Stop) -> str:
            self.order.append(name)
            ended = threading.Event()
            stop.calls(lambda: (self.stopped.append(name), ended.set()))  # type: ignore[arg-type, func-returns-value]
            while not self.gate.wait(0.01) and not ended.is_set():
                pass
            return name

        return do


async def asked(lane: FairLane, client: str, work: Callable[[Stop], str], *, cost: int = 0) -> str:
    token = clients.current.set(client)
    try:
        return await lane.run(work, cost=cost)
    finally:
        clients.current.reset(token)


def asking(lane: FairLane, client: str, work: Callable[[Stop], str], *, cost: int = 0) -> asyncio.Task[str]:
    return asyncio.create_task(asked(lane, client, work, cost=cost))


async def test_a_client_with_one_piece_does_not_wait_for_another_s_forty() -> None:
    lane, work = FairLane("test", 1), Work()
    flood = [asking(lane, "flood", work.piece(f"flood-{n}")) for n in range(40)]
    await until(lambda: lane.running == 1)
    one = asking(lane, "one", work.piece("one"))
    await until(lambda: lane.waiting == 40)
    work.gate.set()
    assert await one == "one"
    assert await asyncio.gather(*flood) == [f"flood-{n}" for n in range(40)]
    assert work.order[:3] == ["flood-0", "one", "flood-1"]
    lane.close()


async def test_clients_take_turns() -> None:
    lane, work = FairLane("test", 1), Work()
    work.gate.set()
    await asyncio.gather(*(asked(lane, name, work.piece(name)) for name in "aaabbbccc"))
    assert [sorted(work.order[at : at + 3]) for at in (0, 3, 6)] == [list("abc")] * 3
    lane.close()


async def test_what_waits_for_a_caller_that_left_is_not_done_and_what_runs_is_asked_to_end() -> None:
    lane, work = FairLane("test", 1), Work()
    tasks = [asking(lane, "a", work.piece(name)) for name in ("first", "second", "third")]
    await until(lambda: lane.running == 1)
    for task in tasks[:2]:
        task.cancel()
    await until(lambda: work.stopped == ["first"])
    work.gate.set()
    assert await tasks[2] == "third"
    assert work.order == ["first", "third"]
    await until(lambda: lane.running == 0)
    lane.close()


async def test_the_costs_of_what_runs_stay_within_the_budget_and_nothing_overtakes() -> None:
    lane, work = FairLane("test", 4, budget=10), Work()
    tasks = [asking(lane, "a", work.piece(str(cost)), cost=cost) for cost in (6, 4, 7, 1)]
    await until(lambda: lane.running == 2)
    assert lane.waiting == 2
    work.gate.set()
    await asyncio.gather(*tasks)
    assert work.order == ["6", "4", "7", "1"]
    assert await asked(lane, "a", work.piece("30"), cost=30) == "30", "a single one may always run"
    lane.close()


async def test_a_client_may_have_so_much_waiting_and_another_as_much_again() -> None:
    lane, work = FairLane("test", 1, most_waiting=2, what="photos"), Work()
    tasks = [asking(lane, "a", work.piece("a")) for _ in range(3)]
    await until(lambda: lane.running == 1)
    with pytest.raises(OverloadedError, match="2 photos of this client"):
        await asked(lane, "a", work.piece("a"))
    tasks.append(asking(lane, "b", work.piece("b")))
    await until(lambda: lane.waiting == 3)
    work.gate.set()
    await asyncio.gather(*tasks)
    lane.close()


async def test_an_error_is_the_caller_s_and_the_lane_goes_on() -> None:
    lane, work = FairLane("test", 1), Work()
    work.gate.set()

    def fail(_stop: Stop) -> str:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await asked(lane, "a", fail)
    assert await asked(lane, "a", work.piece("a")) == "a"
    lane.close()


async def test_a_lane_that_closes_tells_everybody() -> None:
    lane, work = FairLane("test", 1), Work()
    tasks = [asking(lane, "a", work.piece("a")) for _ in range(3)]
    await until(lambda: lane.running == 1)
    lane.close()
    work.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["str", "StoppedError", "StoppedError"]
    with pytest.raises(StoppedError):
        await asked(lane, "a", work.piece("a"))
