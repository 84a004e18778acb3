"""A network that somebody else trained, as a checkpoint's config.json describes it: all that its weights do not say.

Letters  S image side, h x w the grid of its tokens
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from threadmatch.model.errors import ConfigError
from threadmatch.model.framing import SQUASHED, Framing

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """How such a network is built without its weights, and what photos it was trained to see.

    Fields:
        architecture: what its library builds it from, plain JSON; nothing is fetched for it.
        mean, std: of its normalised pixels, per channel, in 0..1.
        framing: how a photo becomes its square.
        grid: rows and columns that its map is averaged to; () keeps it as it is.
        own_pooled: whether stage one takes the network's own pooled output, as it was trained; else its map, pooled.
        bfloat16: whether it computes in that where the processor can: twice as fast or so, a hundredth off.

    Raises:
        ConfigError: a value out of range.
    """

    architecture: Mapping[str, Any] = field(default_factory=dict, hash=False)
    mean: Triple
    std: Triple
    framing: Framing = SQUASHED
    grid: tuple[int, int] | tuple[()] = ()
    own_pooled: bool = False
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(isinstance(value, int | float) and value == value for value in values):
                raise ConfigError(f"encoder: {name} is {values}, expected a number for each of red, green and blue")
        if min(self.std) <= 0:
            raise ConfigError(f"encoder: std is {self.std}, expected more than 0")
        if len(self.grid) not in (0, 2) or not all(isinstance(side, int) and side > 0 for side in self.grid):
            raise ConfigError(f"encoder: grid is {self.grid}, expected rows and columns, or nothing")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        values = {**{one.name: getattr(self, one.name) for one in fields(self)}, "framing": self.framing.to_dict()}
        return dict(json.loads(json.dumps(values)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: an unknown field, or a value that cannot be.
        """
        try:
            given = {
                **values,
                "framing": Framing.from_dict(values.get("framing", {})),
                "mean": tuple(values["mean"]),
                "std": tuple(values["std"]),
                "grid": tuple(values.get("grid", ())),
            }
            return cls(**given)
        except (TypeError, KeyError, AttributeError) as error:
            known = ", ".join(one.name for one in fields(cls))
            raise ConfigError(f"encoder is {values!r:.200}; expected {known} ({error!r})") from error
