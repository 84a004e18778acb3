"""A request's head has a limit of time; bodies, answers and quiet connections between requests have not this one."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from threadmatch.service.process.connections import TimedHead

LIMIT_S = 0.6
ANSWER = b"HTTP/1.1 200"


class _Quick(TimedHead):
    head_timeout_s = LIMIT_S


async def _app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers when the body has come, /slow a good while later."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(2 * LIMIT_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    server = uvicorn.Server(uvicorn.Config(_app, port=0, http=_Quick, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    late = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the server ended"
        assert time.monotonic() < late, "the server does not start"
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=10) as one:
        yield one


def _drip(client: socket.socket, data: bytes) -> bool:
    """Send a byte at a time; whether the other side ended it before the last."""
    for n in range(len(data)):
        try:
            client.sendall(data[n : n + 1])
        except OSError:
            return True
        time.sleep(LIMIT_S / 10)
    return False


def test_a_head_that_drips_is_cut_off(client: socket.socket) -> None:
    assert _drip(client, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40)


def test_a_connection_that_says_nothing_is_ended(client: socket.socket) -> None:
    assert client.recv(100) == b""


def test_the_second_head_of_a_connection_has_the_limit_too(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(1000).startswith(ANSWER)
    time.sleep(1.5 * LIMIT_S)  # quiet between two requests: uvicorn's own limit, which is longer
    assert _drip(client, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40)


def test_bodies_and_answers_may_take_longer(client: socket.socket) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n")
    assert not _drip(client, b"b" * 20)
    assert client.recv(1000).startswith(ANSWER)
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(1000).startswith(ANSWER)
