"""What a multi-granular alignment is built of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from threadmatch.model.errors import ConfigError

Grid = tuple[int, int]
Aggregation = Literal["attention", "windows"]
Alignment = Literal["attention", "same_slot"]

SLOTS: Final = "slots"
"""The feature: unit vectors, coarse to fine."""
SLOT_MAPS: Final = "slot_maps"
"""The feature: where each slot looks, so that what decided can be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentConfig:
    """Sizes and forms.

    Fields:
        grid: rows and columns of the map whose cells are aggregated.
        channels: C of a cell.
        embedding_channels: E of the global vector.
        slot_channels: D of a slot, at most 256.
        sides: of the grid of slots of each granularity, coarse to fine. (1, 2, 3) are 1 + 4 + 9 = 14 slots.
        aggregation: "attention" is the FGA; "windows" pools fixed windows, to measure what the FGA gives.
        alignment: "attention" is the ATA; "same_slot" compares each slot with the one at its place, to measure it.
    """

    grid: Grid = (7, 7)
    channels: int = 256
    embedding_channels: int = 512
    slot_channels: int = 256
    sides: tuple[int, ...] = (1, 2, 3)
    aggregation: Aggregation = "attention"
    alignment: Alignment = "attention"

    def __post_init__(self) -> None:
        if min(*self.grid, self.channels, self.embedding_channels, self.slot_channels, *self.sides, 1) < 1:
            raise ConfigError(f"{self} cannot be built: sizes are at least 1")
        if not self.sides or list(self.sides) != sorted(set(self.sides)) or max(self.sides) > min(self.grid):
            raise ConfigError(f"sides is {self.sides}, expected rising numbers of 1 to {min(self.grid)}")
        if self.aggregation not in get_args(Aggregation) or self.alignment not in get_args(Alignment):
            raise ConfigError(
                f"aggregation is {self.aggregation!r} of {get_args(Aggregation)}, alignment {self.alignment!r} of "
                f"{get_args(Alignment)}"
            )

    @property
    def slots(self) -> int:
        """K of all granularities together."""
        return sum(side * side for side in self.sides)

    @property
    def positions(self) -> int:
        """P."""
        return self.grid[0] * self.grid[1]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First slot and the one behind the last of each granularity."""
        spans, start = [], 0
        for side in self.sides:
            spans.append((start, start + side * side))
            start += side * side
        return spans

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "grid": list(self.grid), "sides": list(self.sides)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AlignmentConfig:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: a field that is not known, or of another kind.
        """
        try:
            return cls(**{**values, "grid": tuple(values["grid"]), "sides": tuple(values["sides"])})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"an alignment has {sorted(values)}: {error!r}") from error
