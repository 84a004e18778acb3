"""Whether a whole model orders items on a GPU as on the CPU: every matcher that it has, over the same features.

Letters  n queries, m items
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from threadmatch.model.gpu.checks import RankCheck, check_ranks
from threadmatch.model.gpu.choosing import SCORE_APART
from threadmatch.model.inference import Model, load_model
from threadmatch.model.matching import Items, Photo

ENCODED_AT_A_TIME: Final = 32


def check_model_ranks(
    name: str, queries: NDArray[np.uint8], items: NDArray[np.uint8], *, device: str
) -> list[RankCheck]:
    """Score every query against all items by each matcher, on the CPU and on the device.

    Photos are encoded once, on the CPU, so that only the matchers differ; items are as a gallery keeps them.

    Args:
        name: of the model, or its folder.
        queries: (n, S, S, 3) uint8 RGB as prepared for the model.
        items: (m, S, S, 3), likewise.
        device: "cuda".
    """
    plain, other = load_model(name, device="cpu", engine="torch"), load_model(name, device=device, engine="torch")
    photos, shown = _photos(plain, queries), _stored(plain, items)
    checks = []
    for matcher in plain.matchers:
        one, another = plain.matchers[matcher], other.matchers[matcher]
        blocks = [shown] * len(photos)
        expected, found = ([torch.from_numpy(each) for each in by.score_many(photos, blocks)] for by in (one, another))
        checks.append(check_ranks(matcher, expected, found, allowed=SCORE_APART["bfloat16"]))
    return checks


def _encoded(model: Model, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """(n, *shape) float32 of each feature."""
    made = [
        model.encode(pixels[start : start + ENCODED_AT_A_TIME]) for start in range(0, len(pixels), ENCODED_AT_A_TIME)
    ]
    return {spec.name: np.concatenate([one[spec.name] for one in made]) for spec in model.features}


def _photos(model: Model, pixels: NDArray[np.uint8]) -> Sequence[Photo]:
    encoded = _encoded(model, pixels)
    return [{name: values[place] for name, values in encoded.items()} for place in range(len(pixels))]


def _stored(model: Model, pixels: NDArray[np.uint8]) -> Items:
    """As a gallery gives them back."""
    encoded = _encoded(model, pixels)
    stored: dict[str, Any] = {}
    for spec in model.features:
        stored[spec.name] = spec.stored([spec.pack(one) for one in encoded[spec.name]])
    return stored
