"""A request's head has a limit of time; bodies, answers and quiet connections between requests have not this one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tests.support.patience import PATIENCE_S, wait_until
from threadmatch.service.process.connections import TimedHead

LIMIT_S = 0.6
MOST = 20
ANSWER = b"HTTP/1.1 200"


class _Quick(TimedHead):
    head_timeout_s = LIMIT_S
    rest_timeout_s = LIMIT_S
    most_of_one_address = MOST


LEFT: list[str] = []
"""Paths of requests whose client was seen to leave."""


async def _app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers when the body has come, /slow a good while later, /refuse before, /until when the client has left."""
    if scope["type"] != "http":
        return
    while scope["path"] != "/refuse" and (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(2 * LIMIT_S)
    if scope["path"].startswith("/until"):
        while (await receive())["type"] != "http.disconnect":
            pass
        LEFT.append(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    server = uvicorn.Server(uvicorn.Config(_app, port=0, http=_Quick, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive(), "the server starts")
    assert server.started
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=PATIENCE_S) as one:
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


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["length first", "encoding first", "encoding in HTTP/1.0"],
)
def test_a_body_of_two_lengths_is_refused_and_what_follows_is_no_request(client: socket.socket, head: bytes) -> None:
    client.sendall(head + b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    said = b""
    with contextlib.suppress(ConnectionResetError):  # what was not read may reset the connection
        while got := client.recv(1000):
            said += got
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1") == 1
    assert b"connection: close" in said.lower()


def test_a_request_of_one_length_goes_through(client: socket.socket) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
    assert client.recv(1000).startswith(ANSWER)


def test_the_rest_of_a_refused_body_does_not_hold_the_connection(client: socket.socket) -> None:
    client.sendall(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    assert client.recv(1000).startswith(ANSWER)
    assert _drip(client, b"b" * 100)


def test_a_body_that_ends_after_its_refusal_keeps_the_connection(client: socket.socket) -> None:
    client.sendall(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
    assert client.recv(1000).startswith(ANSWER)
    client.sendall(b"bodyGET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(1000).startswith(ANSWER)


def test_a_client_that_closed_its_side_gets_its_answer(client: socket.socket) -> None:
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    client.shutdown(socket.SHUT_WR)
    said = b""
    while got := client.recv(1000):
        said += got
    assert said.startswith(b"HTTP/1.1 102")
    assert said.endswith(b"ok")
    assert ANSWER in said


def test_the_work_for_a_client_that_is_gone_is_stopped(address: tuple[str, int]) -> None:
    path = f"/until-{time.monotonic_ns()}"
    with socket.create_connection(address, timeout=PATIENCE_S) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_until(lambda: path in LEFT, "its work is stopped")


def test_an_address_has_so_many_connections_and_another_one_has_its_own(address: tuple[str, int]) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    def asked(source: str) -> tuple[socket.socket, bytes]:
        client = socket.create_connection(address, timeout=PATIENCE_S, source_address=(source, 0))
        try:
            client.sendall(request)
            return client, client.recv(100)
        except OSError:
            return client, b""

    held = [asked("127.0.0.3") for _ in range(MOST + 5)]
    try:
        assert sum(said.startswith(ANSWER) for _, said in held) == MOST
        other, said = asked("127.0.0.4")
        other.close()
        assert said.startswith(ANSWER)
    finally:
        for client, _ in held:
            client.close()
