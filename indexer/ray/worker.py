"""What a node does: one batch of photos made into contents, by the very code that one machine runs.

A worker process of Ray keeps its model from one batch to the next. It is of one driver, as Ray's processes are.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from threadmatch.indexer.catalogue.decoding.pool import Decoded, Same
from threadmatch.indexer.errors import IndexerError
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.making import LocalMaker, Made, Wanted
from threadmatch.model.errors import InvalidImageError, ModelError
from threadmatch.model.features import Encoder, FeatureSpec


@dataclass(frozen=True, slots=True)
class Job:
    """What all batches of an ingestion have in common.

    Fields:
        key: of the ingestion, unlike any other.
        images: the folder that paths are below, at the same place on every node.
        opens: opens the model.
        features_fingerprint: that it must have.
        specs: what the gallery keeps.
        options: of the ingestion, for one node.
    """

    key: str
    images: Path
    opens: Callable[[], Encoder]
    features_fingerprint: str
    specs: tuple[FeatureSpec, ...]
    options: IngestOptions


@dataclass(frozen=True, slots=True)
class Refused:
    """A photo that could not be used, as an InvalidImageError says it, and the node that said so."""

    reason: str
    message: str
    node: str


Answer = Made | Same | Refused

_makers: dict[str, LocalMaker] = {}
"""By the job's key; one at most."""


def make_batch(job: Job, photos: Sequence[Wanted]) -> list[Answer]:
    """Read, decode and encode some photos on this node.

    Returns:
        Of each what it became, in their order.

    Raises:
        IndexerError: this node cannot; the message names it.
    """
    node = socket.gethostname()
    try:
        return _made(_maker_of(job), photos, node)
    except (IndexerError, ModelError, OSError) as error:
        raise IndexerError(f"node {node}: {error}") from error


def _made(maker: LocalMaker, photos: Sequence[Wanted], node: str) -> list[Answer]:
    begun = [maker.begin(photo) for photo in photos]
    answers: dict[int, Answer] = {}
    decoded: dict[int, tuple[Wanted, Decoded]] = {}
    for place, one in enumerate(begun):
        try:
            loaded = one.result()
        except InvalidImageError as error:
            answers[place] = Refused(error.reason, str(error), node)
        else:
            if isinstance(loaded, Same):
                answers[place] = loaded
            else:
                decoded[place] = (photos[place], loaded)
    answers |= dict(zip(decoded, maker.finish(list(decoded.values())), strict=True))
    return [answers[place] for place in range(len(photos))]


def _maker_of(job: Job) -> LocalMaker:
    """The maker of this process: its model, and its decoding process."""
    if job.key not in _makers:
        for key in list(_makers):
            _makers.pop(key).__exit__()
        if not job.images.is_dir():
            raise IndexerError(f"no folder of images at {job.images}; it must be at the same place on every node")
        model = job.opens()
        if model.features_fingerprint != job.features_fingerprint:
            raise IndexerError(
                f"model {model.name!r} has the features {model.features_fingerprint[:12]} here and "
                f"{job.features_fingerprint[:12]} where the ingestion was started; give all nodes the same release of "
                "threadmatch and the same checkpoint"
            )
        _makers[job.key] = LocalMaker(job.images, model, job.options, job.specs).__enter__()
    return _makers[job.key]
