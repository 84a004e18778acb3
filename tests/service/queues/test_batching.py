"""The micro-batcher: shared batches, bounded admission, and every way out answers everybody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.patience import PATIENCE_S, until
from threadmatch.service.errors import ModelFailedError, OverloadedError, StoppedError
from threadmatch.service.queues import clients
from threadmatch.service.queues.batching import Budget, Limits, MicroBatcher, WorkThread


class Doubler:
    """Doubles numbers, once `gate` is open; remembers its batches and its threads; fails on request."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = 0
        self.fails = 0

    def __call__(self, numbers: list[int]) -> list[int]:
        self.begun += 1
        assert self.gate.wait(PATIENCE_S), "the test never opened the gate"
        self.batches.append(numbers)
        self.threads.add(threading.current_thread().name)
        if self.fails:
            self.fails -= 1
            raise RuntimeError("no more memory")
        return [2 * number for number in numbers]


@asynccontextmanager
async def batcher_of(
    run: Callable[[list[int]], list[int]],
    *,
    max_batch: int = 8,
    max_waiting: int = 100,
    thread: WorkThread | None = None,
) -> AsyncIterator[MicroBatcher[int, int]]:
    shared = thread or WorkThread("model")
    batcher = MicroBatcher(
        "encode",
        run,
        thread=shared,
        limits=Limits(max_batch=max_batch, max_waiting=max_waiting),
        weigh=lambda n: max(1, n),
    )
    batcher.start()
    yield batcher
    await batcher.stop(timeout_s=PATIENCE_S)
    shared.close()


async def test_a_single_item_is_answered_without_waiting_for_company() -> None:
    async with batcher_of(Doubler()) as batcher:
        async with asyncio.timeout(PATIENCE_S):
            assert await batcher.submit(1) == 2


async def test_items_that_come_while_the_model_computes_share_the_next_batch() -> None:
    run = Doubler()
    async with batcher_of(run) as batcher:
        run.gate.clear()
        first = asyncio.create_task(batcher.submit(1))
        await until(lambda: run.begun == 1)
        rest = [asyncio.create_task(batcher.submit(1)) for _ in range(5)]
        await until(lambda: batcher.waiting == 5)
        run.gate.set()
        assert await asyncio.gather(first, *rest) == [2] * 6
    assert [len(batch) for batch in run.batches] == [1, 5]


async def test_a_batch_weighs_no_more_than_its_limit_unless_one_item_does() -> None:
    run = Doubler()
    async with batcher_of(run, max_batch=8) as batcher:
        run.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(1))]
        await until(lambda: run.begun == 1)
        tasks += [asyncio.create_task(batcher.submit(number)) for number in (3, 5, 4, 20, 2)]
        await until(lambda: batcher.waiting == 5)
        run.gate.set()
        assert await asyncio.gather(*tasks) == [2, 6, 10, 8, 40, 4]
    assert run.batches == [[1], [3, 5], [4], [20], [2]]


async def test_a_full_queue_refuses_at_once_and_takes_again_when_callers_left() -> None:
    run = Doubler()
    async with batcher_of(run, max_waiting=2) as batcher:
        run.gate.clear()
        busy = asyncio.create_task(batcher.submit(1))
        await until(lambda: run.begun == 1)
        waiting = [asyncio.create_task(batcher.submit(1)) for _ in range(2)]
        await until(lambda: batcher.waiting == 2)
        with pytest.raises(OverloadedError):
            await batcher.submit(1)
        waiting[0].cancel()
        await until(lambda: batcher.waiting == 1)
        late = asyncio.create_task(batcher.submit(7))
        await asyncio.sleep(0.02)
        run.gate.set()
        assert list(await asyncio.gather(busy, waiting[1], late)) == [2, 2, 14]


async def test_callers_that_left_are_not_computed() -> None:
    run = Doubler()
    async with batcher_of(run) as batcher:
        run.gate.clear()
        first = asyncio.create_task(batcher.submit(1))
        await until(lambda: run.begun == 1)
        leaves, stays = asyncio.create_task(batcher.submit(2)), asyncio.create_task(batcher.submit(3))
        await until(lambda: batcher.waiting == 2)
        leaves.cancel()
        await asyncio.sleep(0.02)
        run.gate.set()
        assert list(await asyncio.gather(first, stays)) == [2, 6]
    assert run.batches == [[1], [3]]


async def test_a_failed_batch_answers_everybody_and_the_next_one_works() -> None:
    run = Doubler()
    async with batcher_of(run) as batcher:
        run.gate.clear()
        run.fails = 2
        tasks = [asyncio.create_task(batcher.submit(1)) for _ in range(4)]
        await until(lambda: run.begun == 1)
        tasks += [asyncio.create_task(batcher.submit(1)) for _ in range(4)]
        await until(lambda: batcher.waiting == 4)
        run.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ModelFailedError] * 8
        assert isinstance(batcher.failure, RuntimeError)
        assert await batcher.submit(4) == 8
        assert batcher.failure is None


async def test_a_wrong_number_of_results_is_a_failure_and_not_a_mix_up() -> None:
    async with batcher_of(lambda numbers: [*numbers, 0]) as batcher:
        with pytest.raises(ModelFailedError):
            await batcher.submit(1)


async def test_stopping_answers_those_who_wait_and_refuses_newcomers() -> None:
    run = Doubler()
    async with batcher_of(run, max_batch=1) as batcher:
        run.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(1)) for _ in range(3)]
        await until(lambda: batcher.waiting == 2)
        stopping = asyncio.create_task(batcher.stop(timeout_s=PATIENCE_S))
        await asyncio.sleep(0.02)
        with pytest.raises(StoppedError):
            await batcher.submit(1)
        run.gate.set()
        await stopping
        assert await asyncio.gather(*tasks) == [2, 2, 2]


async def test_when_the_time_to_stop_is_over_everybody_left_hears_so() -> None:
    run = Doubler()
    async with batcher_of(run, max_batch=1) as batcher:
        run.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(1)) for _ in range(3)]
        await until(lambda: batcher.waiting == 2)
        await batcher.stop(timeout_s=0.05)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        run.gate.set()
        assert [type(answer) for answer in answers] == [StoppedError] * 3


async def test_two_batchers_take_turns_on_one_thread() -> None:
    thread = WorkThread("model")
    first, second = Doubler(), Doubler()
    async with batcher_of(first, thread=thread) as one, batcher_of(second, thread=thread) as two:
        first.gate.clear()
        a = asyncio.create_task(one.submit(1))
        await until(lambda: first.begun == 1)
        b = [asyncio.create_task(two.submit(1)) for _ in range(3)]
        await until(lambda: two.waiting == 3)
        assert second.batches == []
        assert thread.busy_s() > 0
        first.gate.set()
        await asyncio.gather(a, *b)
    assert [len(batch) for batch in second.batches] == [3], "a batch gathers until the model is free"
    assert len(first.threads | second.threads) == 1
    assert thread.busy_s() == 0


def test_a_budget_refuses_what_does_not_fit_but_never_a_single_taker() -> None:
    budget = Budget("candidates", 10)
    with budget.take(25):
        with pytest.raises(OverloadedError, match="25 candidates"), budget.take(1):
            pass
        assert budget.taken == 25
    with budget.take(6), budget.take(4), pytest.raises(OverloadedError), budget.take(1):
        pass
    assert budget.taken == 0


def test_a_refusal_says_to_wait_about_as_long_as_a_part_is_held() -> None:
    now = 0.0
    budget = Budget("searches", 1, clock=lambda: now)
    for _ in range(60):
        with budget.take():
            now += 7.5
    with budget.take(), pytest.raises(OverloadedError) as refused, budget.take():
        pass
    assert refused.value.retry_after_s == 8


async def test_clients_take_turns_and_one_does_not_wait_for_another_s_fifty() -> None:
    run = Doubler()

    async def asks(client: str, number: int) -> int:
        clients.current.set(client)  # of this task
        return await batcher.submit(number)

    async with batcher_of(run, max_batch=3) as batcher:
        run.gate.clear()
        tasks = [asyncio.create_task(asks("flood", 1))]
        await until(lambda: run.begun == 1)
        tasks += [asyncio.create_task(asks("flood", 1)) for _ in range(50)]
        await until(lambda: batcher.waiting == 50)
        single = asyncio.create_task(asks("one", 2))
        await until(lambda: batcher.waiting == 51)
        run.gate.set()
        assert await single == 4
        assert 2 in run.batches[1], "the batch under way, and the next one has it"
        assert await asyncio.gather(*tasks) == [2] * 51
    assert all(sum(batch) <= 3 for batch in run.batches)


async def test_a_large_item_of_another_client_keeps_its_turn() -> None:
    run = Doubler()

    async def asks(client: str, number: int) -> int:
        clients.current.set(client)
        return await batcher.submit(number)

    async with batcher_of(run, max_batch=8) as batcher:
        run.gate.clear()
        tasks = [asyncio.create_task(asks("small", 1))]
        await until(lambda: run.begun == 1)
        tasks += [asyncio.create_task(asks("small", 1)) for _ in range(20)]
        await until(lambda: batcher.waiting == 20)
        large = asyncio.create_task(asks("large", 8))
        await until(lambda: batcher.waiting == 21)
        run.gate.set()
        assert await large == 16
        assert run.batches.index([8]) <= 2
        await asyncio.gather(*tasks)
