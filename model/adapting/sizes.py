"""How large the features of an adapted encoder become: as much as the budget of an item holds.

Letters  h x w the encoder's own grid, r x c the grid kept, E embedding, C channels, K components a cell
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from threadmatch.model.errors import ConfigError
from threadmatch.model.features import CELLS, EMBEDDING, FeatureSpec

ITEM_BYTES: Final = 6500
"""Most that the features of one item take."""
EMBEDDING_MOST: Final = 768
"""Largest embedding that is kept as it is; of a larger one EMBEDDING_REDUCED components are."""
EMBEDDING_REDUCED: Final = 512
COMPONENTS_MOST: Final = 128
COMPONENTS_LEAST: Final = 16
SIDES: Final = (7, 8, 6)
"""Of the grid kept, if one divides the encoder's own: then each cell is the mean of as many tokens."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is kept of a photo.

    Fields:
        embedding: numbers of stage one's vector.
        reduced: whether those are components of what the encoder gives.
        grid: r, c.
        components: K.
    """

    embedding: int
    reduced: bool
    grid: tuple[int, int]
    components: int

    @property
    def item_bytes(self) -> int:
        """Of an item's features in a gallery."""
        rows, columns = self.grid
        cells = FeatureSpec(CELLS, (rows * columns, self.components), "int4")
        return FeatureSpec(EMBEDDING, (self.embedding,), "float32", indexed=True).size_bytes + cells.size_bytes


def choose_sizes(
    *,
    own_grid: tuple[int, int],
    channels: int,
    pooled: int,
    exact: bool,
    grid: tuple[int, int] | None = None,
    components: int | None = None,
) -> Sizes:
    """The sizes that fit into ITEM_BYTES.

    Args:
        own_grid: h, w.
        channels: C.
        pooled: channels of what stage one's vector is made of.
        exact: keep that vector as it is, if it is no larger than EMBEDDING_MOST.
        grid: asked for; None chooses.
        components: asked for; None takes as many as fit.

    Raises:
        ConfigError: what was asked for does not fit.
    """
    reduced = not exact or pooled > EMBEDDING_MOST
    embedding = min(EMBEDDING_REDUCED, pooled) if reduced else pooled
    kept = grid or tuple(_side(side) for side in own_grid)
    rows, columns = kept
    if rows > own_grid[0] or columns > own_grid[1]:
        raise ConfigError(
            f"grid {rows}x{columns} is finer than this encoder's {own_grid[0]}x{own_grid[1]}; take a coarser one, or "
            "larger photos (--image-px)"
        )
    bare = Sizes(embedding, reduced, (rows, columns), 0).item_bytes
    fitting = 2 * ((ITEM_BYTES - bare) // (rows * columns))
    most = min(COMPONENTS_MOST, channels - channels % 2, fitting)
    if components is None and most < min(COMPONENTS_LEAST, channels):
        raise ConfigError(f"{rows}x{columns} cells leave room for {most} numbers each; take a coarser --grid")
    chosen = Sizes(embedding, reduced, (rows, columns), components or most)
    if chosen.components > channels or chosen.components % 2:
        raise ConfigError(f"components is {components}, expected an even number of at most {channels}")
    if chosen.item_bytes > ITEM_BYTES:
        raise ConfigError(
            f"an item would take {chosen.item_bytes} bytes, at most {ITEM_BYTES} are meant: {rows}x{columns} cells "
            f"leave room for {most} components"
        )
    return chosen


def _side(own: int) -> int:
    """The side of the grid kept for an encoder's own."""
    return min(own, next((side for side in SIDES if own % side == 0), SIDES[0]))
