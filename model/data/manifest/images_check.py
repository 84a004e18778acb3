"""Opens every image of a manifest once, on all cores: can it be read, how large is it, which bytes is it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from threadmatch.model.errors import InvalidImageError
from threadmatch.model.images import ImageLimits, decode_image

FILES_PER_CALL: Final = 32
CALLS_AHEAD: Final = 4
"""Calls a process has waiting; the list of files is never held as a whole."""
HINT_PX: Final = 64
"""The whole file is decoded, but no finer than the decoder can cheaply do."""
_TOO_LARGE: Final = ("too_many_bytes", "too_many_pixels")


@dataclass(frozen=True, slots=True)
class SeenImage:
    """One image file.

    Fields:
        file: its path.
        digest: of its bytes; "" where it cannot be used.
        width, height: of the upright image, pixels; 0 where it cannot be used.
        fault: kind of finding, "" where there is none.
        message: what is wrong.
    """

    file: str
    digest: str = ""
    width: int = 0
    height: int = 0
    fault: str = ""
    message: str = ""


def look_at(file: str, *, quick: bool) -> SeenImage:
    """Look at one image; where `quick`, only whether it is there.

    Raises:
        Nothing: what is wrong is told in the answer.
    """
    path = Path(file)
    try:
        size = path.stat().st_size
        if not path.is_file():
            return SeenImage(file, fault="missing_image", message=f"{file} is not a file")
        if quick:
            return SeenImage(file, digest=file)
        if size > ImageLimits().max_bytes:
            message = f"{file} has {size:,} bytes, at most {ImageLimits().max_bytes:,} are read"
            return SeenImage(file, fault="too_large_image", message=message)
        data = path.read_bytes()
        image = decode_image(data, long_side_hint_px=HINT_PX)
    except FileNotFoundError:
        return SeenImage(file, fault="missing_image", message=f"{file} does not exist")
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        return SeenImage(file, fault="missing_image", message=f"{file!r} cannot be read: {error}")
    except InvalidImageError as error:
        fault = "too_large_image" if error.reason in _TOO_LARGE else "unreadable_image"
        return SeenImage(file, fault=fault, message=f"{file}: {error}")
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return SeenImage(file, digest, image.width, image.height)


def _look_at_all(files: list[str]) -> list[SeenImage]:
    return [look_at(file, quick=False) for file in files]


def look_at_images(files: Iterable[str], *, quick: bool, workers: int) -> Iterator[SeenImage]:
    """Look at many images, in their order; memory does not grow with their number.

    Args:
        files: paths.
        quick: only whether each is there.
        workers: processes; 1 stays in this one.
    """
    if quick or workers == 1:
        yield from (look_at(file, quick=quick) for file in files)
        return
    remaining = iter(files)
    waiting: deque[Future[list[SeenImage]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        while chunk := list(islice(remaining, FILES_PER_CALL)):
            waiting.append(pool.submit(_look_at_all, chunk))
            if len(waiting) >= workers * CALLS_AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
