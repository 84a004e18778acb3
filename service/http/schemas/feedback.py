"""What people say of matches."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from threadmatch.service.http.schemas.answers import Answer


class FeedbackForm(BaseModel):
    """What POST /v1/feedback takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str = Field(
        min_length=1,
        max_length=100,
        description="of the search's answer",
        examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"],
    )
    item_id: str = Field(min_length=1, max_length=2000, description="the item judged", examples=["MH06-black-main"])
    verdict: Literal["match", "no_match"] = Field(description="whether it is the garment of the photo")
    gallery: str | None = Field(default=None, max_length=100, description="the gallery that was searched")


class FeedbackAnswer(Answer):
    """A verdict that is on disk."""

    request_id: str = Field(examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"])
    item_id: str = Field(examples=["MH06-black-main"])
    verdict: Literal["match", "no_match"] = Field(examples=["match"])
    replaced: bool = Field(description="whether it counts instead of an earlier one", examples=[False])
