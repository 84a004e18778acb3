"""How likely a match is right, from what all stages said of it and the shape of the shortlist; and when nothing is.

Letters  k items that the last stage scored, m items that the stage before scored (k of them first), V values a match

    logit = w . clip(v) + b        probability = 1 / (1 + exp(-logit / (1 + strangeness)))

v compares a match with its rivals, so that photos and galleries of another kind move it less than the bare score. What
lies outside of all that was fitted on is strange: it makes the answer unsure (towards one half), never sure of "no".

That is of photos whose garment is there. Whether it is there at all the last stage may tell by itself (`Told.presence`,
fitted on searches with their garment taken out, too); where it does not, an improbable best match says "no match".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.chain import Ranking
from threadmatch.model.errors import ConfigError

VALUES: Final = ("gap", "odds", "dense", "dense_standing", "dense_rank", "stage_one_rank")
"""Score less the best rival's; log-odds in the softmax over the k; the dense score; its distance from the shortlist's
mean in deviations; logarithms of its place in the two stages before."""

Floats = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """A fitted certainty; all tuples have a number for each of VALUES.

    Fields:
        weights, offset: of the logit.
        low, high: the range in which a value was met while fitting; it is clipped to it, and what lies beyond counts as
            strange, in widths of the range.
        no_match_below: probability of the best match under which the garment is said not to be there; 0: never.
        presence_below: presence of the first match under which it is said, in place of that; None where the last stage
            tells no presence.
    """

    weights: tuple[float, ...]
    offset: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    no_match_below: float = 0.0
    presence_below: float | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.weights), len(self.low), len(self.high)}
        if lengths != {len(VALUES)}:
            raise ConfigError(f"certainty has {sorted(lengths)} numbers, expected {len(VALUES)}: {', '.join(VALUES)}")
        if not 0 <= self.no_match_below < 1:
            raise ConfigError(f"certainty's no_match_below is {self.no_match_below}, expected 0 to 1")
        if self.presence_below is not None and not 0 <= self.presence_below <= 1:
            raise ConfigError(f"certainty's presence_below is {self.presence_below}, expected 0 to 1")

    @property
    def threshold(self) -> float:
        """Of "no match", whatever it is a threshold of."""
        return self.no_match_below if self.presence_below is None else self.presence_below

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; what is not there is left out."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certainty:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: a field is missing, unknown, or of another length.
        """
        try:
            given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"certainty has {sorted(values)}: {error}") from error


def match_values(last: Floats, dense: Floats, stage_one_rank: NDArray[np.int64]) -> NDArray[np.float64]:
    """What is known of each match of the last stage.

    Args:
        last: (k,) scores of the last stage, in the order of the stage before.
        dense: (m,) scores of the stage before, best first; the first k are those of `last`.
        stage_one_rank: (k,) place of each in the shortlist, from 0.

    Returns:
        (k, V) in the order of VALUES.
    """
    k = len(last)
    scores = last.astype(np.float64)
    if k > 1:
        best = np.sort(scores)[::-1]
        rival = np.where(scores >= best[0], best[1], best[0])
    else:
        rival = scores - _ALONE
    shifted = np.exp(np.clip(scores - scores.max(), -60, 0)) if k else scores
    share = shifted / max(float(shifted.sum()), 1e-12)
    odds = np.log(np.clip(share, 1e-6, 1 - 1e-6) / np.clip(1 - share, 1e-6, 1 - 1e-6))
    whole = dense.astype(np.float64)
    standing = (whole[:k] - whole.mean()) / (whole.std() + 1e-3) if k else whole[:k]
    return np.stack(
        [scores - rival, odds, whole[:k], standing, np.log1p(np.arange(k)), np.log1p(stage_one_rank)], axis=1
    )


def values_of(ranking: Ranking) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(k,) places that the last stage of a chain scored, as it was given them, and their (k, V) `match_values`.

    Args:
        ranking: of two stages at least; the values are of the last and of the one before it.
    """
    last, before = ranking.stages[-1], ranking.stages[-2]
    return last.places, match_values(last.scores, np.sort(before.scores)[::-1], last.places)


def probability(certainty: Certainty, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """(k, V) of `match_values` -> (k,) probability of "same garment"."""
    low, high = np.asarray(certainty.low), np.asarray(certainty.high)
    width = np.maximum(high - low, 1e-9)
    strange = (np.maximum(low - values, 0) + np.maximum(values - high, 0)) / width  # (k, V)
    logits = np.clip(values, low, high) @ np.asarray(certainty.weights) + certainty.offset
    logits = logits / (1 + strange.sum(axis=1))
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), np.float32)


def says_no_match(certainty: Certainty, probabilities: NDArray[np.float32], presence: float | None = None) -> bool:
    """Whether the garment is said not to be in the gallery.

    Args:
        certainty: fitted.
        probabilities: (k,) of the matches.
        presence: of the first match; None where the last stage tells none.

    Returns:
        True without any match; else whether the presence, or the best probability, is below its threshold.
    """
    if not len(probabilities):
        return True
    if certainty.presence_below is not None and presence is not None:
        return presence < certainty.presence_below
    return bool(probabilities.max() < certainty.no_match_below)


def first_presence(scores: Floats, presence: Floats | None) -> float | None:
    """The presence of the match that scores best; None where there is none."""
    return None if presence is None or not len(scores) else float(presence[np.argmax(scores)])


_ALONE: Final = 5.0
"""A match without a rival counts as so many logits before one."""
