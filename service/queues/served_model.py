"""What a service needs of a model; `model.inference.Model` has it, and so does a test's that fails on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.chain import Chain
from threadmatch.model.config import Calibration
from threadmatch.model.features import Encoder
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
    def calibration(self) -> Calibration:
        """Of the calibrated matcher's scores."""
        ...

    def probability(self, scores: NDArray[np.float32], *, items: int | None = None) -> NDArray[np.float32]:
        """Of "same garment" for each score in a gallery of `items`, 0..1."""
        ...
