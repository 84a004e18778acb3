"""How long work says how far it is: through a callback, since what shows it is not this room's business."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears how far a stage of long work is. Called often; whoever shows it chooses when."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Hear it.

        Args:
            stage: what is being done, such as "encoding".
            done: how much of it.
            total: how much there is, in the same unit.
            note: what is worth saying beside it, such as the best figure so far.
        """


def unheard(stage: str, done: int, total: int, note: str = "") -> None:
    """A Progress that says nothing."""
