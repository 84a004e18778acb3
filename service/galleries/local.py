"""Galleries of this machine, searched without a service: behind `threadmatch.open` and `threadmatch search`.

A search runs the code that serves HTTP, on an event loop of its own in a thread of its own: so callers need no asyncio,
and searches of several threads meet in the model's batches.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
import uuid
import weakref
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar, Unpack

from PIL import Image
from pydantic import ValidationError

from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.images import ImageLimits
from threadmatch.model.inference import Model
from threadmatch.service.client.calls import SearchFields, as_text
from threadmatch.service.errors import InvalidFieldError, StoppedError
from threadmatch.service.galleries.filling import AnyPath
from threadmatch.service.galleries.loading import open_both, open_detector, open_further
from threadmatch.service.http.schemas.matches import SearchAnswer
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.http.search_form import check_together
from threadmatch.service.queues.model_queues import Capacity, ModelQueues
from threadmatch.service.search.answers import search_answer
from threadmatch.service.search.retriever import Retriever

T = TypeVar("T")

AnyPhoto: TypeAlias = bytes | AnyPath | Image.Image
"""An image file's bytes, its path, or a picture that Pillow has opened."""

MAX_BYTES: Final = 2**28
"""A picture of 64 million pixels, uncompressed; an upload's smaller limit protects a service, not its owner."""
END_S: Final = 30.0
KEPT_AS_THEY_ARE: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"})  # modes that a TIFF holds
ORIENTATION: Final = 0x0112
"""The EXIF tag of how the camera was held."""


class LocalGallery:
    """A gallery that this process searches. Threads may share one. Close it, or use it as a context manager.

        >>> import threadmatch
        >>> gallery = threadmatch.open("gallery")
        >>> answer = gallery.search("street.jpg", top_k=3)
        >>> [match.rank for match in answer.matches]
        [1, 2, 3]
        >>> gallery.close()

    Args:
        folder: of the gallery, made by `threadmatch ingest`; or `cluster://NAME` (docs/cluster.md).
        model: name of a shipped model, folder of a checkpoint, or what `threadmatch.load_model` gave; the gallery's own
            by default.
        device: "auto", "cpu" or "cuda"; of no effect on a model that is loaded already.

    Raises:
        StartError: gallery missing or damaged, model missing or another one than the gallery's.
    """

    def __init__(self, folder: AnyPath, *, model: AnyPath | Model = "", device: str = "auto") -> None:
        if isinstance(model, Model):
            self.model, self.gallery = model, open_further(Path(folder).name, Path(folder), model)
        else:
            self.model, self.gallery = open_both(Path(folder), model=os.fspath(model), device=device)
        capacity = Capacity(images=ImageLimits(max_bytes=MAX_BYTES), max_waiting=2**20, max_pairs=2**30)
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="threadmatch-gallery", daemon=True)
        thread.start()
        queues = _wait(_started(self.model, capacity), self._loop)
        self._retriever = Retriever(self.gallery, queues)
        self._end = weakref.finalize(self, _end, self._loop, thread, queues, self.gallery)
        self._end.atexit = False  # the thread ends with the process
        try:
            _wait(queues.probe(), self._loop)  # a model's first call is slow; an answer's times are those of a search
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let searches in progress end, then let go of the gallery; closing twice is no error."""
        self._end()

    def search(self, photo: AnyPhoto, **fields: Unpack[SearchFields]) -> SearchAnswer:
        """The items that show the garment of a photo, likeliest first; edits made until now are seen.

        Args:
            photo: a path, an image file's bytes, or a picture of Pillow's.
            fields: those of POST /v1/search, such as `top_k=5` or `box=(40, 60, 440, 600)`; README.md describes each.

        Raises:
            InvalidFieldError: a field that is unknown, out of range, or contradicts another one.
            InvalidImageError: no photo, or a box outside of it. OSError: its path cannot be read.
            FilterError: the filter cannot be understood.
            StoppedError: the gallery was closed.
        """
        return self.answer(bytes_of(photo), options_of(fields))

    def answer(self, photo: bytes, options: SearchOptions) -> SearchAnswer:
        """`search` for an image file's bytes and options that are checked already."""
        if not self._end.alive:
            raise StoppedError("the gallery is closed; open it again with threadmatch.open")
        result = _wait(self._retriever.search(photo, options), self._loop)
        return search_answer(result, self.model, uuid.uuid4().hex)

    def item_photo(self, item_id: str) -> bytes:
        """An item's display photo, JPEG.

        Raises:
            ItemNotFoundError: no such item.
        """
        return self.gallery.photo(item_id)

    def refresh(self) -> bool:
        """Take up what was ingested since; True when there was something.

        Raises:
            GalleryError, GalleryModelMismatchError: it cannot be used; searches go on with what there was.
        """
        return self.gallery.refresh()


def options_of(fields: SearchFields) -> SearchOptions:
    """The fields of a search, checked.

    Raises:
        InvalidFieldError: says which is wrong, and why.
    """
    given = as_text({**fields})  # as a form would hold them, so that both ways accept the same
    try:
        return check_together(SearchOptions.model_validate(given))
    except ValidationError as error:
        faults = (
            f"{fault['loc'][0]}={given.get(str(fault['loc'][0]), '')!r}: {fault['msg']}" for fault in error.errors()
        )
        raise InvalidFieldError("; ".join(faults)) from error


def bytes_of(photo: AnyPhoto) -> bytes:
    """A photo as an image file's bytes; a picture of Pillow's keeps its pixels, its orientation and its colour profile.

    Raises:
        OSError: its path cannot be read.
    """
    if isinstance(photo, bytes):
        return photo
    if not isinstance(photo, Image.Image):
        return Path(photo).read_bytes()
    if photo.mode in KEPT_AS_THEY_ARE:
        picture = photo
    else:
        picture = photo.convert("RGBA" if photo.has_transparency_data else "RGB")
    exif = Image.Exif()
    if orientation := photo.getexif().get(ORIENTATION):
        exif[ORIENTATION] = orientation
    with io.BytesIO() as file:
        picture.save(file, "TIFF", exif=exif)
        return file.getvalue()


def _wait(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """The result of `work`, done on `loop`, for a caller on another thread."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    finally:
        future.cancel()  # a caller who leaves (Ctrl-C) takes its search along


async def _started(model: Model, capacity: Capacity) -> ModelQueues:
    return await ModelQueues(model, capacity=capacity, detector=open_detector(DEFAULT_PARSER)).__aenter__()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, queues: ModelQueues, gallery: OpenGallery) -> None:
    _wait(queues.stop(END_S), loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    gallery.close()
