"""Features as a gallery keeps them: whole numbers of a byte or of half a byte, and a scale a vector.

Who multiplies many of them does so as they are (`model.dense`, `model.gpu`); everybody else takes their floats.

Letters  N items, V vectors an item, K numbers a vector
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

NIBBLE_OFFSET = 8
"""Added to a number of half a byte, so that it is above 0."""


class Coded:
    """Values that are `codes * scales`. What came two numbers a byte is taken apart when somebody asks for `codes`.

    Args:
        codes: (N, *shape) int8, from -127 to 127.
        scales: (N, *shape[:-1]) float32.
    """

    def __init__(self, codes: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
        self._codes: NDArray[np.int8] | None = codes
        self._nibbles: NDArray[np.uint8] | None = None
        self.scales = scales

    @classmethod
    def of_nibbles(cls, nibbles: NDArray[np.uint8], scales: NDArray[np.float32]) -> Coded:
        """Of two numbers a byte.

        Args:
            nibbles: (N, *shape[:-1], K / 2) uint8: number n of a vector in the low four bits of byte n, number K / 2 +
                n in its high four, each NIBBLE_OFFSET more than it is.
            scales: (N, *shape[:-1]) float32.
        """
        made = cls.__new__(cls)
        made._codes, made._nibbles, made.scales = None, nibbles, scales
        return made

    @property
    def nibbles(self) -> NDArray[np.uint8] | None:
        """As `of_nibbles` was given them; None where they came a byte each."""
        return self._nibbles

    @property
    def codes(self) -> NDArray[np.int8]:
        """(N, *shape) int8."""
        if self._codes is None:
            assert self._nibbles is not None
            self._codes = np.empty(self.shape, np.int8)
            _take_apart(self._nibbles, self._codes)
        return self._codes

    def codes_of(self, first: int, last: int, *, out: NDArray[np.int8]) -> None:
        """`codes` of the items from `first` to before `last` into (last - first, *shape) int8; none are kept here."""
        if self._nibbles is None or self._codes is not None:
            np.copyto(out, self.codes[first:last])
        else:
            _take_apart(self._nibbles[first:last], out)

    def __len__(self) -> int:
        return len(self.scales)

    def __getitem__(self, places: slice | list[int] | NDArray[Any]) -> Coded:
        """Of some of the items."""
        if self._nibbles is not None:
            return Coded.of_nibbles(self._nibbles[places], self.scales[places])
        return Coded(self.codes[places], self.scales[places])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """For numpy: the floats."""
        del copy  # they always are
        return self.floats().astype(dtype or np.float32, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape)."""
        if self._nibbles is not None:
            return (*self._nibbles.shape[:-1], 2 * self._nibbles.shape[-1])
        return self.codes.shape

    def floats(self) -> NDArray[np.float32]:
        """(N, *shape) float32."""
        return np.asarray(self.codes * self.scales[..., None], np.float32)


def _take_apart(nibbles: NDArray[np.uint8], out: NDArray[np.int8]) -> None:
    """(..., K / 2) uint8 into (..., K) int8."""
    half, codes = nibbles.shape[-1], out.view(np.uint8)
    np.bitwise_and(nibbles, 15, out=codes[..., :half])
    np.right_shift(nibbles, 4, out=codes[..., half:])
    codes -= np.uint8(NIBBLE_OFFSET)  # wraps round: 1..15 to -7..7


Stored: TypeAlias = NDArray[Any] | Coded
"""N items' values of one feature, as a gallery keeps them."""


def floats(stored: Stored) -> NDArray[Any]:
    """(N, *shape): float16 or float32 as stored, float32 of what is coded."""
    return stored.floats() if isinstance(stored, Coded) else stored
