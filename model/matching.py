"""What a matcher is: the protocol that search, queues and evaluation know. `matchers` has the table of those there are.

Letters  N items, R regions, S image side, h x w a feature map
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.coded import Coded, floats

if TYPE_CHECKING:  # who only names a matcher imports no torch
    from threadmatch.model.explain import Explanation, Side

Floats = NDArray[np.float16] | NDArray[np.float32]
Photo = Mapping[str, Floats]
"""One photo's features by name: (*shape) each."""
Items = Mapping[str, Floats | Coded]
"""N items' features by name: (N, *shape) each, those of a gallery as it keeps them."""


def as_photo(items: Items, place: int) -> Photo:
    """One of N items, as a photo's features are given."""
    return {name: floats(values[place : place + 1])[0] for name, values in items.items()}


class Told(NamedTuple):
    """What a matcher says of N items: (N,) float32 `scores`, higher is more alike; and `presence`, (N,) float32, how
    likely the photo's garment is there at all, were the item the answer, 0..1. None: this matcher cannot tell."""

    scores: NDArray[np.float32]
    presence: NDArray[np.float32] | None = None


class Matcher(Protocol):
    """Scores a photo against items. Thread-safe.

    Fields:
        name: in MATCHERS.
        needs: names of the features it reads.
        calibrated: whether the model's `Calibration` is fitted to its scores.
        explains: whether it is an `ExplainingMatcher` too.
        pointwise: whether an item's score is the same whatever items are scored beside it.
        cost: work of a pair, as a share of one of GRNet's: what batches are measured in.
    """

    name: str
    needs: frozenset[str]
    calibrated: bool
    explains: bool
    pointwise: bool
    cost: float

    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """Score each photo against its own items.

        Args:
            queries: the needed features of each photo.
            candidates: the needed features of its N items; N may be 0.

        Returns:
            (N,) float32 for each photo, higher is more alike.
        """
        ...


@runtime_checkable
class TellingMatcher(Protocol):
    """What a matcher has too that can say whether the garment is there."""

    def tell_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[Told]:
        """`score_many`, and what comes with the scores."""
        ...


@runtime_checkable
class ExplainingMatcher(Matcher, Protocol):
    """A matcher that can say what decided a score."""

    def region_boxes(self) -> NDArray[np.float32]:
        """(R, 4) x0, y0, x1, y1 of each region that `evidence` names, in 0..1 of the crop."""
        ...

    def evidence(self, query: Photo, candidates: Items, *, top: int = 5) -> list[Explanation]:
        """The pairs of regions that decided each of N scores, heaviest first; N is small."""
        ...

    def heat(self, query: Photo, candidates: Items) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N, h, w) of the photo and (N, h, w) of the items: where they speak for the match, 0 or more."""
        ...


@runtime_checkable
class GradCam(Protocol):
    """What a matcher has too whose score can be followed back to the pixels by its gradient."""

    def grad_cam(self, pixels: NDArray[np.uint8], other: Photo, *, side: Side) -> NDArray[np.float32]:
        """Grad-CAM of the score on the last feature map, (h, w), 0 or more; `pixels` (S, S, 3) are `side`'s photo."""
        ...


def tell_many(matcher: Matcher, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[Told]:
    """All that a matcher says of photos and their items, given as to `Matcher.score_many`."""
    if isinstance(matcher, TellingMatcher):
        return matcher.tell_many(queries, candidates)
    return [Told(scores) for scores in matcher.score_many(queries, candidates)]


def as_explaining(matcher: Matcher) -> ExplainingMatcher | None:
    """The matcher as one that can say what decided, None where it cannot."""
    return matcher if matcher.explains and isinstance(matcher, ExplainingMatcher) else None
