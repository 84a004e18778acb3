"""Who hears of each call to a cluster's engines: how long it took, and what came of it."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

Engine: TypeAlias = Literal["store", "milvus"]
Kind: TypeAlias = Literal["read", "write", "search", "list", "manage"]
"""Of the store: reads and writes. Of Milvus: searches; lists of rows and counts; writes; collections and aliases."""
Outcome: TypeAlias = Literal["answered", "unavailable", "refused"]


class Calls(Protocol):
    """Hears of calls. Called by whichever thread made one."""

    def ended(self, engine: Engine, kind: Kind, seconds: float, outcome: Outcome) -> None:
        """A call has ended, tries and pauses included."""
        ...

    def retried(self, engine: Engine) -> None:
        """A call got no answer and is tried again."""
        ...


class Unheard:
    """Nobody."""

    def ended(self, engine: Engine, kind: Kind, seconds: float, outcome: Outcome) -> None:
        """Nothing."""

    def retried(self, engine: Engine) -> None:
        """Nothing."""
