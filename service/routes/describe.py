"""How errors look in the OpenAPI description."""

from __future__ import annotations

import http
from typing import Any

from service.schemas import ErrorAnswer


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses, all in the one error form."""
    return {
        status: {"model": ErrorAnswer, "description": http.HTTPStatus(status).phrase} for status in sorted(statuses)
    }
