"""Which models there are and what a checkpoint says of itself, read without its weights and without importing torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from threadmatch.model.certainty import Certainty
from threadmatch.model.chain import DEFAULT_CHAIN, chain_from
from threadmatch.model.config import Calibration, GRNetConfig
from threadmatch.model.errors import CheckpointError, ConfigError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
DEFAULT_MODEL = "grnet-lite0-lite2"
DEFAULT_PARSER = "parser-lite0"
"""Finds the garments of a photo; see `detection.parsing`."""
SHIPPED = Path(__file__).parent / "weights"


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def read_description(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        CheckpointError: missing or not what this release writes.
    """
    path = folder / CONFIG_FILE
    try:
        description = json.loads(path.read_text())
        return {
            **description,
            "model": GRNetConfig.from_dict(description["model"]),
            "calibration": Calibration.from_dict(description.get("calibration", {})),
            "certainty": Certainty.from_dict(description["certainty"]) if description.get("certainty") else None,
            "chain": chain_from(description["chain"]) if "chain" in description else DEFAULT_CHAIN,
        }
    except FileNotFoundError as error:
        found = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else "no such folder"
        raise CheckpointError(
            f"no {CONFIG_FILE} in {folder} (found: {found}); expected a folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is not a description of a threadmatch model ({error!r})") from error
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
