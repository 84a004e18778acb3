"""Real processes on loopback: `threadmatch serve --port 0`, many clients, SIGTERM; and starts that are refused."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.patience import PATIENCE_S, wait_until
from tests.support.processes import ENVIRONMENT, START_S, command, started
from tests.support.serving import photo


@pytest.fixture(scope="module")
def served(gallery_folder: Path, tiny_model_folder: Path) -> tuple[str, ...]:
    return ("--gallery", str(gallery_folder), "--model", str(tiny_model_folder), "--device", "cpu")


def test_sixteen_clients_are_answered_and_sigterm_ends_well(served: tuple[str, ...]) -> None:
    with started(*served) as (service, address), httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
        assert client.get("/health/ready").status_code == 200

        def search(number: int) -> httpx.Response:
            return client.post("/search", files={"image": ("a.jpg", photo(number % 8))}, data={"top_k": "5"})

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(search, range(64)))
        assert {answer.status_code for answer in answers} == {200}
        first: dict[int, list[str]] = {}
        for number, answer in enumerate(answers):
            found = [match["id"] for match in answer.json()["matches"]]
            assert first.setdefault(number % 8, found) == found, "the same photo, the same answer"

        _refuses_without_breaking_the_connection(client)
        _hears_slow_clients_out(address)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            late = [pool.submit(search, number) for number in range(8)]
            concurrent.futures.wait(late, return_when=concurrent.futures.FIRST_COMPLETED)  # some are under way
            service.process.send_signal(signal.SIGTERM)
            answered = [future.result() for future in late if future.exception() is None]
        assert answered
        assert {answer.status_code for answer in answered} <= {200, 503}
        assert service.process.wait(timeout=PATIENCE_S) == 0
        service.reader.join(PATIENCE_S)
        lines = [json.loads(line) for line in service.log]
        assert {line["level"] for line in lines} <= {"info", "warning", "error"}
        assert sum(line["message"] == "request" and line["path"] == "/search" for line in lines) >= 64


def _refuses_without_breaking_the_connection(client: httpx.Client) -> None:
    """A body that is too large gets its 413, declared or streamed; the next request works."""
    large = b"x" * (36 * 1024 * 1024)
    declared = client.post("/search", files={"image": ("a.jpg", large)})
    assert (declared.status_code, declared.json()["error"]) == (413, "TooLarge")
    streamed = client.post(
        "/search",
        content=(
            chunk for chunk in [b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n', large]
        ),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert streamed.status_code == 413
    assert client.get("/health/live").status_code == 200
    assert client.get("/v1/items/a%2Fb%2Fimage/image").headers["Content-Type"] == "image/jpeg"
    assert client.get("/v1/items/%E6%97%A5%E6%9C%AC").json()["id"] == "日本"
    head = client.head("/v1/items/plain/image")
    assert head.status_code == 200
    assert int(head.headers["Content-Length"]) > 100


def _hears_slow_clients_out(address: str) -> None:
    """A client that goes away in the middle of its body leaves nothing behind."""
    port = int(address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 1000\r\n\r\n--b\r\n"
        )
    wait_until(
        lambda: "threadmatch_searches_in_progress 0.0" in httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text,
        "the search is given up",
    )


def test_workers_share_the_port_and_add_up_their_counters(served: tuple[str, ...]) -> None:
    with started(*served, "--workers", "2") as (service, address):
        for number in range(6):
            # A connection each, so that either worker may get it.
            with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
                assert client.post("/search", files={"image": ("a.jpg", photo(number))}).status_code == 200
        text = httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text
        assert 'threadmatch_http_requests_total{method="POST",route="/search",status="200"} 6.0' in text
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=PATIENCE_S) == 0


def refused(*arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and stderr of a `threadmatch serve` that does not start."""
    done = subprocess.run(
        command("serve", *arguments),
        capture_output=True,
        text=True,
        timeout=START_S,
        env={**ENVIRONMENT, **variables},
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_starts_that_cannot_work_say_why(served: tuple[str, ...], tmp_path: Path) -> None:
    code, said = refused("--gallery", str(tmp_path / "nowhere"), "--port", "0")
    assert code == 1
    assert "nowhere" in said
    assert "Traceback" not in said
    code, said = refused(*served, "--port", "0", THREADMATCH_TOPK="3")
    assert code == 2
    assert "THREADMATCH_TOPK is not a setting; the nearest is" in said
    code, said = refused("--port", "0")
    assert code == 2
    assert "--gallery" in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = refused(*served, "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "choose another --port" in said
    assert "Traceback" not in said
