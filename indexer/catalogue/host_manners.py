"""How one behaves towards a host of images: its headers, its pace, and the form its answers come in."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final

from threadmatch.model.errors import InvalidImageError

NOT_ENCODED: Final = ("", "identity", "aws-chunked", "none", "binary", "utf-8")
"""What servers write as Content-Encoding of bytes that are as they are."""
MORE_TRIES: Final = 4
WENT_WELL: Final = 50
"""Answers behind which a host that was slowed down is asked one more at a time."""
_FORBIDDEN: Final = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding")


class HostHeaders:
    """Headers for named hosts. Their values are in no message and no `repr`.

    Args:
        headers: (host, name, value).
    """

    def __init__(self, headers: Iterable[tuple[str, str, str]]) -> None:
        self._by_host: dict[str, dict[str, str]] = {}
        for host, name, value in headers:
            self._by_host.setdefault(host.lower(), {})[name] = value

    def of(self, host: str, *, secure: bool) -> dict[str, str]:
        """What is sent to a host; nothing over plain http to any but the machine itself, where it could be read."""
        if not secure and host not in ("localhost", "127.0.0.1", "::1"):
            return {}
        return self._by_host.get(host, {})

    def __repr__(self) -> str:
        return f"HostHeaders({sorted(self._by_host)})"


def parse_header(text: str, hosts: Iterable[str]) -> tuple[str, str, str]:
    """Read "HOST NAME: VALUE", or "NAME: VALUE" where one host alone is allowed.

    Raises:
        ValueError: it is neither, or the host is none of the allowed; the value is not in the message.
    """
    front, sign, value = text.partition(":")
    words = front.split()
    allowed = sorted({host.lower().rpartition(":")[0] if _has_port(host) else host.lower() for host in hosts})
    if not sign or len(words) not in (1, 2) or not value.strip() or not value.strip().isprintable():
        raise ValueError('a header is given as "HOST NAME: VALUE"')
    host = words[0].lower() if len(words) == 2 else (allowed[0] if len(allowed) == 1 else "")
    if not host or host.startswith("*"):
        raise ValueError(f'say for which host: "HOST {words[-1]}: VALUE"')
    if host not in allowed and not any(one.startswith("*.") and host.endswith(one[1:]) for one in allowed):
        raise ValueError(f"host {host!r} is not allowed; allow it with --allow-host {host}")
    if words[-1].lower() in _FORBIDDEN or not words[-1].isascii():
        raise ValueError(f"the header {words[-1]!r} cannot be set")
    return host, words[-1], value.strip()


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and host.count(":") == 1


class Manners:
    """The pace at which one host is asked. It begins with some requests at a time and slows down when told to.

    Args:
        at_once: requests at the start.
    """

    more_tries = MORE_TRIES

    def __init__(self, at_once: int) -> None:
        self.at_once = self._most = at_once
        self._went_well = 0
        self.not_before = 0.0  # on time.monotonic's clock
        self._under_way = 0
        self._free = asyncio.Condition()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the host may be asked."""
        async with self._free:
            await self._free.wait_for(lambda: self._under_way < self.at_once)
            self._under_way += 1
        try:
            await asyncio.sleep(max(0.0, self.not_before - time.monotonic()))
            yield
        finally:
            async with self._free:
                self._under_way -= 1
                self._free.notify_all()

    def went_well(self) -> None:
        """Slowly back to the pace of the start."""
        self._went_well += 1
        if self.at_once < self._most and self._went_well % WENT_WELL == 0:
            self.at_once += 1

    def slow_down(self, seconds: float) -> None:
        """Ask half as much at a time from now on, and nothing for so many seconds."""
        self.at_once = max(1, self.at_once // 2)
        self.not_before = max(self.not_before, time.monotonic() + min(seconds, 60.0))


def retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header asks to wait, a number or a date; None where it makes no sense."""
    if text.strip().isdigit():
        return float(text.strip())
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def plain_body(body: bytes, encoding: str, *, most: int) -> bytes:
    """A body as it was before it was packed for the way.

    Args:
        body: as received.
        encoding: its Content-Encoding.
        most: bytes that may come out.

    Raises:
        InvalidImageError: packed in a way that was not asked for and is not known, damaged, or too large.
    """
    packed = [part for part in (part.strip().lower() for part in encoding.split(",")) if part not in NOT_ENCODED]
    if not packed:
        return body
    if packed not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise InvalidImageError(
            f"the server sent the body packed as {', '.join(packed)[:60]}, which was not asked for", reason="url_failed"
        )
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise InvalidImageError(f"the server sent a damaged body ({error})", reason="url_failed") from error
    if len(plain) > most:
        raise InvalidImageError(f"the server sends more than {most} bytes", reason="url_too_large")
    if not unpacker.eof:
        raise InvalidImageError("the server sent a body that ends early", reason="url_failed")
    return plain
