"""The end of a server and the health of its workers, without the service around them: connections that come late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.support.patience import PATIENCE_S, wait_until
from threadmatch.service.process.draining import DrainingServer
from threadmatch.service.process.server import bind
from threadmatch.service.process.supervisor import Worker

DRAIN_S = 2 * int(PATIENCE_S)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer after a moment."""
    assert scope["type"] == "http"
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def state(thread: Path) -> str:
    """One letter, from its folder in /proc: R runs, S sleeps, T stands still."""
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def config(app: Any = hello) -> uvicorn.Config:
    return uvicorn.Config(app, http="h11", lifespan="off", log_config=None, timeout_graceful_shutdown=DRAIN_S)


@pytest_asyncio.fixture
async def ending() -> AsyncIterator[tuple[DrainingServer, asyncio.Task[None]]]:
    """A server whose end has begun."""
    listener = bind("127.0.0.1", 0)
    server = DrainingServer(config())
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup([listener])
    end = asyncio.create_task(server.shutdown([listener]))
    await asyncio.sleep(0)  # it has asked the connections that it knew
    yield server, end
    end.cancel()


async def accept(server: DrainingServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client's side of a connection that the server gets only now, as one accepted the moment before."""
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(
        lambda: H11Protocol(server.config, server.server_state, app_state={}), theirs
    )
    return await asyncio.open_connection(sock=ours)


@pytest.mark.parametrize("asks", [True, False], ids=["asks on and on", "says nothing"])
async def test_a_connection_that_came_at_the_end_does_not_hold_it_up(
    ending: tuple[DrainingServer, asyncio.Task[None]], asks: bool
) -> None:
    server, end = ending
    reader, writer = await accept(server)
    answers = 0
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # ended, before or after an answer
        while asks:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(2) == b"hi"
            answers += 1
            assert answers < 100, "kept alive although the end has begun"
    async with asyncio.timeout(DRAIN_S / 2):
        await end
    assert server.server_state.connections == set()
    writer.close()


def test_a_worker_that_is_slow_to_answer_is_waited_for_and_its_parent_is_not_held_up() -> None:
    listener = bind("127.0.0.1", 0)
    worker = Worker(config("tests.service.process.test_draining:hello"), [listener])
    worker.start()
    assert worker.pid is not None
    try:
        wait_until(lambda: worker.is_well(PATIENCE_S) and worker.serves, "the worker serves")
        os.kill(worker.pid, signal.SIGSTOP)
        # One thread hears it and then stops the others, which on a busy machine may answer meanwhile.
        threads = list(Path(f"/proc/{worker.pid}/task").iterdir())
        wait_until(lambda: all(state(thread) == "T" for thread in threads), "all of it stands still")
        assert [worker.is_well(PATIENCE_S) for _ in range(4)] == [True] * 4, "it owes an answer"
        time.sleep(0.01)
        assert not worker.is_well(0.005), "for too long"
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert not worker.is_well(PATIENCE_S), "dead, and nobody waits for the answer it owes"
    finally:
        worker.kill()
        worker.join()
        listener.close()
