"""How a long command is ended from outside."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_by_sigterm_too() -> Iterator[None]:
    """Within it, SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that a command cleans up and says how to go on.

    A container's first process needs it besides: the kernel passes over a SIGTERM that such a one has no handler for,
    and what stops containers would wait, then kill. For the main thread, as all handlers of signals.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
