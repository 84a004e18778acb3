"""What a service needs of a model; `model.inference.Model` has it, and so does a test's that fails on request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.attributes.values import ValueDirections
from threadmatch.model.chain import Chain, Ranking
from threadmatch.model.features import Encoder, Features
from threadmatch.model.inference import Judged
from threadmatch.model.matching import Matcher


class ServedModel(Encoder, Protocol):
    """An encoder with its matchers, the chain they make, and what their scores mean."""

    @property
    def matchers(self) -> Mapping[str, Matcher]:
        """By name."""
        ...

    @property
    def chain(self) -> Chain:
        """The stages of a search behind the shortlist."""
        ...

    @property
    def attributes(self) -> ValueDirections | None:
        """Those that it knows, and what their values look like; None where it has none."""
        ...

    def make_ready(self, names: Collection[str]) -> None:
        """Be ready to encode these features alone, where that costs less than all; takes a moment."""
        ...

    def encode(self, pixels: NDArray[np.uint8], names: Collection[str] | None = None) -> Features:
        """(B, S, S, 3) uint8 RGB -> a (B, *shape) float32 array for each of `names` at least; None for all."""
        ...

    def attention(self, pixels: NDArray[np.uint8], attribute: str) -> NDArray[np.float32]:
        """Where an attribute is seen in (S, S, 3) pixels: (h, w), summing to 1."""
        ...

    def judge(self, ranking: Ranking, *, items: int | None = None) -> Judged:
        """How probable each item of a shortlist is in a gallery of `items`, and when nothing is."""
        ...
