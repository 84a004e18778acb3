"""Settings from files, held against the types that their dataclass gives them."""

from __future__ import annotations

from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from threadmatch.model.errors import ConfigError


def check_type(settings: type, name: str, value: object) -> None:
    """Refuse a value of another type.

    Args:
        settings: a dataclass.
        name: of one of its fields.
        value: as read; a whole number will do for a float, and nothing else is converted.

    Raises:
        ConfigError: it is of another type; named.
    """
    try:
        _adapters(settings)[name].validate_python(value, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{name} is {value!r}; {error.errors()[0]['msg']}") from error


@cache
def _adapters(settings: type) -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(kind) for name, kind in get_type_hints(settings).items()}
