"""A program that brings a gallery up, as the first holder of its lock does.

With a number behind the folder it stands still once so many contents have moved, until a line comes in: a moment that
a test can look at.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from threadmatch.indexer.store import generations, upgrades
from threadmatch.indexer.store.versions import Store


class StandStill(logging.Handler):
    """Hears of each batch.

    Args:
        after: contents.
    """

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.DEBUG and record.__dict__["contents"] >= self.after:
            sys.stdin.readline()


def main() -> None:
    """Arguments: gallery; and after how many contents to stand still."""
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        upgrades.logger.setLevel(logging.DEBUG)
        upgrades.logger.addHandler(StandStill(int(sys.argv[2])))
    with generations.lock(folder):
        Store(folder).close()
