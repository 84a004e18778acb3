"""What a search gives: the matches of one photo, and what they were found in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from threadmatch.indexer.reading.gallery import Item
from threadmatch.model.attributes.values import Predicted
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.images import Box
from threadmatch.model.matching import Photo

DIGITS: Final = 4
"""Of a score, a probability or a distance behind the point; what follows is rounding."""


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


@dataclass(frozen=True, slots=True)
class AttributeAlike:
    """One attribute of the photo and of an item: how alike, -1 to 1, and the values they seem to have.

    Values are predicted, None where the model knows no names of values.
    """

    name: str
    similarity: float
    query: Predicted | None
    item: Predicted | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeMatch(AttributeAlike):
    """The same of an attribute that was asked for, and what that did to the item.

    `moved` is by how many places up among the candidates, against the order without it; less than 0 is down.
    """

    weight: float
    moved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One item, with its place in the shortlist and after the chain.

    `score` is of the last stage that scored the item, `stage` its matcher; None where none did. Only a calibrated
    matcher's scores have a probability. `views` are the other items of its product, best first, None unless products
    were asked for; `duplicates` show the photo of this item or of one of its views. `attributes` and `plain_rank`, its
    place among the candidates without them, are None unless attributes were asked for.
    """

    rank: int
    item: Item
    score: float | None
    stage: str | None
    probability: float | None
    stage1_rank: int
    distance: float
    evidence: list[EvidenceBoxes] | None = None
    views: list[Match] | None = None
    duplicates: list[Duplicate] = field(default_factory=list)
    evidence_before: list[EvidenceBoxes] | None = None
    heatmaps: Heatmaps | None = None
    attributes: tuple[AttributeMatch, ...] | None = None
    plain_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of the photo before it was searched.

    Fields:
        chosen_by: who chose the part that was searched: the client, the detector, or nobody, so that it is all of it.
        garment: kind of what was searched, where the detector knows.
        garments: what else can be searched, boxes in pixels of the upright photo; empty where nobody looked.
        no_garment: the photo shows no garment, or nothing at all.
    """

    chosen_by: Literal["client", "detector", "nobody"] = "nobody"
    garment: str | None = None
    garments: tuple[tuple[Box, Proposal], ...] = ()
    no_garment: bool = False


NoMatchReason = Literal["no_garment", "filter", "empty_gallery", "improbable"]


@dataclass(frozen=True, slots=True, eq=False)
class QueryView:
    """What is kept of a search for later.

    Fields:
        crop: JPEG of the part that was searched.
        photo: JPEG of the whole photo; empty where it was never unpacked whole.
        features: of what was searched, float16: what `matcher` needs, and the attributes where there are.
        matcher: the one that can explain the answer, None where none can.
        rivals: ids of all items that it compared with one another, where an item's score depends on the others.
    """

    crop: bytes
    photo: bytes
    features: Photo
    matcher: str | None
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What decided a match: the item, the matcher that says so, its pairs after reasoning and before.

    `attributes` are all that model and gallery have.
    """

    item_id: str
    matcher: str
    evidence: list[EvidenceBoxes]
    evidence_before: list[EvidenceBoxes]
    attributes: tuple[AttributeAlike, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The matches of one photo, and what they were found in.

    Fields:
        width, height, box: of the photo, and of it what was searched; pixels of the upright photo.
        seen: before it was searched.
        matches: best first.
        no_match_reason: why the garment is said not to be there; None where it may be.
        no_match_below: probability under which a best match is none; None: the model has no such threshold.
        candidates: items that were compared.
        view: None where nothing is kept.
    """

    width: int
    height: int
    box: Box
    seen: Seen
    matches: list[Match]
    no_match_reason: NoMatchReason | None
    no_match_below: float | None
    candidates: int
    timings_ms: dict[str, float]
    generation: str
    gallery_items: int
    view: QueryView | None = None

    @property
    def no_match(self) -> bool:
        """Whether the garment is said not to be in the gallery."""
        return self.no_match_reason is not None

    @property
    def outcome(self) -> str:
        """In one word: match, no_match, or empty (nothing meets the conditions)."""
        return "empty" if not self.matches else "no_match" if self.no_match else "match"
