"""What a search answers, as DESIGN.md writes it: the matches of one photo, or of several."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from threadmatch.service.http.schemas.answers import Answer, GalleryStamp, ModelStamp, PixelBox
from threadmatch.service.http.schemas.detection import ProposalAnswer
from threadmatch.service.http.schemas.health import ErrorAnswer

MAX_BATCH_PHOTOS = 64


HEATMAP_EXAMPLE = "/v1/search/1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d/matches/MH06-black-main/heatmap.png"


class QueryAnswer(Answer):
    """The photo as it was searched."""

    width: int = Field(description="pixels of the upright photo", examples=[480])
    height: int = Field(description="pixels of the upright photo", examples=[640])
    box: PixelBox = Field(description="the part that was searched", examples=[[40, 60, 440, 600]])
    chosen_by: Literal["client", "detector", "nobody"] = Field(
        default="nobody",
        description="who chose that part: the client with `box`, the detector, or nobody, so that it is all of it",
        examples=["detector"],
    )
    garment: str | None = Field(
        default=None, description="what the detector takes the searched part for", examples=["outerwear"]
    )
    garments: list[ProposalAnswer] = Field(
        default=[],
        description="the garments that the detector saw, the main one first; empty where `box` was sent, for then it "
        "does not look",
    )


class NoteAnswer(Answer):
    """Something to know of an answer that is no error."""

    note: Literal["NoGarment"] = Field(description="stable name to switch on", examples=["NoGarment"])
    detail: str = Field(
        description="in words", examples=["the photo shows no garment; the closest items are listed, none is likely"]
    )


class EvidenceAnswer(Answer):
    """One pair of regions that speaks for the match."""

    scale: str = Field(description="the scale the regions belong to", examples=["3x3"])
    query_box: PixelBox = Field(description="the region in pixels of the upright photo", examples=[[0, 0, 160, 213]])
    item_box: PixelBox = Field(
        description="the region in pixels of the item's upright original", examples=[[20, 10, 180, 240]]
    )
    weight: float = Field(
        description="the pair's part of all that speaks for the match, 0 to 1; 0 for what speaks against it",
        examples=[0.21],
    )
    edge: float = Field(description="of the pair into the graph's global node, 0 to 1", examples=[0.08])
    contribution: float | None = Field(
        default=None, description="what the pair adds to the score; null before reasoning", examples=[0.74]
    )


class HeatmapsAnswer(Answer):
    """Heat maps to lay over the two photos: PNG with transparency."""

    query: str = Field(description="covers the searched box of the query", examples=[f"{HEATMAP_EXAMPLE}?side=query"])
    item: str = Field(description="covers the item's display photo", examples=[f"{HEATMAP_EXAMPLE}?side=item"])


class ViewAnswer(Answer):
    """Another item of the match's product, with its own scores."""

    id: str = Field(examples=["MH06-black-back"])
    image_url: str = Field(examples=["/v1/items/MH06-black-back/image"])
    score: float | None = Field(examples=[1.24])
    stage: str | None = Field(default=None, description="the matcher that gave the score", examples=["grnet"])
    probability: float | None = Field(examples=[0.41])
    stage1_rank: int = Field(ge=1, examples=[12])
    distance: float = Field(examples=[0.38])


class DuplicateAnswer(Answer):
    """An item that shows the same photo as the match or one of its views."""

    id: str = Field(examples=["MH06-black-copy"])
    product_id: str | None = Field(examples=["MH06-black"])
    image_url: str = Field(examples=["/v1/items/MH06-black-copy/image"])
    stage1_rank: int = Field(ge=1, examples=[8])


class PredictedAnswer(Answer):
    """A value that the model reads off a photo; nobody wrote it down."""

    value: str = Field(examples=["v"])
    probability: float = Field(ge=0, le=1, description="that this is the value", examples=[0.93])


class AttributeAlikeAnswer(Answer):
    """How alike photo and item are in one attribute."""

    name: str = Field(examples=["neckline"])
    similarity: float = Field(description="cosine of the two, -1 to 1", examples=[0.87])
    predicted_query: PredictedAnswer | None = Field(
        description="what the photo seems to show; null where the model knows no names of values"
    )
    predicted_item: PredictedAnswer | None = Field(description="what the item seems to be, likewise")


class AttributeMatchAnswer(AttributeAlikeAnswer):
    """The same, and what asking for it did."""

    weight: float = Field(description="as asked for", examples=[1.0])
    moved: int = Field(
        description="places among the candidates that this attribute moved the item up, the others as they are; less "
        "than 0 is down",
        examples=[4],
    )


class MatchAnswer(Answer):
    """One item of the gallery that may be the garment of the photo."""

    rank: int = Field(ge=1, description="place in this answer", examples=[1])
    id: str = Field(examples=["MH06-black-main"])
    product_id: str | None = Field(examples=["MH06-black"])
    score: float | None = Field(
        description="of the last matcher that scored it, higher is better: log-odds of sparse and grnet, a mean cosine "
        "of the others; null with global",
        examples=[3.91],
    )
    stage: str | None = Field(
        default=None,
        description="the matcher that gave the score, where several take turns: compare scores of one stage only",
        examples=["grnet"],
    )
    probability: float | None = Field(
        description="0 to 1, that it is the same garment; null where no calibrated matcher scored it", examples=[0.93]
    )
    confidence: Literal["very likely", "likely", "possible", "unlikely"] | None = Field(
        default=None,
        description="the probability in a word: from 0.9, from 0.6, from 0.25 (or the model's threshold of no match, "
        "where that is lower), and below; null without a probability",
        examples=["very likely"],
    )
    stage1_rank: int = Field(ge=1, description="place in the first stage's shortlist", examples=[7])
    distance: float = Field(description="of the first stage, 0 to 2, lower is closer", examples=[0.31])
    image_url: str = Field(description="the item's display photo", examples=["/v1/items/MH06-black-main/image"])
    metadata: dict[str, Any] = Field(
        description="the catalogue's other columns", examples=[{"name": "Stark Fundamental Hoodie"}]
    )
    views: list[ViewAnswer] | None = Field(
        default=None,
        description="only with group_by=product: the product's other items in the shortlist, best first",
        exclude_if=lambda value: value is None,
    )
    duplicates: list[DuplicateAnswer] = Field(
        default=[], description="items folded into this match, since they show the same photo"
    )
    evidence: list[EvidenceAnswer] | None = Field(
        default=None,
        description="only with explain: the pairs of regions that add most to the score, after reasoning",
        exclude_if=lambda value: value is None,
    )
    evidence_before: list[EvidenceAnswer] | None = Field(
        default=None,
        description="only with explain: the pairs heard most before reasoning, by edge times similarity",
        exclude_if=lambda value: value is None,
    )
    attributes: list[AttributeMatchAnswer] | None = Field(
        default=None,
        description="only with attributes: those asked for, in that order",
        exclude_if=lambda value: value is None,
    )
    plain_rank: int | None = Field(
        default=None,
        ge=1,
        description="only with attributes: its place among the candidates without them",
        exclude_if=lambda value: value is None,
    )
    heatmaps: HeatmapsAnswer | None = Field(
        default=None,
        description="only with explain, and where the service remembers searches or heatmaps=inline was asked for",
        exclude_if=lambda value: value is None,
    )


TIMINGS_EXAMPLE = {
    "decode": 4.0,
    "encode": 21.0,
    "shortlist": 0.6,
    "gather": 5.2,
    "rerank": 48.0,
    "grnet": 47.9,
    "pick": 3.9,
    "total": 83.0,
}


class SearchAnswer(Answer):
    """The ranked matches of one photo."""

    query: QueryAnswer
    matches: list[MatchAnswer]
    no_match: bool = Field(
        description="true when nothing in the gallery is probably this garment: the best probability is below the "
        "model's own measured threshold, or nothing meets the conditions; `matches` still lists the closest",
        examples=[False],
    )
    no_match_reason: Literal["no_garment", "filter", "empty_gallery", "improbable"] | None = Field(
        default=None,
        description="only with `no_match`, why: the photo shows no garment; no item meets the filter; none is there; "
        "no match is probable enough, by the model's threshold or by min_probability",
        exclude_if=lambda value: value is None,
    )
    notes: list[NoteAnswer] = Field(default=[], description="what to know of this answer; no error", examples=[[]])
    candidates: int = Field(description="items the first stage found and the second compared", examples=[200])
    timings_ms: dict[str, float] = Field(
        description="each stage with the time it waited for its turn; rerank is all matchers of the chain together, "
        "beside which each has its own",
        examples=[TIMINGS_EXAMPLE],
    )
    gallery: GalleryStamp
    model: ModelStamp
    request_id: str = Field(examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"])


class ExplanationAnswer(Answer):
    """What decided one match of a search."""

    id: str = Field(examples=["MH06-black-main"])
    matcher: str = Field(description="the one that explains", examples=["sparse"])
    evidence: list[EvidenceAnswer] = Field(description="the pairs of regions that add most to the score")
    evidence_before: list[EvidenceAnswer] = Field(description="the pairs heard most before reasoning")
    attributes: list[AttributeAlikeAnswer] = Field(
        default=[], description="how alike the two are in every attribute that the gallery has"
    )
    heatmaps: HeatmapsAnswer
    request_id: str = Field(description="of the search", examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"])


class BatchResultAnswer(Answer):
    """What became of one photo of a batch: an answer or an error."""

    index: int = Field(ge=0, description="place of the photo in the form, from 0", examples=[0])
    filename: str = Field(description="as it was sent", examples=["street.jpg"])
    answer: SearchAnswer | None = Field(description="as POST /v1/search gives it; its request_id is its own")
    error: ErrorAnswer | None = Field(description="why there is no answer")


class BatchAnswer(Answer):
    """The results of a batch, in the order of its photos."""

    results: list[BatchResultAnswer]
    timings_ms: dict[str, float] = Field(examples=[{"total": 2140.5}])
    request_id: str = Field(examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"])


EVIDENCE_EXAMPLE = {"scale": "3x3", "query_box": [0, 0, 160, 213], "item_box": [20, 10, 180, 240]}


SEARCH_EXAMPLE: dict[str, Any] = {
    "query": {
        "width": 480,
        "height": 640,
        "box": [40, 60, 440, 600],
        "chosen_by": "detector",
        "garment": "outerwear",
        "garments": [{"box": [52, 76, 428, 584], "score": 0.94, "label": "outerwear"}],
    },
    "matches": [
        {
            "rank": 1,
            "id": "MH06-black-main",
            "product_id": "MH06-black",
            "score": 3.91,
            "stage": "grnet",
            "probability": 0.93,
            "confidence": "very likely",
            "stage1_rank": 7,
            "distance": 0.31,
            "image_url": "/v1/items/MH06-black-main/image",
            "metadata": {"name": "Stark Fundamental Hoodie"},
            "duplicates": [],
            "evidence": [{**EVIDENCE_EXAMPLE, "weight": 0.21, "edge": 0.08, "contribution": 0.74}],
            "evidence_before": [{**EVIDENCE_EXAMPLE, "weight": 0.11, "edge": 0.12}],
            "heatmaps": {"query": f"{HEATMAP_EXAMPLE}?side=query", "item": f"{HEATMAP_EXAMPLE}?side=item"},
        }
    ],
    "no_match": False,
    "notes": [],
    "candidates": 200,
    "timings_ms": TIMINGS_EXAMPLE,
    "gallery": {"generation": "000003", "items": 436},
    "model": {"name": "grnet-lite0", "fingerprint": "5f0c2f9d1c3a"},
    "request_id": "1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d",
}
"""A whole answer, as the OpenAPI description shows it."""
