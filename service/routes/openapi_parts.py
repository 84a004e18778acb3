"""How errors and forms look in the OpenAPI description."""

from __future__ import annotations

import http
from typing import Any

from pydantic import BaseModel

from threadmatch.service.http.schemas.health import ErrorAnswer


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses, all in the one error form."""
    return {
        status: {"model": ErrorAnswer, "description": http.HTTPStatus(status).phrase} for status in sorted(statuses)
    }


def body_of(model: type[BaseModel], *media_types: str) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads a JSON body itself."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind in media_types}}}


def text_fields(model: type[BaseModel]) -> dict[str, Any]:
    """The properties of a form with this model's fields, each as it can be sent.

    A form field is text or absent: what is None in the model has no `null` here, and no `null` default.
    """
    fields: dict[str, Any] = {}
    for name, schema in model.model_json_schema()["properties"].items():
        kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
        field = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
        if len(kinds) == 1:
            field = {key: value for key, value in field.items() if key != "anyOf"} | kinds[0]
        fields[name] = field
    return fields
