"""Who asks, as far as fairness goes: each client has its share of what all of them wait for.

A client is a key, or for want of one the address that its connection comes from. Behind a proxy that has no keys of its
own, all clients are one; then the proxy has to be fair (docs/operations.md).
"""

from __future__ import annotations

import contextvars
import ipaddress
import math
from typing import Final

SHARE: Final = 0.75
"""Of what the others have left, one client may hold this part. However many take all they may, something is left over:
a quarter beside one of them, a seventh beside two."""
NOBODY: Final = ""
"""Work of the service itself, which has no share."""

current: contextvars.ContextVar[str] = contextvars.ContextVar("client", default=NOBODY)
"""The client whose request is being answered."""


def client_name(key_id: str | None, address: str | None) -> str:
    """The name that a client's shares go by.

    Args:
        key_id: public part of its key; None without one.
        address: that its connection comes from. Of IPv6 the first half counts: one machine has all of the other.
    """
    if key_id is not None:
        return f"key {key_id}"
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return f"address {address}"
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    if isinstance(found, ipaddress.IPv6Address):
        return f"address {ipaddress.IPv6Network((found, 64), strict=False)}"
    return f"address {found}"


def may_hold(most: int, others: int) -> int:
    """How much one client may hold of `most`, of which others hold a part; at least one."""
    return max(1, math.ceil(SHARE * (most - others)))
