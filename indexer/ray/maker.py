"""Photos of an ingestion made into contents on the nodes of a cluster.

The store stays with the driver, which commits batches in the catalogue's order as it does on one machine: so a batch
that was made twice, since a node died, is in the store once.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol, Self

from threadmatch.indexer.catalogue.decoding.pool import Same
from threadmatch.indexer.catalogue.fetch import HostList
from threadmatch.indexer.catalogue.sources import ImageFolder, source_name
from threadmatch.indexer.errors import IndexerError
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.making import Made, Wanted
from threadmatch.indexer.ray.tasks import RayTasks
from threadmatch.indexer.ray.worker import Answer, Job, Refused
from threadmatch.model.data.tables.photo_files import is_address
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.features import Encoder, FeatureSpec

BATCHES_EACH: Final = 2
"""Batches at a time for each CPU of the cluster: one is computed, one waits."""
LOOK_AGAIN_S: Final = 5.0
"""How old the number of CPUs may be; nodes come and go."""
SEEN_BY_NODES: Final = frozenset({"missing_file", "unreadable_file", "not_a_file", "outside_images", "bad_path"})
"""Reasons that depend on what a node sees of the disk."""


class Tasks(Protocol):
    """Who runs batches."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def cpus(self) -> int:
        """How many batches can be computed at a time."""
        ...

    def send(self, job: Job, photos: Sequence[Wanted]) -> object:
        """Begin a batch; what `wait` takes."""
        ...

    def wait(self, sent: object) -> list[Answer]:
        """The answers of a batch; IndexerError where there will be none."""
        ...


class RayMaker:
    """Has contents made by the nodes of a cluster; a `making.Maker`.

    Args:
        images: the folder that paths are below, at the same place on every node.
        model: the one that `options.ray` opens.
        options: of the ingestion.
        specs: what the gallery keeps.
        tasks: who runs the batches; None for the cluster of `options.ray`.
    """

    def __init__(
        self,
        images: Path,
        model: Encoder,
        options: IngestOptions,
        specs: Sequence[FeatureSpec],
        *,
        tasks: Tasks | None = None,
    ) -> None:
        assert options.ray is not None
        self._tasks = tasks or RayTasks(options.ray.address, gpus=options.ray.gpus)
        self._batch_size = options.batch_size
        self._folder = ImageFolder(images)
        self._hosts = HostList(options.allow_hosts, private=options.allow_private_network)
        self._job = Job(
            key=uuid.uuid4().hex,
            images=self._folder.root,
            opens=options.ray.opens,
            features_fingerprint=model.features_fingerprint,
            specs=tuple(specs),
            options=replace(options, ray=None, workers=1),
        )
        self._filling = _Batch()
        self._cpus, self._counted_at = 1, -math.inf

    def __enter__(self) -> Self:
        self._tasks.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.__exit__(*_)

    @property
    def window(self) -> int:
        """See `Maker.window`. It grows with the cluster."""
        if time.monotonic() > self._counted_at + LOOK_AGAIN_S:
            self._cpus = max(1, self._tasks.cpus())
            self._counted_at = time.monotonic()
        return BATCHES_EACH * self._cpus * self._batch_size

    def source_name(self, image: str) -> str:
        """See `Maker.source_name`."""
        return source_name(image, self._folder, self._hosts)

    def begin(self, wanted: Wanted) -> _Place:
        """See `Maker.begin`. A batch is sent when it is full, or waited for."""
        batch = self._filling
        batch.photos.append(wanted)
        if len(batch.photos) == self._batch_size:
            self._send(batch)
        return _Place(self, batch, len(batch.photos) - 1)

    def finish(self, photos: Sequence[tuple[Wanted, Made]]) -> list[Made]:
        """See `Maker.finish`; the nodes have done it."""
        return [made for _, made in photos]

    def answer(self, batch: _Batch, place: int) -> Made | Same:
        """See `Begun.result`."""
        if batch.answers is None:
            if batch.sent is None:
                self._send(batch)
            batch.answers = self._wait(batch)
            batch.sent = None  # lets the cluster forget them
        answer = batch.answers[place]
        if isinstance(answer, Refused):
            self._check_seen(batch.photos[place], answer)
            raise InvalidImageError(answer.message, reason=answer.reason)
        return answer

    def _send(self, batch: _Batch) -> None:
        batch.sent = self._tasks.send(self._job, batch.photos)
        if batch is self._filling:
            self._filling = _Batch()

    def _wait(self, batch: _Batch) -> list[Answer]:
        try:
            return self._tasks.wait(batch.sent)
        except IndexerError as error:
            first, last = batch.photos[0].image, batch.photos[-1].image
            raise IndexerError(
                f"{error} (photos {first[:200]!r} to {last[:200]!r}; what is done is kept, the same command goes on)"
            ) from error

    def _check_seen(self, wanted: Wanted, refused: Refused) -> None:
        """Tell a photo that is not there from a node that does not see it.

        Raises:
            IndexerError: this machine sees it.
        """
        if refused.reason not in SEEN_BY_NODES or wanted.photo is not None or is_address(wanted.image):
            return
        path, _ = self._folder.find(wanted.image)
        if path.is_file() and os.access(path, os.R_OK):
            raise IndexerError(
                f"node {refused.node} does not see {path}, which is here: {refused.message}. Give every node the "
                f"folder {self._folder.root} at the same place"
            )


@dataclass(slots=True, eq=False)
class _Batch:
    """Photos of one task; what stands for it while it is under way; the answers when they are there."""

    photos: list[Wanted] = field(default_factory=list)
    sent: object = None
    answers: list[Answer] | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """One photo of a batch; a `making.Begun`."""

    maker: RayMaker
    batch: _Batch
    place: int

    def result(self) -> Made | Same:
        """See `Begun.result`."""
        return self.maker.answer(self.batch, self.place)
