"""Which Host and Origin headers are let through, and what other sites' pages may do.

A page of any site can make a browser send requests here. Three checks keep such pages out:

- Host: a page whose own name is made to point at 127.0.0.1 (DNS rebinding) sends its name as the Host; only names that
  are this service's are answered (`THREADMATCH_ALLOWED_HOSTS`).
- Origin: a request that changes or computes something and comes from another site's page is refused, cookie or not.
- CORS: without `THREADMATCH_CORS_ORIGINS` no other site's page may read an answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from threadmatch.service.errors import ForeignHostError, ForeignOriginError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Whether an address or name to listen on is reached from this machine only."""
    if host.strip("[]").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_host(host: str, allowed: Collection[str]) -> None:
    """Refuse a Host header that names somebody else.

    Args:
        host: the header, with or without a port.
        allowed: names in lower case without a port, `*.example.org` for all below it; empty lets every one through.

    Raises:
        ForeignHostError: it is none of them.
    """
    if not allowed:
        return
    name = host_name(host)
    for one in allowed:
        if name == one or (one.startswith("*.") and name.endswith(one[1:])):
            return
    raise ForeignHostError(
        f"this service is not known as {name[:100]!r}; ask for one of {', '.join(sorted(allowed))}, or add the name to "
        "THREADMATCH_ALLOWED_HOSTS"
    )


def host_name(host: str) -> str:
    """`Shop.example:8000` -> `shop.example`; an IPv6 address keeps its brackets."""
    name = host.strip().lower()
    end = name.find("]")
    if name.startswith("[") and end > 0:
        return name[: end + 1]
    return name.partition(":")[0].rstrip(".")


def check_origin(method: str, origin: str | None, host: str, allowed: Collection[str]) -> None:
    """Refuse what another site's page sends. Clients that are not browsers send no Origin.

    Args:
        origin: the header; None without one.
        host: as the browser knows this service: a page of it has the same.
        allowed: origins of other sites that may, such as https://shop.example.

    Raises:
        ForeignOriginError: the page is of another site.
    """
    if origin is None or method in SAFE_METHODS or origin in allowed:
        return
    if urlsplit(origin).netloc.lower() == host.strip().lower() and origin != "null":
        return
    raise ForeignOriginError(
        f"a page of {origin[:100]!r} may not send {method} requests here, where the name is {host[:100]!r}; "
        "THREADMATCH_CORS_ORIGINS lists those that may. A proxy in front has to pass the Host header on, or to send "
        "X-Forwarded-Host"
    )
