"""From what a table calls a photo to the file: other slashes, other forms of accents, other case are looked through."""

from __future__ import annotations

import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from threadmatch.model.data.tables.columnar import EmbeddedImage


def is_address(image: str) -> bool:
    """Whether a cell names an address on the web rather than a path: http://..., or //host/... as pages write it."""
    if image.startswith("//"):
        try:
            host = urlsplit(image).hostname or ""
        except ValueError:
            return True
        return "." in host and not host.startswith(".")
    return "://" in image


def find_photo(root: Path, image: str) -> Path:
    """The file that a cell names.

    Args:
        root: folder that relative paths are below.
        image: the cell. Where no file has that very name, backslashes are read as slashes, and a file is taken whose
            name differs in the form of its accents (composed, decomposed) or, if there is but one, in case.

    Returns:
        The file; the path as written where there is none.
    """
    written = root / image
    if _is_there(written):
        return written
    for other in _other_ways(image):
        if _is_there(root / other):
            return root / other
    return _in_any_case(root, PurePosixPath(image.replace("\\", "/"))) or written


def _other_ways(image: str) -> Iterator[str]:
    slashes = image.replace("\\", "/")
    for name in (slashes, unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes)):
        if name != image:
            yield name


def _in_any_case(root: Path, image: PurePosixPath) -> Path | None:
    """The one path below `root` that differs from `image` in case or form alone; None where none or several do."""
    if image.is_absolute() or ".." in image.parts:
        return None
    found = root
    for piece in image.parts:
        if not _is_there(found / piece):
            wanted = _folded(piece)
            try:
                alike = [entry.name for entry in found.iterdir() if _folded(entry.name) == wanted]
            except OSError:
                return None
            if len(alike) != 1:
                return None
            piece = alike[0]
        found = found / piece
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def kept_photo(image: EmbeddedImage) -> Path:
    """A file with the bytes of a photo that stands in a table, kept under the user's cache by its digest."""
    digest = hashlib.sha256(image.data).hexdigest()
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not os.access(base if base.exists() else base.parent, os.W_OK):
        base = Path(tempfile.gettempdir()) / f"threadmatch-{os.getuid()}"
    path = base / "threadmatch" / "photos" / digest[:2] / digest
    if not path.is_file() or path.stat().st_size != len(image.data):
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_name(f".{path.name}.{os.getpid()}.partial")
        staging.write_bytes(image.data)
        staging.replace(path)
    return path
