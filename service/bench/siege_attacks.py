"""What a hostile client does to a service, over and over until told to stop. See `service.bench.siege`."""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import socket
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from threadmatch.service.bench.hostile_files import FAR_FETCHED, MIB, float_tiff, large_png

ALL: Final = "all at once"
ANSWER_S: Final = 90.0
DRIP_S: Final = 1.0
AGAIN_S: Final = 0.02
FAR_FETCHED_BYTES: Final = 19 * MIB
LARGE_SIDE_PX: Final = 7900
BOUNDARY: Final = "siege"


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom to ask.

    Fields:
        host, port: of the service.
        source: address to ask from; on Linux all of 127.0.0.0/8 is this machine.
        key: an API key, or "".
        made: connections, for as long as something refers to them.
    """

    host: str
    port: int
    source: str
    key: str = ""
    made: weakref.WeakSet[socket.socket] = field(default_factory=weakref.WeakSet, compare=False)

    def connect(self) -> socket.socket:
        """A connection."""
        made = socket.create_connection((self.host, self.port), timeout=ANSWER_S, source_address=(self.source, 0))
        self.made.add(made)
        return made

    def hang_up(self) -> None:
        """End all connections."""
        for one in list(self.made):
            with contextlib.suppress(OSError):  # it has ended
                one.shutdown(socket.SHUT_RDWR)

    def head(self, method: str, path: str, *more: str) -> bytes:
        """A request's head with a multipart body to follow."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
            *([f"Authorization: Bearer {self.key}"] if self.key else []),
            *more,
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass
class Seen:
    """What the attacker was answered: by attack and status, or the name of what broke the connection."""

    answers: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, attack: str, answer: str) -> None:
        """Count one."""
        with self.lock:
            self.answers[f"{attack}: {answer}"] += 1


Attack = Callable[[Target, Seen, threading.Event], None]


def body_of(data: bytes, *, field_name: str = "image") -> bytes:
    """A form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field_name}"; filename="a"\r\n\r\n'.encode()
    return head + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def send(target: Target, data: bytes, *, path: str = "/v1/search", method: str = "POST", leave: bool = False) -> str:
    """Send a file; the status of the answer, or what happened instead."""
    body = body_of(data)
    try:
        with target.connect() as connection:
            with contextlib.suppress(ConnectionError):  # an early answer, then the rest is refused
                connection.sendall(target.head(method, path, f"Content-Length: {len(body)}"))
                connection.sendall(body)
            if leave:
                return "left"
            return connection.recv(4096)[9:12].decode("latin-1") or "closed"
    except OSError as error:
        return type(error).__name__


def dripping(name: str, method: str, path: str, count: int, *, field_name: str = "image") -> Attack:
    """So many bodies at a byte a second; a connection that is ended is made anew."""

    def attack(target: Target, seen: Seen, stop: threading.Event) -> None:
        drips: list[socket.socket | None] = [None] * count
        drip = itertools.cycle(body_of(bytes(1000), field_name=field_name)[:60])
        while not stop.wait(DRIP_S):
            byte = bytes([next(drip)])
            for place, one in enumerate(drips):
                try:
                    if one is None:
                        one = drips[place] = target.connect()
                        where = f"{path}{secrets.token_hex(4)}" if method == "PUT" else path
                        one.sendall(target.head(method, where, "Content-Length: 100000"))
                        one.setblocking(False)
                    one.send(byte)
                    with contextlib.suppress(BlockingIOError):
                        seen.note(name, one.recv(4096)[9:12].decode("latin-1") or "closed")
                        one.close()
                        drips[place] = None
                except OSError as error:
                    seen.note(name, type(error).__name__)
                    drips[place] = None
        for one in drips:
            if one is not None:
                one.close()

    return attack


def sending(name: str, files: list[bytes], at_once: int, *, leave: bool = False) -> Attack:
    """So many clients that send these files one after the other."""

    def attack(target: Target, seen: Seen, stop: threading.Event) -> None:
        turn = itertools.cycle(files)
        taking = threading.Lock()

        def one() -> None:
            while not stop.wait(AGAIN_S):
                with taking:
                    data = next(turn)
                seen.note(name, send(target, data, leave=leave))

        _together([one] * at_once)

    return attack


def smuggling(target: Target, seen: Seen, stop: threading.Event) -> None:
    """Bodies of two lengths, the rest a request of its own."""
    while not stop.wait(0.05):
        try:
            with target.connect() as connection:
                hidden = b"0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
                lengths = (f"Content-Length: {len(hidden)}", "Transfer-Encoding: chunked")
                connection.sendall(target.head("POST", "/v1/search", *lengths) + hidden)
                said = b""
                with contextlib.suppress(ConnectionError):
                    while got := connection.recv(4096):
                        said += got
                if stop.is_set():
                    return
                answers = said.count(b"HTTP/1.1 ")
                seen.note("two lengths", f"{said[9:12].decode('latin-1')}, {answers} answers")
        except OSError as error:
            seen.note("two lengths", type(error).__name__)


def guessing(target: Target, seen: Seen, stop: threading.Event) -> None:
    """Wrong keys, as fast as they are refused."""
    while not stop.is_set():
        guess = Target(
            target.host, target.port, target.source, f"tm_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
        )
        seen.note("wrong keys", send(guess, b"x"))


def attacks(*, with_keys: bool, kinds: int = len(FAR_FETCHED), side_px: int = LARGE_SIDE_PX) -> dict[str, list[Attack]]:
    """All attacks by name, each a list of what runs beside one another.

    Args:
        with_keys: whether the service asks for keys.
        kinds: how many of the far-fetched files are sent; making them all takes some seconds.
        side_px: of the large photos.
    """
    png, floats = large_png(side_px), float_tiff(side_px)
    far_fetched = [make(FAR_FETCHED_BYTES) for make in list(FAR_FETCHED.values())[:kinds]]
    found: dict[str, list[Attack]] = {
        "slow uploads": [
            dripping("slow single", "POST", "/v1/search", 66),
            dripping("slow batch", "POST", "/v1/search/batch", 5, field_name="images"),
            dripping("slow put", "PUT", "/v1/items/", 64),
        ],
        "large photos": [sending("large png", [png], 12)],
        "far-fetched headers": [sending("far-fetched", far_fetched, 4)],
        "float TIFFs": [sending("float tiff", [floats], 8)],
        "leaving": [sending("leaving", [png, floats], 8, leave=True)],
        "two lengths": [smuggling],
    }
    if with_keys:
        found["wrong keys"] = [guessing]
    return found


class Attacker:
    """A process of its own that attacks when told to: its threads must not keep the bystander from its turn.

    Args:
        target: whom.
        with_keys, kinds, side_px: see `attacks`.
    """

    def __init__(self, target: Target, *, with_keys: bool, kinds: int, side_px: int) -> None:
        told = {"target": [target.host, target.port, target.source, target.key], "with_keys": with_keys,
                "kinds": kinds, "side_px": side_px}  # fmt: skip
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-m", "threadmatch.service.bench.siege_attacks", json.dumps(told)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.names: list[str] = self._answer()

    def begin(self, name: str) -> None:
        """Attack; ALL does everything at once."""
        self._say(name)
        self._answer()

    def end(self) -> dict[str, int]:
        """Leave off; what the attacker was answered."""
        self._say("")
        answers: dict[str, int] = self._answer()
        return answers

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def serve_attacks(told: dict[str, Any]) -> None:
    """Read names of attacks, each followed by an empty line when it shall end; the other side of `Attacker`."""
    target = Target(*told["target"])
    known = attacks(with_keys=told["with_keys"], kinds=told["kinds"], side_px=told["side_px"])
    _print([*known])
    while name := sys.stdin.readline().strip():
        seen, stop = Seen(), threading.Event()
        parts = [one for part in known.values() for one in part] if name == ALL else known[name]
        for attack in parts:
            threading.Thread(target=attack, args=(target, seen, stop), daemon=True).start()
        _print("begun")
        sys.stdin.readline()
        stop.set()
        target.hang_up()
        with seen.lock:
            _print(dict(seen.answers.most_common()))


def _print(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _together(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    serve_attacks(json.loads(sys.argv[1]))
