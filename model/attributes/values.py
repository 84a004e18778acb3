"""Which value of an attribute a photo shows, and how probable: read from its embedding alone.

A network that was trained with named values has a direction for each; the softmax over the cosines with them, times a
scale fitted on held-out photos, is the probability. Plain numpy: a gallery's kept embeddings are enough.

Letters  n photos, A attributes, D embedding size, V values
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.attributes.config import Attribute

Floats = NDArray[np.float16] | NDArray[np.float32]


PREDICTED: Final = "predicted."
"""How the columns begin that are read off photos, so that nobody takes them for what a shop wrote down."""
PROBABILITY: Final = "_probability"


@dataclass(frozen=True, slots=True)
class Predicted:
    """The likeliest value of an attribute and its probability, 0..1."""

    value: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class ValueDirections:
    """What the values of each attribute look like.

    Fields:
        attributes: A, in the order of the embeddings.
        directions: by attribute (V, D) of any length; V is 0 where values are not known.
    """

    attributes: tuple[Attribute, ...]
    directions: Mapping[str, NDArray[np.float32]] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the attributes."""
        return tuple(attribute.name for attribute in self.attributes)

    def probabilities(self, embeddings: Floats, attribute: Attribute) -> NDArray[np.float32]:
        """(n, V) of one attribute; rows sum to 1. `embeddings` (n, A, D) are unit vectors."""
        own = np.asarray(embeddings[:, self.names.index(attribute.name)], np.float32)
        toward = self.directions[attribute.name]
        cosine = own @ (toward / np.maximum(np.linalg.norm(toward, axis=1, keepdims=True), 1e-12)).T
        logits = attribute.scale * cosine
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)

    def predict(self, embeddings: Floats) -> list[dict[str, Predicted]]:
        """For each photo the likeliest value of every attribute whose values are known."""
        found: list[dict[str, Predicted]] = [{} for _ in embeddings]
        for attribute in self.attributes:
            if not attribute.values:
                continue
            for own, odds in zip(found, self.probabilities(embeddings, attribute), strict=True):
                best = int(odds.argmax())
                own[attribute.name] = Predicted(attribute.values[best], float(odds[best]))
        return found


def predicted_columns(said: Mapping[str, Predicted]) -> dict[str, str | float]:
    """Metadata of one photo: "predicted.neckline" the value and "predicted.neckline_probability" how probable it is."""
    columns: dict[str, str | float] = {}
    for name, own in said.items():
        columns[f"{PREDICTED}{name}"] = own.value
        columns[f"{PREDICTED}{name}{PROBABILITY}"] = round(own.probability, 3)
    return columns


def fitted_scale(
    cosine: NDArray[np.float64], marks: NDArray[np.bool_], scales: Sequence[float] = tuple(np.geomspace(2, 60, 40))
) -> float:
    """The scale under which held-out photos' own values are likeliest (temperature scaling, Guo et al., ICML 2017).

    Args:
        cosine: (n, V) of held-out photos with the values' directions.
        marks: (n, V), what is true; rows without a value are passed over.
        scales: tried.
    """
    known = marks.any(axis=1)
    if not known.any():
        return float(scales[len(scales) // 2])
    own, wanted = cosine[known], marks[known] / marks[known].sum(axis=1, keepdims=True)

    def surprise(scale: float) -> float:
        logits = scale * own
        top = logits.max(axis=1, keepdims=True)
        likely = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        return -float((wanted * likely).sum(axis=1).mean())

    return float(min(scales, key=surprise))
