"""Where converted networks are kept: derived, checked whenever they are read, made again where damaged or missing.

FOLDER/KEY/...            what the engine wrote
FOLDER/KEY/receipt.json   SHA-256 of each of its files; written last

An entry is written aside and renamed, so a kill leaves none or a whole one; several processes may write the same. A
folder that cannot be written costs time, not answers: the network is then converted at each start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

ENTRIES_MAX: Final = 32
"""The least recently used beyond these are dropped: each retrained network leaves one behind."""
RECEIPT: Final = "receipt.json"


def default_folder() -> Path | None:
    """The user's cache folder as the XDG base directory specification has it; None where there is no home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the specification: a relative one is to be ignored
        return base / "threadmatch"
    try:
        return Path.home() / ".cache" / "threadmatch"
    except RuntimeError:
        return None


def read_entry(folder: Path, key: str) -> Path | None:
    """The folder of an entry whose files are what was written; None where there is none. A damaged one is removed."""
    entry = folder / key
    if not entry.is_dir():
        return None
    try:
        receipt = json.loads((entry / RECEIPT).read_bytes())
        for name, digest in receipt.items():
            if Path(name).name != name or _digest(entry / name) != digest:
                raise ValueError(f"{name} is not what was written")
        os.utime(entry / RECEIPT)
    except PermissionError:  # of utime: somebody else's, read-only; it was checked
        return entry
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("converted network is damaged, made again", extra={"entry": str(entry), "reason": str(error)})
        drop_entry(folder, key)
        return None
    return entry


def drop_entry(folder: Path, key: str) -> None:
    """Forget an entry that nobody believes."""
    shutil.rmtree(folder / key, ignore_errors=True)


def keep_entry(folder: Path, key: str, write: Callable[[Path], None]) -> None:
    """Keep what `write` puts into the folder that it is given; where that cannot be, say so and go on.

    Args:
        folder: of the cache; made if missing, for its owner alone.
        key: of the entry.
        write: writes plain files, no folders.
    """
    staging: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        staging = Path(tempfile.mkdtemp(prefix=f".{key}.", suffix=".partial", dir=folder))
        write(staging)
        receipt = {path.name: _digest(path) for path in sorted(staging.iterdir())}
        (staging / RECEIPT).write_text(json.dumps(receipt, indent=2) + "\n")
        staging.rename(folder / key)
        _drop_oldest(folder)
    except OSError as error:
        if not (folder / key).is_dir():  # else another process was faster
            logger.warning(
                "converted network is not kept, so each start converts it anew",
                extra={"folder": str(folder), "reason": str(error)},
            )
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _drop_oldest(folder: Path) -> None:
    """Leave the entries used last; what dead processes left half written goes with the rest."""
    used = sorted(((_used_at(entry), entry) for entry in folder.iterdir() if entry.is_dir()), reverse=True)
    for _, entry in used[ENTRIES_MAX:]:
        shutil.rmtree(entry, ignore_errors=True)


def _used_at(entry: Path) -> float:
    receipt = entry / RECEIPT
    try:
        return (receipt if receipt.exists() else entry).stat().st_mtime
    except FileNotFoundError:  # dropped by another process
        return 0.0
