"""A real HTTP server on loopback that serves photos, and misbehaves where its paths say so."""

from __future__ import annotations

import gzip
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.shop import photo


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[str]
    busy_answers: dict[str, int]
    most: list[int]

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def do_GET(self) -> None:
        path = self.path.lstrip("/").split("?")[0]
        self.seen.append(f"{self.headers['Host']} {self.path}")
        if path.startswith("photo"):
            number = int(path.removeprefix("photo") or 0)
            while any(number >= most for most in self.most):
                time.sleep(0.02)
            self.answer(photo(number))
        elif path.startswith("to:"):
            self.answer(b"", status=302, headers={"Location": path.removeprefix("to:").replace("!", "/")})
        elif path == "loop":
            self.answer(b"", status=302, headers={"Location": "/loop"})
        elif path.startswith("busy"):
            self.busy_answers[path] = self.busy_answers.get(path, 0) + 1
            self.answer(photo(1), status=503 if self.busy_answers[path] == 1 else 200)
        elif path == "announced":
            self.answer(b"x", length=10**12)
        elif path == "short":
            self.answer(photo(1)[:100], length=5000)
        elif path == "endless":
            self.stream(b"x" * 65536, pause_s=0)
        elif path == "slow":
            self.stream(b"x", pause_s=0.05)
        elif path == "slow-header":
            self.drip()
        elif path == "gzip":
            self.answer(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        elif path.startswith("as:"):
            encoding = path.removeprefix("as:")
            body = gzip.compress(photo(1)) if "gzip" in encoding.lower() else photo(1)
            self.answer(body, headers={"Content-Encoding": encoding.replace("_", " ")})
        elif path == "bomb":
            self.answer(gzip.compress(b"\0" * 10**6), headers={"Content-Encoding": "gzip"})
        elif path.startswith("later"):
            self.busy_answers[path] = self.busy_answers.get(path, 0) + 1
            last = self.busy_answers[path] > 3
            self.answer(photo(1), status=200 if last else 429, headers={} if last else {"Retry-After": "1"})
        elif path.startswith("private"):
            allowed = self.headers["Authorization"] == "Bearer secret"
            self.answer(photo(1), status=200 if allowed else 401)
        elif path == "html":
            self.answer(b"<html>sign in</html>", headers={"Content-Type": "text/html"})
        elif path == "empty":
            self.answer(b"")
        else:
            self.answer(b"no", status=404)

    def answer(
        self, body: bytes, *, status: int = 200, length: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def stream(self, piece: bytes, *, pause_s: float) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            while True:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(pause_s)
        except OSError:
            return

    def drip(self) -> None:
        self.close_connection = True
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for n in itertools.count():
                self.wfile.write(f"X-{n}: y\r\n".encode())
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            return


@contextmanager
def web_server(most: list[int] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Its address on loopback, such as "127.0.0.1:40001", and the list of what it was asked.

    Args:
        most: one number, which may be raised meanwhile; photos from it on are held back.
    """
    most = [] if most is None else most
    handler = type("SeeingHandler", (Handler,), {"seen": [], "busy_answers": {}, "most": most})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", handler.seen  # type: ignore[attr-defined]
    finally:
        most.clear()
        server.shutdown()
        thread.join()
        server.server_close()
