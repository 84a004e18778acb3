"""What an ingestion is told, where it is, and what it did."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from threadmatch.indexer.catalogue.decoding.pool import TIME_LIMIT_S
from threadmatch.indexer.index_building import FLAT_MAX_ITEMS
from threadmatch.indexer.rejects import RejectBound
from threadmatch.indexer.store.manifest import BoxRule
from threadmatch.model.features import Encoder
from threadmatch.model.images import ImageLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNodes:
    """A Ray cluster that photos are made into features on, in place of this machine.

    Fields:
        address: as Ray writes it: "auto" for the cluster that this machine is a node of, "host:port", "ray://host:port".
        opens: opens the same model on a node; it is sent there, so a function or class of an installed module.
        gpus: that it needs there.
    """

    address: str
    opens: Callable[[], Encoder] = field(repr=False)
    gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """How to ingest.

    Args:
        images: the folder that paths are below; None for the catalogue's own.
        batch_size: images a model call, and a commit.
        workers: decoding processes; on a Ray cluster each task has one of its own.
        fresh: forget an unfinished run and encode every row again.
        prune: delete the items that the catalogue does not hold; nothing where a row's item is not known.
        max_rejects: rows that may be rejected before nothing is put in service.
        preset: the shop system whose feed it is, of `catalogue.feeds.PRESETS`.
        mapped: for `id`, `image`, `product_id` and `box` the catalogue's own names.
        allow_hosts: whose addresses are fetched.
        headers: (host, name, value), sent to that host alone.
        allow_private_network: also where such a name leads to a private address.
        limits: on one image.
        image_limit_s: for decoding one image.
        flat_max: up to how many items the index stays exact.
        box: what of a photo is encoded whose row has no box: "none" for all of it, "auto" for the garment that is meant
            where the photo shows somebody (`catalogue.garments`).
        predict: add to each item's metadata the values of attributes that the model reads off its photo, in columns
            that begin with "predicted.".
        ray: where photos are read, decoded and encoded; None for this machine.
    """

    images: Path | None = None
    batch_size: int = 32
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    fresh: bool = False
    prune: bool = False
    max_rejects: RejectBound = field(default_factory=RejectBound)
    mapped: dict[str, str] = field(default_factory=dict)
    preset: str = ""
    allow_hosts: tuple[str, ...] = ()
    headers: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)
    allow_private_network: bool = False
    limits: ImageLimits = field(default_factory=ImageLimits)
    image_limit_s: float = TIME_LIMIT_S
    flat_max: int = FLAT_MAX_ITEMS
    box: BoxRule = "none"
    predict: bool = False
    ray: RayNodes | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 1:
            raise ValueError("batch_size and workers must be at least 1")
        if self.box not in get_args(BoxRule):
            raise ValueError(f"box is {self.box!r}, expected one of {', '.join(get_args(BoxRule))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where an ingestion is: "reading", "encoding", or a stage of `store.publish`, and rows so far."""

    stage: str
    rows: int = 0
    done: int = 0
    encoded: int = 0
    skipped: int = 0
    rejected: int = 0
    framed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResult:
    """What an ingestion did. `items` are in the gallery now; `skipped` rows used features that were there already; of
    `framed` of those that were `encoded` the garment alone was taken.
    """

    items: int
    rejected: int
    skipped: int
    encoded: int
    seconds: float
    images_per_second: float
    generation: str
    rejects_file: str | None
    framed: int = 0
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """The result as `threadmatch ingest --json` prints it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
