"""What a browser signs in with, and what it is told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from threadmatch.service.access.roles import Role
from threadmatch.service.http.schemas.answers import Answer


class SessionForm(BaseModel):
    """What a browser signs in with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(max_length=200, description="an API key", examples=["tm_1f2e3d4c_..."])


class SessionAnswer(Answer):
    """What the client may do."""

    keys_required: bool = Field(description="whether requests need a key or a session here", examples=[True])
    role: Role | None = Field(description="null without a key where one is needed", examples=["search"])
    galleries: list[str] = Field(description="those that it may use", examples=[["default", "women"]])
