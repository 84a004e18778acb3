"""What a search needs and what it gives: the model as the retriever sees it, and the matches of one photo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.reading.gallery import Item
from threadmatch.model.config import Calibration
from threadmatch.model.explain import Explanation, Side
from threadmatch.model.images import Box
from threadmatch.model.inference import Features, Floats


class Matcher(Protocol):
    """What a search needs of `model.inference.Model`."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def features_fingerprint(self) -> str: ...
    @property
    def image_px(self) -> int: ...
    @property
    def regions_shape(self) -> tuple[int, int]: ...
    def encode(self, pixels: NDArray[np.uint8]) -> Features: ...
    def score_many(self, queries: list[Floats], candidates: list[Floats]) -> list[NDArray[np.float32]]: ...
    def greedy_many(self, queries: list[Floats], candidates: list[Floats]) -> list[NDArray[np.float32]]: ...
    def probability(self, scores: NDArray[np.float32], *, items: int | None = None) -> NDArray[np.float32]: ...
    def evidence(self, query: Floats, candidates: Floats, *, top: int = 5) -> list[Explanation]: ...
    def region_heat(self, query: Floats, candidates: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def grad_cam(self, pixels: NDArray[np.uint8], other: Floats, *, side: Side) -> NDArray[np.float32]: ...
    @property
    def calibration(self) -> Calibration: ...
    def region_boxes(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class EvidenceBoxes:
    """One pair of regions in pixels of the two upright originals; see `model.explain.Evidence`."""

    scale: str
    query_box: Box
    item_box: Box
    weight: float
    edge: float
    contribution: float | None


@dataclass(frozen=True, slots=True)
class Heatmaps:
    """Where the heat maps of the two photos are: addresses, or `data:` URLs that hold them."""

    query: str
    item: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An item that shows the same photo as one that is shown."""

    item: Item
    stage1_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One item, with its place in both stages. Only a second stage gives a score, and only grnet a probability.

    `views` are the other items of its product, best first, None unless products were asked for; `duplicates` show the
    photo of this item or of one of its views.
    """

    rank: int
    item: Item
    score: float | None
    probability: float | None
    stage1_rank: int
    distance: float
    evidence: list[EvidenceBoxes] | None = None
    views: list[Match] | None = None
    duplicates: list[Duplicate] = field(default_factory=list)
    evidence_before: list[EvidenceBoxes] | None = None
    heatmaps: Heatmaps | None = None


@dataclass(frozen=True, slots=True, eq=False)
class QueryView:
    """What is kept of the photo for later: a JPEG of the part that was searched, and its (R, C) regions."""

    crop: bytes
    regions: NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The matches of one photo, and what they were found in; `view` is None where nothing is kept."""

    width: int
    height: int
    box: Box
    matches: list[Match]
    no_match: bool
    candidates: int
    timings_ms: dict[str, float]
    generation: str
    gallery_items: int
    view: QueryView | None = None
