"""Work on threads, so many at a time; what waits takes turns by client, and ends when its caller leaves.

A lane knows neither photos nor HTTP. First come, first served would let one client's forty pieces of work go before
another's one: here the client with the least work under way is next, and among equals the one served longest ago.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from threadmatch.service.errors import OverloadedError, StoppedError
from threadmatch.service.queues import clients

R = TypeVar("R")


class Stop:
    """Asks a piece of work to end. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._call: Callable[[], None] | None = None

    @property
    def asked(self) -> bool:
        """Whether the work's caller has left."""
        return self._asked

    def calls(self, call: Callable[[], None] | None) -> None:
        """What to call when the work shall end; at once where that was asked before."""
        with self._lock:
            self._call = call
            asked = self._asked
        if asked and call is not None:
            call()

    def ask(self) -> None:
        """End the work; once is enough."""
        with self._lock:
            self._asked, call = True, self._call
        if call is not None:
            call()


@dataclass(eq=False, slots=True)
class _Job:
    call: Callable[[Stop], Any]
    cost: int
    client: str
    future: asyncio.Future[Any]
    stop: Stop = field(default_factory=Stop)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class FairLane:
    """Threads that do one kind of work. Use on one event loop.

    Args:
        name: of the threads, and for metrics.
        slots: pieces of work at a time.
        budget: what the costs of those may come to together; None for no bound. A single one may always run.
        most_waiting: pieces of work of one client that may wait; None for no bound.
        what: the work, in the words of a refusal.
    """

    def __init__(
        self,
        name: str,
        slots: int,
        *,
        budget: int | None = None,
        most_waiting: int | None = None,
        what: str = "pieces of work",
    ) -> None:
        self.name, self._slots, self._budget = name, slots, budget
        self._most_waiting, self._what = most_waiting, what
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix=name)
        self._waiting: dict[str, deque[_Job]] = {}
        self._running: Counter[str] = Counter()
        self._served: dict[str, int] = {}  # when, for clients that have work here
        self._started = 0
        self._cost = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Pieces of work whose callers wait for their turn."""
        return sum(not job.future.done() for jobs in self._waiting.values() for job in jobs)

    @property
    def running(self) -> int:
        """Pieces of work under way, those included whose callers have left."""
        return self._running.total()

    async def run(self, call: Callable[[Stop], R], *, cost: int = 0) -> R:
        """The result of `call`, on a thread of this lane, when its client's turn has come.

        Args:
            call: the work; what it is given says whether its caller has left.
            cost: in the units of the budget.

        Raises:
            OverloadedError: this client has too much waiting; StoppedError: the lane is closed.
        """
        if self._closed:
            raise StoppedError("the service is shutting down; try another instance")
        client = clients.current.get()
        jobs = self._waiting.setdefault(client, deque())
        waiting = sum(not job.future.done() for job in jobs)
        if client and self._most_waiting is not None and waiting >= self._most_waiting:
            raise OverloadedError(f"{waiting} {self._what} of this client wait already; try again when they are done")
        job = _Job(call, cost, client, asyncio.get_running_loop().create_future())
        jobs.append(job)
        self._fill()
        try:
            result: R = await job.future
            return result
        except asyncio.CancelledError:
            job.stop.ask()
            raise

    def close(self) -> None:
        """Take nothing more; what waits is told so, what runs is asked to end."""
        self._closed = True
        for jobs in self._waiting.values():
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(StoppedError("the service is shutting down; try another instance"))
        self._waiting.clear()
        self._threads.shutdown(wait=False)

    def _fill(self) -> None:
        """Start what may run now."""
        while self.running < self._slots and (job := self._next()) is not None:
            self._running[job.client] += 1
            self._cost += job.cost
            done = self._threads.submit(job.context.run, job.call, job.stop)
            loop = job.future.get_loop()
            done.add_done_callback(lambda done, job=job, loop=loop: _tell(loop, self._ended, job, done))  # type: ignore[misc]

    def _next(self) -> _Job | None:
        """Take the next piece of work whose caller is still there; None where none may run now."""
        for client, jobs in list(self._waiting.items()):
            while jobs and jobs[0].future.done():
                jobs.popleft()
            if not jobs:
                del self._waiting[client]
        if not self._waiting:
            return None
        client = min(self._waiting, key=lambda name: (self._running[name], self._served.get(name, 0)))
        job = self._waiting[client][0]
        if self._budget is not None and self.running and self._cost + job.cost > self._budget:
            return None  # nobody overtakes it, or small ones would keep a large one waiting for ever
        self._waiting[client].popleft()
        self._started += 1
        self._served[client] = self._started
        return job

    def _ended(self, job: _Job, done: Future[Any]) -> None:
        self._running[job.client] -= 1
        if not self._running[job.client]:
            del self._running[job.client]
            if not self._waiting.get(job.client):
                self._served.pop(job.client, None)
        self._cost -= job.cost
        if not job.future.done():
            error = done.exception()
            if error is None:
                job.future.set_result(done.result())
            else:
                job.future.set_exception(error)
        if not self._closed:
            self._fill()


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call, *args)
