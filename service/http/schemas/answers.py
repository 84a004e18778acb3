"""What all answers share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PixelBox = Annotated[tuple[float, float, float, float], Field(description="x0, y0, x1, y1 in pixels")]


class Answer(BaseModel):
    """Base of all answers: built once, never changed."""

    model_config = ConfigDict(frozen=True)


class GalleryStamp(Answer):
    """Which gallery answered."""

    generation: str = Field(examples=["000003"])
    items: int = Field(examples=[436])


class ModelStamp(Answer):
    """Which model answered."""

    name: str = Field(examples=["grnet-lite0"])
    fingerprint: str = Field(description="of the weights and all that decides a score", examples=["5f0c2f9d1c3a"])
