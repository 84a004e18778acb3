"""A process that brings a gallery up, as the first holder of its lock does: `-m tests.support.upgrading FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from threadmatch.indexer.store import generations
from threadmatch.indexer.store.versions import Store


def main() -> None:
    """Argument: gallery."""
    folder = Path(sys.argv[1])
    with generations.lock(folder):
        Store(folder).close()


if __name__ == "__main__":
    main()
