"""Fetches catalogue images by address, from named hosts only, within limits.

The name is resolved once; the address is checked and is the one connected to, so a name cannot point elsewhere between
check and use. Redirects are followed by hand, each target checked like the first. No proxy of the environment is used:
it would resolve by itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

import httpx

from threadmatch.indexer.catalogue.host_manners import HostHeaders, Manners, plain_body, retry_after
from threadmatch.model.errors import InvalidImageError

logger = logging.getLogger(__name__)

REDIRECTS = (301, 302, 303, 307, 308)
WORTH_ANOTHER_TRY = (429, 500, 502, 503, 504)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
AGENT = "threadmatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What fetching one image may cost."""

    total_s: float = 30.0
    connect_s: float = 5.0
    max_bytes: int = 32 * 2**20
    max_redirects: int = 3
    tries: int = 2
    at_once: int = 16
    longest_retry_after_s: float = 20.0  # a host that asks for more is not asked again for this image


class HostList:
    """Hosts that may be asked: "name", "name:port", "*.name" for its subdomains.

    Args:
        hosts: as given on the command line.
        private: whether names may lead to private and loopback addresses. An address written out, and `localhost`,
            are what they say they are: naming one allows it.
    """

    def __init__(self, hosts: Iterable[str], *, private: bool = False) -> None:
        self.hosts = frozenset(host.strip().lower().rstrip(".") for host in hosts)
        self.private = private

    def __bool__(self) -> bool:
        return bool(self.hosts)

    def check(self, url: httpx.URL) -> None:
        """InvalidImageError unless this address may be asked; its name is not resolved yet."""
        if url.scheme not in ("http", "https"):
            raise _failed("url_scheme", f"the address begins with {url.scheme!r}, expected http or https")
        if url.userinfo:
            raise _failed("url_credentials", "the address holds a name or password; remove it")
        host = url.raw_host.decode("ascii").lower().rstrip(".").strip("[]")
        if not host or not 0 < _port(url) < 65536:
            raise _failed("bad_url", "the address names no host, or a port that cannot be")
        parents = [host.split(".", n)[-1] for n in range(1, host.count(".") + 1)]
        names = {host, *(f"*.{parent}" for parent in parents)}
        bracketed = f"[{host}]" if ":" in host else host
        names |= {bracketed, f"{bracketed}:{_port(url)}"}
        if not names & self.hosts:
            raise _failed("url_host_not_allowed", f"host {host!r} is not allowed; allow it with --allow-host {host}")

    def usable(self, host: str, addresses: list[str]) -> str:
        """The first address of a host that may be connected to; InvalidImageError when there is none."""
        written_out = host == "localhost" or _is_address(host)
        for address in addresses:
            if written_out or self.private or is_public(address):
                return address
        raise _failed(
            "url_private_address",
            f"host {host!r} leads to {', '.join(addresses[:3])}, which is no public address; "
            "--allow-private-network allows that",
        )


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, looking through the wrappings of IPv4 in IPv6."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.teredo is not None:
            return False
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class Fetcher:
    """Fetches images on an event loop in a thread of its own. Thread-safe. Use as a context manager.

    Leaving it gives up what is still being fetched, however long the server would take: nobody waits for it any more.

    Args:
        hosts: that may be asked.
        limits: for one image.
        headers: sent to some hosts, and to no other.
        resolve: looks a host's name up, as `socket.getaddrinfo` does; may block.
    """

    def __init__(
        self,
        hosts: HostList,
        limits: FetchLimits | None = None,
        *,
        headers: HostHeaders | None = None,
        resolve: Callable[..., list[Any]] = socket.getaddrinfo,
    ) -> None:
        self.hosts, self.limits = hosts, limits or FetchLimits()
        self._resolve = resolve
        self._headers = headers or HostHeaders(())
        self._manners: dict[str, Manners] = {}
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._lock = threading.Lock()  # of the next: no fetch begins behind the end
        self._closed = False

    def __enter__(self) -> Fetcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fetch(self, address: str) -> bytes:
        """The bytes at an address; InvalidImageError says why not, with reason "stopped" where fetching has ended."""
        with self._lock:
            if self._closed:
                raise _stopped()
            fetching = asyncio.run_coroutine_threadsafe(self._fetch(address), self._loop)
        try:
            return fetching.result()
        except CancelledError as error:
            raise _stopped() from error

    async def _fetch(self, address: str) -> bytes:
        try:
            url = httpx.URL(address)
            manners = self._manners.setdefault(url.host, Manners(self.limits.at_once))
            for attempt in range(self.limits.tries + manners.more_tries):
                try:
                    async with manners.turn(), asyncio.timeout(self.limits.total_s):
                        body = await self._follow(url)
                    manners.went_well()
                    return body
                except _AnotherTryError as error:
                    told = error.retry_after_s is not None and error.retry_after_s <= self.limits.longest_retry_after_s
                    manners.slow_down(error.retry_after_s or 0.0)
                    if attempt + 1 >= self.limits.tries + (manners.more_tries if told else 0):
                        raise
                    await asyncio.sleep(error.retry_after_s if told and error.retry_after_s else 0.2 * 2**attempt)
                except httpx.TransportError as error:
                    if attempt + 1 >= self.limits.tries:
                        raise
                    logger.debug("fetching again", extra={"reason": type(error).__name__})
                    await asyncio.sleep(0.2 * 2**attempt)
        except TimeoutError as error:
            raise _failed("url_timeout", f"not fetched within {self.limits.total_s:g} s") from error
        except httpx.TimeoutException as error:
            raise _failed("url_timeout", f"no answer in time ({type(error).__name__})") from error
        except _AnotherTryError as error:
            raise _failed("url_status", str(error)) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise _failed("bad_url", f"not an address: {error}") from error
        except (httpx.HTTPError, OSError) as error:
            raise _failed("url_failed", f"fetching failed: {error or type(error).__name__}") from error
        raise AssertionError("every way out of the loop returns or raises")

    async def _follow(self, url: httpx.URL) -> bytes:
        for _ in range(self.limits.max_redirects + 1):
            self.hosts.check(url)
            async with await self._send(url) as response:
                location = response.headers.get("location")
                if response.status_code not in REDIRECTS or not location:
                    return await self._body(response)
                url = url.join(location)
        raise _failed("url_redirects", f"redirected more than {self.limits.max_redirects} times")

    async def _send(self, url: httpx.URL) -> Any:
        host = url.raw_host.decode("ascii").strip("[]").lower()
        found = await self._looked_up(host, _port(url))
        chosen = self.hosts.usable(host, [str(entry[4][0]) for entry in found])
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Accept": "image/*",
            "Accept-Encoding": "identity",
            "User-Agent": AGENT,
            **self._headers.of(host, secure=url.scheme == "https"),
        }
        extensions = {
            "sni_hostname": host
        }  # TLS is checked against the name although the connection goes to the address
        target = url.copy_with(host=chosen.split("%")[0])
        return self._client(host).stream("GET", target, headers=headers, extensions=extensions)

    async def _looked_up(self, host: str, port: int) -> list[Any]:
        """What `resolve` says, in a thread that dies with the process: an executor's would be waited for at its end."""
        answer: Future[list[Any]] = Future()

        def look_up() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(self._resolve(host, port, type=socket.SOCK_STREAM))
            except BaseException as error:  # whoever waits is told, whatever it is
                answer.set_exception(error)

        threading.Thread(target=look_up, name="resolve", daemon=True).start()
        return await asyncio.wrap_future(answer)

    async def _body(self, response: httpx.Response) -> bytes:
        if response.status_code in WORTH_ANOTHER_TRY:
            raise _AnotherTryError(
                f"the server answered {response.status_code}", retry_after(response.headers.get("retry-after", ""))
            )
        if response.status_code != 200:
            hint = "; a private host may want --header" if response.status_code in (401, 403) else ""
            raise _failed("url_status", f"the server answered {response.status_code}, expected 200{hint}")
        announced = response.headers.get("content-length", "")
        most = self.limits.max_bytes
        if announced.isdigit() and int(announced) > most:
            raise _failed("url_too_large", f"the server announces {announced} bytes, at most {most} are taken")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > most:
                raise _failed("url_too_large", f"the server sends more than {most} bytes")
        return plain_body(bytes(body), response.headers.get("content-encoding", ""), most=most)

    def _client(self, host: str) -> httpx.AsyncClient:
        """One client a host: a connection made for one name is never used for another at the same address."""
        if host not in self._clients:
            self._clients[host] = httpx.AsyncClient(
                timeout=httpx.Timeout(self.limits.total_s, connect=self.limits.connect_s),
                limits=httpx.Limits(max_connections=self.limits.at_once),
                follow_redirects=False,
                trust_env=False,
            )
        return self._clients[host]

    async def _close(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()


class _AnotherTryError(Exception):
    """An answer that may be another one next time, at the earliest in so many seconds, where the server says."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def _stopped() -> InvalidImageError:
    return _failed("stopped", "fetching was stopped before this image was there; fetch it again")


def _failed(reason: str, message: str) -> InvalidImageError:
    return InvalidImageError(message, reason=reason)


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
