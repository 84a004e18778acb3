"""Items by their attributes: how like each one's is to the photo's, and the weighted sum.

Letters  N items, A attributes, D embedding size
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.attributes.values import Floats
from threadmatch.model.coded import floats
from threadmatch.model.features import ATTRIBUTES
from threadmatch.model.matching import Items, Photo

WEIGHTS: Final = "attribute_weights"
"""What a photo may say beside its features: (A,), how much each attribute counts. Without it all count alike."""


def attribute_similarity(query: Floats, items: Floats) -> NDArray[np.float32]:
    """Cosine of each attribute.

    Args:
        query: (A, D) unit vectors.
        items: (N, A, D) unit vectors.

    Returns:
        (N, A) in -1..1.
    """
    return np.asarray(np.einsum("nad,ad->na", items.astype(np.float32), query.astype(np.float32)), np.float32)


class AttributeMatcher:
    """Weighted mean of the attributes' cosines, straight from what a gallery keeps. Thread-safe."""

    name = ATTRIBUTES
    needs = frozenset({ATTRIBUTES})
    calibrated = False
    explains = False
    pointwise = True
    cost = 1e-4  # 15 products of 256 numbers

    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`; scores are in -1..1 where weights add up to 1."""
        scores = []
        for query, items in zip(queries, candidates, strict=True):
            count = query[ATTRIBUTES].shape[0]
            weights = np.asarray(query.get(WEIGHTS, np.full(count, 1 / count, np.float32)), np.float32)
            scores.append(attribute_similarity(query[ATTRIBUTES], floats(items[ATTRIBUTES])) @ weights)
        return scores
