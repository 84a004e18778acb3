"""Features as a gallery keeps them: whole numbers of one byte, and a scale a vector.

Who multiplies many of them does so as they are (`model.dense`); everybody else takes their floats.

Letters  N items, V vectors an item, K numbers a vector
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Values that are `codes * scales`.

    Fields:
        codes: (N, *shape) int8, from -127 to 127.
        scales: (N, *shape[:-1]) float32.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, places: slice | list[int] | NDArray[Any]) -> Coded:
        """Of some of the items."""
        return Coded(self.codes[places], self.scales[places])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """For numpy: the floats."""
        del copy  # they always are
        return self.floats().astype(dtype or np.float32, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape)."""
        return self.codes.shape

    def floats(self) -> NDArray[np.float32]:
        """(N, *shape) float32."""
        return np.asarray(self.codes * self.scales[..., None], np.float32)


Stored: TypeAlias = NDArray[Any] | Coded
"""N items' values of one feature, as a gallery keeps them."""


def floats(stored: Stored) -> NDArray[Any]:
    """(N, *shape): float16 or float32 as stored, float32 of what is coded."""
    return stored.floats() if isinstance(stored, Coded) else stored
