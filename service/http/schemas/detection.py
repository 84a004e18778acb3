"""The garments of a photo."""

from __future__ import annotations

from pydantic import Field

from threadmatch.service.http.schemas.answers import Answer, PixelBox


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
