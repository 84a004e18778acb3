"""What a search may be asked for."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_TOP_K = 100


MAX_CANDIDATES = 2000


MAX_FILTER_CHARS = 2000


MAX_ATTRIBUTE_WEIGHT = 10.0


ATTRIBUTES = "attributes"  # the matcher, as `model.features.ATTRIBUTES`, which the client must not import


STAGE_ONE = "global"  # as `model.chain.STAGE_ONE`, which the client must not import


def _name_matchers(schema: dict[str, Any]) -> None:
    """The matchers there are, in the description alone: whoever only reads forms and answers needs no model."""
    from threadmatch.model.matchers import MATCHERS

    schema["anyOf"] = [{"type": "string", "enum": [*MATCHERS, STAGE_ONE]}, {"type": "null"}]


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
        description="part of the photo to search: x0,y0,x1,y1 in pixels of the upright photo; none for all of it; auto "
        "for what the detector is surest of. By default the service finds the main garment of a photo that shows "
        "somebody, and searches all of any other",
        examples=["40,60,440,600", "auto", "none"],
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
        description="which matcher has the last word; the model's whole chain by default. sparse: a sparse graph of "
        "cells; dense: the mean cosine of each cell's best partner; mga: aligned slots; greedy: the mean cosine of "
        "each region's best partner; grnet: the paper's graph of regions, slow; global: the first stage's order",
        examples=["sparse"],
        json_schema_extra=_name_matchers,
    )
    attributes: str | None = Field(
        default=None,
        max_length=1000,
        description="attributes that items should share with the photo, each with its weight, 1 where none is given: "
        "they join the photo's own order, or with matcher=attributes make it alone. A weight of 0 only tells how alike "
        "they are. GET /v1/gallery lists the attributes there are",
        examples=["neckline:1,sleeves:0.5"],
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
    def shortlist(self) -> int:
        """How many items the first stage hands on: by attributes alone the nearest ones are not what is asked for."""
        whole = self.last_matcher == ATTRIBUTES and "candidates" not in self.model_fields_set
        return MAX_CANDIDATES if whole else self.candidates

    @property
    def last_matcher(self) -> str | None:
        """What `matcher` and `rerank` ask for together; None: the model's whole chain."""
        return self.matcher if self.rerank else STAGE_ONE
