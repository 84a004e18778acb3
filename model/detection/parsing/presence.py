"""Whether a photo holds a garment at all: a logistic regression on the parser's deepest map, averaged over the photo.

    presence = sigmoid(w . mean(map) + b)

A parser trained on photos of garments sees some in a page of text or a plate of food, and is sure of them. Its deepest
map tells these apart all the same.

FOLDER/presence.safetensors   weight (C,), offset (1,); `parser` in the metadata names the weights it was fitted on
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from threadmatch.model.errors import CheckpointError

logger = logging.getLogger(__name__)

PRESENCE_FILE: Final = "presence.safetensors"
LEAST_PRESENCE: Final = 0.5
"""Below it a photo is said to show no garment; the offset is fitted so that this is the rate of false alarms wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """Fitted: (C,) weights of the map's channels, and the offset."""

    weight: NDArray[np.float32]
    offset: float

    def __call__(self, mean: NDArray[np.float32]) -> float:
        """(C,) mean of the deepest map -> probability that the photo holds a garment, 0..1."""
        logit = float(mean @ self.weight) + self.offset
        return float(1 / (1 + np.exp(-np.clip(logit, -60, 60))))


def load_presence(folder: Path, parser: str) -> Presence | None:
    """What was fitted for a parser; None where nothing was, or for other weights: then every photo counts as one of a
    garment.

    Args:
        folder: that may hold PRESENCE_FILE.
        parser: fingerprint of the parser's weights.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / PRESENCE_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            fitted_on = (file.metadata() or {}).get("parser")
            weight, offset = file.get_tensor("weight"), file.get_tensor("offset")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if fitted_on != parser:
        logger.warning(
            "presence belongs to other weights of the parser and is not used; fit it again",
            extra={"file": str(path), "command": "python -m threadmatch.model.train.parser.presence"},
        )
        return None
    return Presence(weight.astype(np.float32), float(offset[0]))


def save_presence(presence: Presence, folder: Path, parser: str) -> None:
    """Write PRESENCE_FILE for the parser with this fingerprint."""
    tensors = {"weight": presence.weight.astype(np.float32), "offset": np.array([presence.offset], np.float32)}
    save_file(tensors, folder / PRESENCE_FILE, metadata={"parser": parser})
