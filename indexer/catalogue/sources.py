"""Where a catalogue row's image comes from: a file below the images folder, or an allowed address."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from threadmatch.indexer.catalogue.decoding.pool import Decoded, DecodePool, Same, Task
from threadmatch.indexer.catalogue.fetch import Fetcher, FetchLimits, HostList
from threadmatch.indexer.catalogue.host_manners import HostHeaders
from threadmatch.model.data.tables.photo_files import find_photo, is_address
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.images import Box


class ImageFolder:
    """The folder that images lie below.

    Args:
        root: links in it are followed, but never out of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def find(self, image: str) -> tuple[Path, str]:
        """The real path of a cell of the image column, and its name below the root.

        A file whose name has other slashes, another form of its accents or another case is found too.

        Raises:
            InvalidImageError: reasons "bad_path", "outside_images".
        """
        try:
            path = find_photo(self.root, image).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise InvalidImageError(f"{image[:200]!r} is not a path: {error}", reason="bad_path") from error
        if path == self.root or not path.is_relative_to(self.root):
            raise InvalidImageError(
                f"{image[:200]!r} is not below the images folder {self.root}; move it there or give another --images",
                reason="outside_images",
            )
        return path, path.relative_to(self.root).as_posix()


def whole_address(image: str) -> str:
    """An address with its scheme; pages write //host/... for the one they came by."""
    return f"https:{image}" if image.startswith("//") else image


def normal_box(text: str) -> str:
    """A box in its one written form, "" for the whole image; InvalidImageError where it is no box."""
    if not text:
        return ""
    box = Box.parse(text)
    return ",".join(f"{edge!r}" for edge in (float(box.x0), float(box.y0), float(box.x1), float(box.y1)))


def source_name(image: str, folder: ImageFolder, hosts: HostList) -> str:
    """The name under which an image is remembered.

    Args:
        image: path below the folder, or address.
        folder: for paths.
        hosts: for addresses; an empty list allows none.

    Raises:
        InvalidImageError: there is none.
    """
    if not is_address(image):
        return folder.find(image)[1]
    image = whole_address(image)
    try:
        scheme, host = urlsplit(image).scheme.lower(), urlsplit(image).hostname or ""
    except ValueError as error:
        raise InvalidImageError(f"{image[:200]!r} is not an address: {error}", reason="bad_url") from error
    if scheme not in ("http", "https"):
        raise InvalidImageError(f"the address begins with {scheme!r}, expected http or https", reason="url_scheme")
    if not hosts:
        raise InvalidImageError(
            f"addresses are not fetched unless their host is allowed: --allow-host {host}",
            reason="url_host_not_allowed",
        )
    return image


class Loader:
    """Loads images in the background: fetching in threads, decoding in processes. Use as a context manager.

    Leaving it gives up what is still loading: a server that hangs keeps nobody from ending.

    Args:
        folder: for paths.
        pool: decodes.
        workers: how many of its processes there are.
        hosts: for addresses; an empty list allows none.
        headers: sent to some of the hosts.
        fetching: limits of it; an image's bytes are those that the pool takes, in any case.
    """

    def __init__(
        self,
        folder: ImageFolder,
        pool: DecodePool,
        *,
        workers: int,
        hosts: HostList,
        headers: HostHeaders | None = None,
        fetching: FetchLimits | None = None,
    ) -> None:
        self.folder, self.pool, self.hosts = folder, pool, hosts
        limits = replace(fetching or FetchLimits(), max_bytes=pool.limits.max_bytes)
        self._fetcher = Fetcher(hosts, limits, headers=headers) if hosts else None
        waiting = limits.at_once if hosts else 1  # one image more than processes, so that none of them waits
        self._threads = ThreadPoolExecutor(workers + waiting, thread_name_prefix="load")
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Loader:
        # Left from the last to the first: nothing new begins; whoever waits for a process or a server is told; all end.
        self._exit.callback(self._threads.shutdown)
        if self._fetcher is not None:
            self._exit.enter_context(self._fetcher)
        self._exit.enter_context(self.pool)
        self._exit.callback(self._threads.shutdown, wait=False, cancel_futures=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def submit(
        self, image: str, *, box: str, known: frozenset[str], photo: bytes | None = None, view_px: int = 0
    ) -> Future[Decoded | Same]:
        """Start loading an image; the future holds the result, or an InvalidImageError.

        Args:
            image: path or address.
            box: in normal form.
            known: digests of bytes that need no decoding.
            photo: the image's bytes, where the catalogue itself holds them.
            view_px: long side that the picture as a whole is needed at, no finer; 0 for no picture.
        """
        task = Task(data=photo, box=box, known=known, view_px=view_px)
        return self._threads.submit(self._load, image, task)

    def _load(self, image: str, task: Task) -> Decoded | Same:
        if task.data is not None:
            return self.pool.decode(task)
        if is_address(image):
            assert self._fetcher is not None
            return self.pool.decode(replace(task, data=self._fetcher.fetch(whole_address(image))))
        path, _ = self.folder.find(image)
        return self.pool.decode(replace(task, path=str(path)))
