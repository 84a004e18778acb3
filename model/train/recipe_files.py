"""Recipes as TOML: what all kinds of them are read and checked by."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from threadmatch.model.errors import ConfigError
from threadmatch.model.settings import check_type


def read_toml(path: Path) -> dict[str, Any]:
    """A recipe's values.

    Raises:
        ConfigError: no such file, or it is not TOML in UTF-8.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not a readable recipe: it cannot be read as TOML ({error})") from error


def check_settings(path: Path, part: str, given: Mapping[str, Any], kind: type) -> None:
    """Refuse unknown settings of a part, and values of another type, by name.

    Args:
        path: of the recipe.
        part: its name in the recipe, such as "fit".
        given: what the recipe says there.
        kind: the dataclass that it becomes.

    Raises:
        ConfigError: one is unknown or of another type.
    """
    known = {field.name for field in fields(kind)}
    if wrong := set(given) - known:
        raise ConfigError(f"{path}: [{part}] has {sorted(wrong)}, known are {sorted(known)}")
    for name, value in given.items():
        try:
            check_type(kind, name, value)
        except ConfigError as error:
            raise ConfigError(f"{path}: [{part}] {error}") from error
