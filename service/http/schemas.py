"""What crosses HTTP: the form of a search and the answers, as DESIGN.md writes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_TOP_K = 100
MAX_CANDIDATES = 2000
MAX_FILTER_CHARS = 2000
MAX_BATCH_PHOTOS = 64

STAGE_ONE = "global"  # as `model.chain.STAGE_ONE`, which the client must not import


def _name_matchers(schema: dict[str, Any]) -> None:
    """The matchers there are, in the description alone: whoever only reads forms and answers needs no model."""
    from threadmatch.model.matchers import MATCHERS

    schema["anyOf"] = [{"type": "string", "enum": [*MATCHERS, STAGE_ONE]}, {"type": "null"}]


PixelBox = Annotated[tuple[float, float, float, float], Field(description="x0, y0, x1, y1 in pixels")]


def _is_none(value: object) -> bool:
    return value is None


class Answer(BaseModel):
    """Base of all answers: built once, never changed."""

    model_config = ConfigDict(frozen=True)


class SearchOptions(BaseModel):
    """What a search may be asked for: the text fields of POST /v1/search and the flags of `threadmatch search`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_k: int = Field(default=10, ge=1, le=MAX_TOP_K, description="matches to return")
    candidates: int = Field(
        default=200, ge=1, le=MAX_CANDIDATES, description="items the first stage hands to the reranker"
    )
    box: str | None = Field(
        default=None,
        max_length=200,
        description="part of the photo to search, x0,y0,x1,y1 in pixels of the upright photo, or auto for the surest "
        "proposal of the detector; all of the photo by default",
        examples=["40,60,440,600", "auto"],
        json_schema_extra={"format": "pixel-box"},
    )
    filter: str | None = Field(
        default=None,
        max_length=MAX_FILTER_CHARS,
        description="condition on id, product_id and the metadata columns that candidates must meet",
        examples=['category == "Tops" and price < 50 and color in ["red", "blue"]'],
        json_schema_extra={"format": "filter-expression"},
    )
    gallery: str | None = Field(
        default=None, max_length=64, description="which gallery, where the service holds several", examples=["women"]
    )
    matcher: str | None = Field(
        default=None,
        max_length=64,
        description="which matcher has the last word: grnet reasons over the graph of region similarities; greedy "
        "takes the mean cosine of each region's best partner; global keeps the first stage's order; the model's whole "
        "chain by default",
        examples=["grnet"],
        json_schema_extra=_name_matchers,
    )
    depth: int | None = Field(
        default=None,
        ge=1,
        le=MAX_CANDIDATES,
        description="items that the last matcher orders; those behind keep the order of the stage before; as the "
        "model's chain says by default",
        examples=[16],
    )
    rerank: bool = Field(default=True, description="false: the first stage's order as it is, like matcher=global")
    explain: bool = Field(
        default=False, description="add to each match the pairs of regions that decided it, and where its heat maps are"
    )
    heatmaps: Literal["links", "inline"] = Field(
        default="links",
        description="with explain: addresses of the heat maps, or the first ten matches' in the answer as data: URLs",
    )
    group_by: Literal["item", "product"] = Field(
        default="item", description="product: each product once, with its best view"
    )
    collapse_duplicates: bool = Field(
        default=True, description="false: items that show the same photo are matches of their own"
    )
    min_probability: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="leave out matches less probable than this"
    )

    @property
    def last_matcher(self) -> str | None:
        """What `matcher` and `rerank` ask for together; None: the model's whole chain."""
        return self.matcher if self.rerank else STAGE_ONE


HEATMAP_EXAMPLE = "/v1/search/1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d/matches/MH06-black-main/heatmap.png"


class ItemFields(BaseModel):
    """The text fields of PUT /v1/items/{id}."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str | None = Field(
        default=None, max_length=512, description="several items of one product share it", examples=["MH06-black"]
    )
    box: str | None = Field(
        default=None,
        max_length=200,
        description="part of the photo to encode, x0,y0,x1,y1 in pixels of the upright photo; all of it by default",
        examples=["40,60,440,600"],
        json_schema_extra={"format": "pixel-box"},
    )
    metadata: str | None = Field(
        default=None,
        description="a JSON object: the catalogue's other columns",
        examples=['{"name": "Stark Fundamental Hoodie", "price": 42}'],
        json_schema_extra={"format": "json-object"},
    )


class QueryAnswer(Answer):
    """The photo as it was searched."""

    width: int = Field(description="pixels of the upright photo", examples=[480])
    height: int = Field(description="pixels of the upright photo", examples=[640])
    box: PixelBox = Field(description="the part that was searched", examples=[[0, 0, 480, 640]])


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


class MatchAnswer(Answer):
    """One item of the gallery that may be the garment of the photo."""

    rank: int = Field(ge=1, description="place in this answer", examples=[1])
    id: str = Field(examples=["MH06-black-main"])
    product_id: str | None = Field(examples=["MH06-black"])
    score: float | None = Field(
        description="of the last matcher that scored it, higher is better: log-odds of grnet, mean cosine of greedy; "
        "null with global",
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
    heatmaps: HeatmapsAnswer | None = Field(
        default=None,
        description="only with explain, and where the service remembers searches or heatmaps=inline was asked for",
        exclude_if=lambda value: value is None,
    )


class GalleryStamp(Answer):
    """Which gallery answered."""

    generation: str = Field(examples=["000003"])
    items: int = Field(examples=[436])


class ModelStamp(Answer):
    """Which model answered."""

    name: str = Field(examples=["grnet-lite0"])
    fingerprint: str = Field(description="of the weights and all that decides a score", examples=["5f0c2f9d1c3a"])


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
    candidates: int = Field(description="items the first stage found and the second compared", examples=[200])
    timings_ms: dict[str, float] = Field(
        description="each stage with the time it waited for its turn; rerank is all matchers of the chain together, "
        "beside which each has its own",
        examples=[TIMINGS_EXAMPLE],
    )
    gallery: GalleryStamp
    model: ModelStamp
    request_id: str = Field(examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"])


class ItemAnswer(Answer):
    """One item of the gallery."""

    id: str = Field(examples=["MH06-black-main"])
    product_id: str | None = Field(examples=["MH06-black"])
    width: int = Field(description="pixels of the upright original", examples=[1200])
    height: int = Field(description="pixels of the upright original", examples=[1500])
    box: PixelBox = Field(description="the part that was ingested", examples=[[0, 0, 1200, 1500]])
    image_url: str = Field(examples=["/v1/items/MH06-black-main/image"])
    metadata: dict[str, Any] = Field(examples=[{"name": "Stark Fundamental Hoodie"}])
    gallery: GalleryStamp


class DeletedAnswer(Answer):
    """What became of DELETE /v1/items/{id}."""

    id: str = Field(examples=["MH06-black-main"])
    deleted: bool = Field(description="false when there was no such item", examples=[True])


class ColumnAnswer(Answer):
    """One metadata column that filters and answers can use."""

    name: str = Field(examples=["color"])
    kind: str = Field(examples=["string"])
    values: list[str] | None = Field(
        default=None,
        description="of a text column with few of them: those to choose from, the most frequent first",
        examples=[["red", "blue"]],
    )
    min: float | None = Field(default=None, description="of a number column: its least value", examples=[None])
    max: float | None = Field(default=None, description="of a number column: its greatest value", examples=[None])


class GalleryAnswer(Answer):
    """The gallery in service."""

    name: str = Field(
        description="by which requests name it; the one they need not name is `default`", examples=["default"]
    )
    generation: str = Field(examples=["000003"])
    items: int = Field(examples=[436])
    unfolded: int = Field(
        description="changes that are searched beside the index, not yet folded into it", examples=[3]
    )
    columns: list[ColumnAnswer]
    model: ModelStamp
    newer_refused: str | None = Field(
        description="why a newer generation is not in service, if there is one", examples=[None]
    )
    feedback: bool = Field(default=False, description="whether POST /v1/feedback takes verdicts", examples=[True])


class LiveAnswer(Answer):
    """The process runs and answers."""

    status: Literal["live"] = "live"


class ReadyAnswer(Answer):
    """Searches can be answered. Where keys are needed, only the status is for everybody."""

    status: Literal["ready"] = "ready"
    gallery: GalleryStamp | None = Field(default=None, exclude_if=_is_none)
    galleries: dict[str, GalleryStamp | None] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="each gallery by name; null for one that is not there yet",
        examples=[{"default": {"generation": "000003", "items": 436}}],
    )
    model: ModelStamp | None = Field(default=None, exclude_if=_is_none)
    detail: str | None = Field(
        default=None, description="what an operator should look at although searches work", examples=[None]
    )


class ErrorAnswer(Answer):
    """The form of every error."""

    error: str = Field(description="stable name to switch on", examples=["InvalidImage"])
    detail: str = Field(
        description="what was found, what was expected, what to do",
        examples=["the bytes are not an image; expected JPEG, PNG, WebP, ..."],
    )
    request_id: str = Field(
        description="also in the header X-Request-ID", examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"]
    )


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
    "query": {"width": 480, "height": 640, "box": [0, 0, 480, 640]},
    "matches": [
        {
            "rank": 1,
            "id": "MH06-black-main",
            "product_id": "MH06-black",
            "score": 3.91,
            "stage": "grnet",
            "probability": 0.93,
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
    "candidates": 200,
    "timings_ms": TIMINGS_EXAMPLE,
    "gallery": {"generation": "000003", "items": 436},
    "model": {"name": "grnet-lite0", "fingerprint": "5f0c2f9d1c3a"},
    "request_id": "1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d",
}
"""A whole answer, as the OpenAPI description shows it."""
