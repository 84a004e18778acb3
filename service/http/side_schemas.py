"""What crosses HTTP beside searches and items: proposed boxes, sessions, feedback."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from threadmatch.service.access.roles import Role
from threadmatch.service.http.schemas import Answer, PixelBox


class ProposalAnswer(Answer):
    """A garment that may be in the photo."""

    box: PixelBox = Field(description="in pixels of the upright photo", examples=[[40, 60, 440, 600]])
    score: float = Field(ge=0, le=1, description="higher is surer; the detector's own measure", examples=[0.72])
    label: str | None = Field(description="what it is, where the detector knows", examples=["skirt"])


class DetectAnswer(Answer):
    """What a detector proposes, the surest first."""

    width: int = Field(description="pixels of the upright photo", examples=[480])
    height: int = Field(description="pixels of the upright photo", examples=[640])
    boxes: list[ProposalAnswer]
    detector: str = Field(description="which one looked", examples=["grabcut"])
    request_id: str = Field(examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"])


class SessionForm(BaseModel):
    """What a browser signs in with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(max_length=200, description="an API key", examples=["tm_1f2e3d4c_..."])


class SessionAnswer(Answer):
    """What the client may do."""

    keys_required: bool = Field(description="whether requests need a key or a session here", examples=[True])
    role: Role | None = Field(description="null without a key where one is needed", examples=["search"])
    galleries: list[str] = Field(description="those that it may use", examples=[["default", "women"]])


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
