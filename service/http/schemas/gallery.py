"""Items and the gallery that holds them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from threadmatch.service.http.schemas.answers import Answer, GalleryStamp, ModelStamp, PixelBox


class ItemFields(BaseModel):
    """The text fields of PUT /v1/items/{id}."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str | None = Field(
        default=None, max_length=512, description="several items of one product share it", examples=["MH06-black"]
    )
    box: str | None = Field(
        default=None,
        max_length=200,
        description="part of the photo to encode: x0,y0,x1,y1 in pixels of the upright photo; none for all of it; auto "
        "for the garment, where the photo shows somebody. By default what the gallery's last ingestion did",
        examples=["40,60,440,600", "auto", "none"],
        json_schema_extra={"format": "pixel-box"},
    )
    metadata: str | None = Field(
        default=None,
        description="a JSON object: the catalogue's other columns",
        examples=['{"name": "Stark Fundamental Hoodie", "price": 42}'],
        json_schema_extra={"format": "json-object"},
    )


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
    warnings: list[str] = Field(
        default_factory=list,
        description="what was taken although filters may pass over it, such as a text among numbers",
    )


class ItemChange(BaseModel):
    """The body of PATCH /v1/items/{id}; what it does not name stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str | None = Field(
        default=None, max_length=512, description="the new one; null takes it away", examples=["MH06-black"]
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="merged into the item's (RFC 7396): null takes a column away, what is not named stays",
        examples=[{"price": 34.5, "season": None}],
    )


class ListedItem(Answer):
    """One item of a list; GET /v1/items/{id} has its photo's size too."""

    id: str = Field(examples=["MH06-black-main"])
    product_id: str | None = Field(examples=["MH06-black"])
    image_url: str = Field(examples=["/v1/items/MH06-black-main/image"])
    metadata: dict[str, Any] = Field(examples=[{"name": "Stark Fundamental Hoodie"}])


class ItemsAnswer(Answer):
    """One page of the gallery's items."""

    items: list[ListedItem]
    next: str | None = Field(
        description="`cursor` of the next page; null where this is the last", examples=["1200.100"]
    )
    gallery: GalleryStamp


class DeletedAnswer(Answer):
    """What became of DELETE /v1/items/{id}."""

    id: str = Field(examples=["MH06-black-main"])
    deleted: bool = Field(description="false when there was no such item", examples=[True])


class ColumnAnswer(Answer):
    """One metadata column that filters and answers can use."""

    name: str = Field(examples=["color"])
    kind: str = Field(examples=["string"])
    predicted: bool = Field(
        default=False, description="read off the photos by the model when they were ingested; nobody wrote it down"
    )
    values: list[str] | None = Field(
        default=None,
        description="of a text column with few of them: those to choose from, the most frequent first",
        examples=[["red", "blue"]],
    )
    counts: list[int] | None = Field(
        default=None,
        description="how many items have each of `values`; of a large gallery, how many of a sample",
        examples=[[12, 7]],
    )
    min: float | None = Field(default=None, description="of a number column: its least value", examples=[None])
    max: float | None = Field(default=None, description="of a number column: its greatest value", examples=[None])


class AttributeAnswer(Answer):
    """One attribute that searches can weigh."""

    name: str = Field(examples=["neckline"])
    values: list[str] = Field(
        description="that the model can tell apart; empty where it knows no names", examples=[["v"]]
    )


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
    attributes: list[AttributeAnswer] = Field(
        default_factory=list, description="that a search's `attributes` can name; empty where none are kept"
    )
    model: ModelStamp
    newer_refused: str | None = Field(
        description="why a newer generation is not in service, if there is one", examples=[None]
    )
    feedback: bool = Field(default=False, description="whether POST /v1/feedback takes verdicts", examples=[True])
