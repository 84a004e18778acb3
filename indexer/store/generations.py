"""The generations of a gallery on disk: which there are, which is in service, and how a new one appears whole.

generations/000001/{index.faiss, manifest.json}     never changed once it has this name
generations/.000002.partial/                        being written; whatever a dead process left is cleared away
CURRENT                                             the name of the one in service
.lock                                               held by the one process that writes
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from threadmatch.indexer.errors import GalleryBusyError, GalleryError
from threadmatch.indexer.store.manifest import Manifest

CURRENT = "CURRENT"
GENERATIONS = "generations"
INDEX_FILE = "index.faiss"
MANIFEST_FILE = "manifest.json"
LOCK_FILE = ".lock"
FOLDING = " (folding changes)"
FOLD_WAIT_S = 600.0
NAME_WAIT_S = 1.0
LOCK_POLL_S = 0.05
_NAME = re.compile(r"\d{6,}")


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock(folder: Path, *, folding: bool = False) -> Iterator[None]:
    """Hold the gallery for writing. The kernel lets go when the process ends, however it ends.

    Nobody asked for a fold, so nobody is refused because of one: whoever comes meanwhile waits for its end.

    Args:
        folder: of the gallery.
        folding: this is a fold, which never waits.

    Raises:
        GalleryBusyError: another process, or another call in this one, is writing.
    """
    path = folder / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(descriptor, folder, waits=not folding)
        with suppress(OSError):  # on a full disk, where compaction or a way back are most needed
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}{FOLDING if folding else ''}\n".encode(), 0)
        try:
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path, *, waits: bool) -> None:
    started = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise GalleryError(
                    f"cannot lock {folder / LOCK_FILE}: {error}; is the gallery on a local disk?"
                ) from error
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        waited_s = time.monotonic() - started
        # The holder's name is written a moment after it took the lock.
        if waits and (waited_s < FOLD_WAIT_S if FOLDING in holder else not holder and waited_s < NAME_WAIT_S):
            time.sleep(LOCK_POLL_S)
            continue
        raise GalleryBusyError(
            f"gallery {folder} is being written to by {holder or 'another process'}; wait for it, or stop it"
        )


def generation_folder(folder: Path, name: str) -> Path:
    """Where a generation lives."""
    return folder / GENERATIONS / name


def generation_names(folder: Path) -> list[str]:
    """Names of the finished generations, oldest first."""
    parent = folder / GENERATIONS
    if not parent.is_dir():
        return []
    return sorted((path.name for path in parent.iterdir() if _NAME.fullmatch(path.name)), key=int)


def read_manifest(folder: Path, name: str) -> Manifest:
    """A generation's manifest; GalleryError when it cannot be read."""
    manifest = Manifest.read(generation_folder(folder, name) / MANIFEST_FILE)
    if manifest.generation != name:
        raise GalleryError(f"generation {name} of {folder} holds the manifest of {manifest.generation}")
    return manifest


def current_name(folder: Path) -> str | None:
    """The generation in service, None when none was ever finished.

    Raises:
        GalleryError: CURRENT is there but names no generation.
    """
    path = folder / CURRENT
    try:
        name = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise GalleryError(f"cannot read {path}: {error}") from error
    if not _NAME.fullmatch(name):
        raise GalleryError(f"{path} holds {name[:40]!r}, expected the name of a generation such as 000001")
    return name


def set_current(folder: Path, name: str) -> None:
    """Put a finished generation in service, at once for every reader."""
    staging = folder / f".{CURRENT}.partial"
    staging.write_text(f"{name}\n", "ascii")
    sync(staging)
    staging.replace(folder / CURRENT)
    sync(folder)


def next_name(folder: Path) -> str:
    """A name no finished generation has, higher than all of them."""
    names = generation_names(folder)
    current = current_name(folder)
    return f"{1 + max([int(name) for name in names] + [int(current or 0)]):06d}"


@contextmanager
def staged(folder: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder to write generation `name` in; a clean exit makes it durable and gives it its name."""
    final = generation_folder(folder, name)
    staging = final.with_name(f".{name}.partial")
    clear_partial(folder)
    staging.mkdir(parents=True)
    yield staging
    for path in staging.iterdir():
        sync(path)
    sync(staging)
    staging.rename(final)
    sync(final.parent)


def clear_partial(folder: Path) -> None:
    """Remove what a dead process left half-written; the caller holds the lock."""
    for path in (folder / GENERATIONS).glob(".*.partial"):
        shutil.rmtree(path)


def remove_generation(folder: Path, name: str) -> None:
    """Take a generation away. It loses its name first, so that a kill midway leaves only a partial folder."""
    assert name != current_name(folder), "the generation in service stays"
    final = generation_folder(folder, name)
    if not final.exists():
        return
    doomed = final.with_name(f".{name}.partial")
    if doomed.exists():
        shutil.rmtree(doomed)
    final.rename(doomed)
    shutil.rmtree(doomed)


def write_manifest(staging: Path, manifest: Manifest) -> None:
    """Write manifest.json into a folder that `staged` gave."""
    text = manifest.to_json()
    assert Manifest.model_validate(json.loads(text)) == manifest
    (staging / MANIFEST_FILE).write_text(text, "utf-8")
