"""Batches without a timer: while the model computes one batch, the next one gathers.

Knows neither HTTP nor the model. A `MicroBatcher` turns many single calls into few calls of a function on lists.

- Admission is bounded: a full queue answers `OverloadedError` at once.
- Clients take turns: a batch takes from each in turn, so that one client's fifty do not go before another's one.
- Callers that left (their task was cancelled) are skipped.
- Every way out answers everybody: success, failure, cancellation, shutdown.

All batchers share one `WorkThread`. Two model calls at the same time would fight for the same cores (each already uses
all of them) and both end later; and a second calling thread gets its own pool of OpenMP threads from torch. The turn is
taken *before* a batch is put together, so a batch goes on gathering until the model is really free.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from threadmatch.service.errors import ModelFailedError, OverloadedError, StoppedError
from threadmatch.service.queues import clients
from threadmatch.service.watching import logs, tracing

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

HELD_WEIGHT = 0.1  # of the newest in the running mean of how long a part of a budget is held
MAX_RETRY_AFTER_S = 30


class WorkThread:
    """One thread for work that must not run twice at a time, and whose turn it is: calls of the model, or commits.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._turn = asyncio.Lock()  # first come, first served: no batcher starves another
        self._busy_since: float | None = None

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the model until the block ends."""
        async with self._turn:
            self._busy_since = time.monotonic()
            try:
                yield
            finally:
                self._busy_since = None

    def busy_s(self) -> float:
        """Seconds the call in progress has taken so far; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Let go of the thread; a call in progress ends by itself."""
        self.executor.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a batcher takes.

    Args:
        max_batch: weight of one call; a single item may weigh more and then goes alone.
        max_waiting: items that may wait; the next is refused.
        waiting: what they are, in the words of the refusal.
    """

    max_batch: int
    max_waiting: int
    waiting: str = "searches are waiting for the model"


def _model_failed(cause: BaseException) -> Exception:
    return ModelFailedError(str(cause))


class Observer(Protocol):
    """Hears of each call: its weight, its seconds, whether it failed, and how many items it was made for."""

    def __call__(self, weight: int, seconds: float, failed: bool, *, requests: int) -> None: ...


def _nothing(weight: int, seconds: float, failed: bool, *, requests: int) -> None:
    """The default observer."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[T, R]):
    """An item, its caller's future, and what tells of the caller: the open span, the request's id, the moment."""

    item: T
    future: asyncio.Future[R]
    span: tracing.Span = field(default_factory=tracing.current)
    request_id: str = field(default_factory=logs.request_id.get)
    client: str = field(default_factory=clients.current.get)
    since: float = field(default_factory=time.perf_counter)


class MicroBatcher(Generic[T, R]):
    """Turn concurrent `submit(item)` calls into few `run(items)` calls on the model's thread.

    Args:
        name: what is batched, for logs and metrics ("encode", "rerank").
        run: computes the results of a list of items, in order; called on the model's thread.
        weigh: the weight of one item against `limits.max_batch`.
        observe: called after each batch.
        failed: from what `run` raised to what each caller of that batch hears.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[T]], list[R]],
        *,
        thread: WorkThread,
        limits: Limits,
        weigh: Callable[[T], int] = lambda _: 1,
        observe: Observer = _nothing,
        failed: Callable[[BaseException], Exception] = _model_failed,
    ) -> None:
        self.name = name
        self.failure: BaseException | None = None  # of the latest call; None again after a call that worked
        self._run, self._thread, self._limits, self._weigh, self._observe = run, thread, limits, weigh, observe
        self._failed = failed
        self._queue: dict[str, deque[_Waiting[T, R]]] = {}  # by client, the one that was served longest ago first
        self._wake = asyncio.Event()
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Items whose callers still wait for their batch to begin."""
        return sum(not waiting.future.done() for waiting in self._all())

    def start(self) -> None:
        """Begin to answer; call once, on the running loop."""
        assert self._worker is None, f"the {self.name} batcher was started twice"
        self._worker = asyncio.create_task(self._work(), name=f"batcher-{self.name}")

    async def submit(self, item: T) -> R:
        """Wait for the result of one item.

        Raises:
            OverloadedError: the queue is full.
            ModelFailedError (or what `failed` makes): `run` raised, or returned another number of results.
            StoppedError: the batcher was stopped before this item's turn.
        """
        if self._stopping or self._worker is None or self._worker.done():
            raise StoppedError("the service is shutting down; try another instance")
        if self.waiting >= self._limits.max_waiting:
            raise OverloadedError(f"{self.waiting} {self._limits.waiting} already; try again soon")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(item, future)
        self._queue.setdefault(waiting.client, deque()).append(waiting)
        self._wake.set()
        return await future  # a cancelled caller cancels the future, which is how `_gather` knows that it left

    async def stop(self, timeout_s: float) -> None:
        """Refuse new items, answer those that wait, end. What is left after `timeout_s` gets StoppedError."""
        self._stopping = True
        self._wake.set()
        if self._worker is None:
            return
        done, _ = await asyncio.wait({self._worker}, timeout=timeout_s)
        if not done:
            self._worker.cancel()
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        try:
            while True:
                while not self._queue:
                    if self._stopping:
                        return
                    self._wake.clear()
                    await self._wake.wait()
                async with self._thread.turn():
                    batch = self._gather()
                    if batch:
                        await self._answer(batch)
        finally:  # cancelled too: nobody is left waiting
            for waiting in self._all():
                if not waiting.future.done():
                    waiting.future.set_exception(StoppedError("the service is shutting down; try another instance"))
            self._queue.clear()

    def _gather(self) -> list[_Waiting[T, R]]:
        """Take items off the queue, one of each client in turn, until the batch is full or nothing waits.

        Those whose callers left are dropped. What a client asked for first is answered first.
        """
        batch: list[_Waiting[T, R]] = []
        weight = 0
        while self._queue:
            client, waiting = next(iter(self._queue.items()))
            while waiting and waiting[0].future.done():
                waiting.popleft()
            if waiting:
                weight += self._weigh(waiting[0].item)
                if batch and weight > self._limits.max_batch:
                    break
                batch.append(waiting.popleft())
            del self._queue[client]
            if waiting:
                self._queue[client] = waiting  # behind the others
        return batch

    def _all(self) -> Iterator[_Waiting[T, R]]:
        return itertools.chain.from_iterable(self._queue.values())

    async def _answer(self, batch: list[_Waiting[T, R]]) -> None:
        items = [waiting.item for waiting in batch]
        cause: BaseException | None = None
        started = time.perf_counter()
        self._tell(batch, started)
        try:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self._thread.executor, self._run, items)
            for waiting, result in list(zip(batch, results, strict=True)):
                if not waiting.future.done():
                    waiting.future.set_result(result)
            self.failure = None
        except Exception as error:
            requests = sorted({waiting.request_id for waiting in batch} - {""})
            logger.exception("batch failed", extra={"stage": self.name, "items": len(items), "requests": requests})
            self.failure = cause = error
        finally:  # cancelled too: nobody is left waiting
            for waiting in batch:
                if not waiting.future.done():
                    stopped = StoppedError(f"{self.name}: the service is shutting down")
                    answer = stopped if cause is None else self._failed(cause)
                    answer.__cause__ = cause
                    waiting.future.set_exception(answer)
            seconds = time.perf_counter() - started
            self._observe(sum(map(self._weigh, items)), seconds, cause is not None, requests=len(items))

    def _tell(self, batch: list[_Waiting[T, R]], started: float) -> None:
        """Say in each caller's trace which batch took it along, and after how long."""
        size = {
            "threadmatch.batch.requests": len(batch),
            "threadmatch.batch.size": sum(self._weigh(one.item) for one in batch),
        }
        for waiting in batch:
            waiting.span.set({**size, "threadmatch.waited_ms": round(1000 * (started - waiting.since), 3)})


class Budget:
    """An amount that searches in progress share: whoever would exceed it is refused at once.

    So is a client that would exceed its own part (`service.queues.clients`): no client can take it all.

    Args:
        what: what is counted, in the words of the refusal.
        most: the amount there is. A single taker may always have it all.
        clock: seconds, never falling.
    """

    def __init__(self, what: str, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._most, self._clock = what, most, clock
        self._held_s = 1.0  # running mean of how long one is held
        self.taken = 0
        self._by_client: Counter[str] = Counter()

    @property
    def share(self) -> int:
        """What a client may hold while nobody else holds anything."""
        return clients.may_hold(self._most, 0)

    def check(self, amount: int = 1) -> None:
        """Refuse what could not be taken now.

        Raises:
            OverloadedError: see `take`.
        """
        client = clients.current.get()
        own = self._by_client.get(client, 0)
        if self.taken and self.taken + amount > self._most:
            message = f"{self.taken} {self._what} are in progress and at most {self._most} fit; try again soon"
        elif client and self.taken and own + amount > clients.may_hold(self._most, self.taken - own):
            message = f"this client has {own} {self._what} of {self.taken} in progress; wait until some of them end"
        else:
            return
        raise OverloadedError(message, retry_after_s=min(MAX_RETRY_AFTER_S, math.ceil(self._held_s)))

    @contextlib.contextmanager
    def take(self, amount: int = 1) -> Iterator[None]:
        """Hold `amount` while the block runs.

        Raises:
            OverloadedError: others hold so much that it is not there, or this client has its part.
        """
        self.check(amount)
        client = clients.current.get()
        self.taken += amount
        self._by_client[client] += amount
        started = self._clock()
        try:
            yield
        finally:
            self.taken -= amount
            self._by_client[client] -= amount
            if not self._by_client[client]:
                del self._by_client[client]
            self._held_s += HELD_WEIGHT * (self._clock() - started - self._held_s)
