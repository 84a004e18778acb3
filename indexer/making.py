"""From a photo that a row names to what the gallery keeps of it: the step of an ingestion that may run elsewhere.

    begin   a photo is read, or fetched, and unpacked, while further ones are begun
    finish  a batch of those becomes contents

`LocalMaker` does both on this machine. `indexer.ray.maker.RayMaker` has the same done on many, each with a LocalMaker
of its own. Whoever asks decides which photos are needed and what becomes of the contents, so that neither knows of
runs, rejects or databases.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np

from threadmatch.indexer.catalogue.decoding.pool import Decoded, DecodePool, Same
from threadmatch.indexer.catalogue.fetch import HostList
from threadmatch.indexer.catalogue.garments import CatalogueGarments, given_box, looks
from threadmatch.indexer.catalogue.host_manners import HostHeaders
from threadmatch.indexer.catalogue.sources import ImageFolder, Loader, source_name
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.store.contents import Content, content_of
from threadmatch.model.detection import LOOK_PX
from threadmatch.model.features import Encoder, FeatureSpec

MIN_WINDOW = 32  # images between catalogue and model; more where batches or processes ask for more


@dataclass(frozen=True, slots=True)
class Wanted:
    """A photo to be made into a content.

    Fields:
        image: path below the images folder, or address.
        source: its name, as contents remember it.
        asked_box: what of it, as contents remember it (`catalogue.garments`).
        known: digests of bytes whose contents are there already.
        photo: the image's bytes, where the catalogue itself holds them.
    """

    image: str
    source: str
    asked_box: str
    known: frozenset[str]
    photo: bytes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A content, and whether the photo was cut to its garment."""

    content: Content
    framed: bool

    @property
    def sha256(self) -> str:
        """Of the photo's bytes."""
        return self.content.sha256


class Fresh(Protocol):
    """A photo that was begun and whose content is not known: it goes to `finish`."""

    @property
    def sha256(self) -> str:
        """Of the photo's bytes."""
        ...


F = TypeVar("F", bound=Fresh)
F_co = TypeVar("F_co", bound=Fresh, covariant=True)


class Begun(Protocol[F_co]):
    """A photo on its way."""

    def result(self) -> F_co | Same:
        """Wait for it.

        Raises:
            InvalidImageError: the photo cannot be used.
            IndexerError: it is no fault of the photo.
        """
        ...


class Maker(Protocol[F]):
    """Makes photos into contents. Use as a context manager, from one thread."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def window(self) -> int:
        """How many photos should be begun at a time."""
        ...

    def source_name(self, image: str) -> str:
        """The name under which an image is remembered; InvalidImageError where there is none."""
        ...

    def begin(self, wanted: Wanted) -> Begun[F]:
        """Begin with a photo; it never waits for one."""
        ...

    def finish(self, photos: Sequence[tuple[Wanted, F]]) -> list[Made]:
        """What the photos became, in their order.

        Args:
            photos: B at most, of those that were begun; one may be left out.
        """
        ...


class LocalMaker:
    """Makes contents on this machine: fetches in threads, decodes in processes, encodes here.

    Args:
        images: the folder that paths are below.
        model: encodes.
        options: of the ingestion.
        specs: what the gallery keeps.
    """

    def __init__(self, images: Path, model: Encoder, options: IngestOptions, specs: Sequence[FeatureSpec]) -> None:
        self._model, self._specs = model, specs
        self._garments = CatalogueGarments(model, options.box)
        pool = DecodePool(
            options.workers,
            image_px=model.image_px,
            framing=model.framing,
            limits=options.limits,
            time_limit_s=options.image_limit_s,
        )
        self._folder = ImageFolder(images)
        self._hosts = HostList(options.allow_hosts, private=options.allow_private_network)
        headers = HostHeaders(options.headers)
        self._loader = Loader(self._folder, pool, workers=options.workers, hosts=self._hosts, headers=headers)
        self.window = max(2 * options.batch_size, 4 * options.workers, MIN_WINDOW)
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._exit.enter_context(self._loader)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def source_name(self, image: str) -> str:
        """See `Maker.source_name`."""
        return source_name(image, self._folder, self._hosts)

    def begin(self, wanted: Wanted) -> Begun[Decoded]:
        """See `Maker.begin`."""
        box = wanted.asked_box
        return self._loader.submit(
            wanted.image,
            box=given_box(box),
            known=wanted.known,
            photo=wanted.photo,
            view_px=LOOK_PX if looks(box) else 0,
        )

    def finish(self, photos: Sequence[tuple[Wanted, Decoded]]) -> list[Made]:
        """See `Maker.finish`."""
        if not photos:
            return []
        seen = self._garments.framed([(wanted.asked_box, decoded) for wanted, decoded in photos])
        made = self._model.encode(np.stack([decoded.pixels for decoded in seen]))
        contents = []
        for place, ((wanted, was), decoded) in enumerate(zip(photos, seen, strict=True)):
            content = content_of(
                {name: values[place] for name, values in made.items()},
                self._specs,
                source=wanted.source,
                sha256=decoded.sha256,
                asked_box=wanted.asked_box,
                size=(decoded.width, decoded.height),
                box=decoded.box,
                photo=decoded.photo,
            )
            contents.append(Made(content, framed=decoded is not was))
        return contents
