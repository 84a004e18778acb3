"""How the service is, and the one form of its errors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from threadmatch.service.http.schemas.answers import Answer, GalleryStamp, ModelStamp


def _is_none(value: object) -> bool:
    return value is None


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
