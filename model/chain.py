"""A search as a chain of stages: the shortlist, then matchers, each of which reorders the first few that it is given.

    shortlist 200  ->  greedy, all of them  ->  grnet, the best 16

What a model's chain is stands in its config.json; a request may name another matcher or another depth. Nothing here
computes a score, so nothing here imports torch.

Letters  N items of a shortlist
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.errors import ConfigError

STAGE_ONE: Final = "global"
"""What a request names as `matcher` to keep the shortlist's order: no stage at all."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One matcher of a chain.

    Fields:
        matcher: a name in `matchers.MATCHERS`.
        items: how many of the first it reorders, at most; None: all that it is given.
    """

    matcher: str
    items: int | None = None

    def __post_init__(self) -> None:
        if self.items is not None and self.items < 1:
            raise ConfigError(f"stage {self.matcher!r} reorders {self.items} items, expected at least 1")

    def takes(self, given: int) -> int:
        """How many of `given` items it reorders."""
        return given if self.items is None else min(self.items, given)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"matcher": self.matcher} if self.items is None else {"matcher": self.matcher, "items": self.items}


Chain = tuple[Stage, ...]
DEFAULT_CHAIN: Final[Chain] = (Stage("grnet"),)
"""Of a checkpoint that names none: GRNet over the whole shortlist, as in the paper."""


def chain_from(stages: Sequence[Mapping[str, Any]]) -> Chain:
    """Read what `Stage.to_dict` wrote.

    Raises:
        ConfigError: something else.
    """
    try:
        chain = tuple(Stage(**stage) for stage in stages)
    except TypeError as error:
        raise ConfigError(
            f"a chain is a list of stages such as {DEFAULT_CHAIN[0].to_dict()}; found {stages}"
        ) from error
    for stage in chain:
        if not isinstance(stage.matcher, str) or not isinstance(stage.items, int | None):
            raise ConfigError(f"stage {stage} of the chain needs a matcher's name and a whole number of items")
    return chain


def asked_chain(chain: Chain, *, matcher: str | None = None, depth: int | None = None) -> Chain:
    """The chain of one request.

    Args:
        chain: of the model.
        matcher: the one that has the last word: the chain up to it, or it alone where the chain has none such;
            STAGE_ONE leaves no stage; None takes the whole chain.
        depth: items that the last stage reorders; None as the chain has it.
    """
    if matcher == STAGE_ONE:
        return ()
    names = [stage.matcher for stage in chain]
    if matcher is not None:
        chain = chain[: names.index(matcher) + 1] if matcher in names else (Stage(matcher),)
    return (*chain[:-1], Stage(chain[-1].matcher, depth)) if depth is not None and chain else chain


@dataclass(frozen=True, slots=True, eq=False)
class StageScores:
    """What one stage said of the (n,) places that stood first, in the order in which it was given them: (n,) scores,
    and presence where it tells one (`matching.Told`)."""

    matcher: str
    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    presence: NDArray[np.float32] | None = None


Tell = Callable[[str, NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.float32] | None]]
"""From a matcher's name and (n,) places to its (n,) scores, and presence where it tells one."""


@dataclass(slots=True)
class Ranking:
    """The order of a shortlist while the stages of a chain go over it. Each permutes the head and touches nothing else.

    Args:
        count: N.

    Fields:
        order: (N,) places in the shortlist, best first.
        scores: (N,) by place, of the last stage that scored it; NaN where none did.
        scored_by: that stage's matcher by place; None where none did.
        stages: what each stage said, in turn.
    """

    count: int
    order: NDArray[np.int64] = field(init=False)
    scores: NDArray[np.float32] = field(init=False)
    scored_by: list[str | None] = field(init=False)
    stages: list[StageScores] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.order = np.arange(self.count)
        self.scores = np.full(self.count, np.nan, np.float32)
        self.scored_by = [None] * self.count

    def head(self, items: int) -> NDArray[np.int64]:
        """(n,) places that stand first now."""
        return self.order[:items]

    def through(self, chain: Iterable[Stage], tell: Tell) -> Ranking:
        """Let stages go over it, one after the other.

        Args:
            chain: of them.
            tell: asked by each for what it says of the (n,) places that stand first.

        Returns:
            Itself.
        """
        for stage in chain:
            scores, presence = tell(stage.matcher, self.head(stage.takes(self.count)))
            self.rerank(stage.matcher, scores, presence)
        return self

    def rerank(self, matcher: str, scores: NDArray[np.float32], presence: NDArray[np.float32] | None = None) -> None:
        """Order the head anew; equal scores keep the order they have.

        Args:
            matcher: that scored.
            scores: (n,) of the first n places as they stand, higher is better.
            presence: (n,) of the same, where the matcher tells it.
        """
        head = self.order[: len(scores)].copy()
        self.stages.append(StageScores(matcher, head, scores, presence))
        self.scores[head] = scores
        for place in head.tolist():
            self.scored_by[place] = matcher
        self.order[: len(scores)] = head[np.argsort(-scores, kind="stable")]
        once = np.bincount(self.order, minlength=self.count) == 1
        assert once.all(), "a stage permutes the head and touches nothing else"
