"""Bodies on their way in: what is dropped, for whom, and that nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from starlette.types import Message

from tests.support.patience import PATIENCE_S
from threadmatch.service.errors import OverloadedError, UploadTimeoutError
from threadmatch.service.http.uploads import Body, Turns, UploadRules, Uploads

NOW = 1000.0


@dataclass
class Line:
    """A client's line: what is put into it arrives."""

    messages: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)

    async def receive(self) -> Message:
        return await self.messages.get()

    def send(self, size: int, *, last: bool = False) -> None:
        self.messages.put_nowait({"type": "http.request", "body": bytes(size), "more_body": not last})


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def begun(uploads: Uploads, *names: str) -> Iterator[list[Body]]:
    """Bodies of these clients, on their way."""
    with contextlib.ExitStack() as stack:
        bodies = [stack.enter_context(uploads.body(name)) for name in names]
        for body in bodies:
            uploads.begin(body)
        yield bodies


async def test_a_body_that_comes_fast_enough_is_read_whole() -> None:
    uploads, line = Uploads(UploadRules(grace_s=20)), Line()
    for last in (False, True):
        line.send(10, last=last)
    with uploads.body("a") as body:
        receive = body.counted(line.receive)
        assert [len((await receive())["body"]) for _ in range(2)] == [10, 10]
        assert (uploads.under_way, uploads.held_bytes) == (0, 20), "its bytes count until the answer"
        line.messages.put_nowait({"type": "http.disconnect"})
        assert (await receive())["type"] == "http.disconnect"
    assert uploads.held_bytes == 0


async def test_a_body_that_stops_coming_is_dropped_and_what_came_earned_it_time() -> None:
    uploads, line = Uploads(UploadRules(grace_s=0.05, least_bytes_s=1000)), Line()
    line.send(200)  # worth 0.2 s
    started = asyncio.get_running_loop().time()
    with uploads.body("a") as body:
        receive = body.counted(line.receive)
        await receive()
        with pytest.raises(UploadTimeoutError, match="bytes a second"):
            await receive()
    assert asyncio.get_running_loop().time() - started >= 0.2
    assert uploads.under_way == 0


async def test_a_body_is_counted_at_the_first_look_at_it() -> None:
    uploads = Uploads(UploadRules())
    with uploads.body("a"):
        assert uploads.under_way == 0


async def test_a_client_that_sends_too_many_loses_its_slowest_and_another_loses_none() -> None:
    clock = Clock()
    uploads = Uploads(UploadRules(most=8), clock=clock)  # six for one alone
    with begun(uploads, *"aaaaaa", "b") as bodies:
        for n, body in enumerate(bodies):
            uploads.got(body, 10 * (1 + (n + 3) % 7), over=False)
        clock.now += 10
        slowest = min((body for body in bodies if body.client == "a"), key=lambda body: body.received)
        with begun(uploads, "a"):
            assert uploads.under_way == 7
            assert not slowest.under_way
            receive = slowest.counted(Line().receive)
            with pytest.raises(OverloadedError, match="slowest"):
                await receive()
        assert bodies[-1].under_way, "the other's"


async def test_a_reader_that_waits_is_told_at_once_that_its_body_was_dropped() -> None:
    clock = Clock()
    uploads = Uploads(UploadRules(most=1, grace_s=600), clock=clock)
    with uploads.body("a") as first:
        waiting = asyncio.create_task(_read(first))
        while not uploads.under_way:
            await asyncio.sleep(0)
        clock.now += 10
        with begun(uploads, "b"), pytest.raises(OverloadedError):
            await asyncio.wait_for(waiting, PATIENCE_S)


async def _read(body: Body) -> Message:
    return await body.counted(Line().receive)()


async def test_a_client_that_sends_too_many_at_once_is_refused_and_another_is_not() -> None:
    uploads = Uploads(UploadRules(most=8), clock=Clock())
    with begun(uploads, *"aaaaaa"):
        with pytest.raises(OverloadedError, match="6 bodies"), begun(uploads, "a"):
            pass
        with begun(uploads, "b"):
            assert uploads.under_way == 7


async def test_where_all_places_are_taken_the_largest_client_gives_one_to_the_newcomer() -> None:
    clock = Clock()
    uploads = Uploads(UploadRules(most=4), clock=clock)  # three, then one
    with begun(uploads, *"aaab") as bodies:
        clock.now += 10
        with begun(uploads, "c"):
            assert sum(body.under_way for body in bodies if body.client == "a") == 2
            assert bodies[-1].under_way


async def test_bytes_are_shared_likewise_and_a_single_body_may_have_them_all() -> None:
    clock = Clock()
    uploads = Uploads(UploadRules(most_bytes=1000), clock=clock)
    with begun(uploads, "a") as (only,):
        uploads.got(only, 5000, over=False)
        assert only.under_way
    with begun(uploads, *"aaab") as (first, second, third, other):
        clock.now += 10
        uploads.got(first, 400, over=True)
        uploads.got(other, 100, over=False)
        uploads.got(second, 200, over=False)
        uploads.got(third, 190, over=False)
        assert not second.under_way or not third.under_way, "complete ones stay, the slow one goes"
        assert other.under_way


async def test_a_client_with_sixty_bodies_reads_from_one_of_them_in_each_round() -> None:
    turns, order = Turns(), []

    async def read(client: str, times: int) -> None:
        for _ in range(times):
            await turns.take(client)
            order.append(client)

    flood = [asyncio.create_task(read("flood", 3)) for _ in range(60)]
    await asyncio.sleep(0)
    one = asyncio.create_task(read("one", 4))
    await one
    assert order.count("flood") <= 8, "a round or two for each of the other's turns"
    await asyncio.gather(*flood)
    assert order.count("flood") == 180
    await turns.take("flood")  # nothing is left over from before


async def test_a_body_that_goes_away_while_it_waits_for_its_turn_takes_none() -> None:
    turns = Turns()
    first, gone, stays = (asyncio.create_task(turns.take("a")) for _ in range(3))
    await asyncio.sleep(0)
    assert first.done()
    gone.cancel()
    await asyncio.wait_for(stays, PATIENCE_S)
    assert gone.cancelled()
