"""Features as a gallery keeps them: whole numbers of a byte or of a part of one, and a scale a vector.

Who multiplies many of them does so as they are (`model.dense`, `model.gpu`); everybody else takes their floats.

Letters  N items, V vectors an item, K numbers a vector
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Packing:
    """How several whole numbers share a byte: number n of a vector of K in byte n mod (K / a byte's numbers).

    Fields:
        bits: of a number: the first so many of a vector have the lowest bits of their byte.
        offset: what a number is more than it says, so that it is 0 at least.
        step: between neighbouring numbers; a code is `step * stored - offset`.
    """

    bits: int
    offset: int
    step: int = 1

    @property
    def a_byte(self) -> int:
        """Numbers that share one."""
        return 8 // self.bits

    def put_together(self, codes: NDArray[np.int8]) -> Bytes:
        """(..., K) whole numbers -> (..., K / a byte's numbers)."""
        stored = ((codes.astype(np.int16) + self.offset) // self.step).astype(np.uint8)
        parts = np.split(stored, self.a_byte, axis=-1)
        together = parts[0]
        for place, part in enumerate(parts[1:], start=1):
            together = together | (part << np.uint8(place * self.bits))
        return together

    def take_apart(self, packed: Bytes, out: NDArray[np.int8]) -> None:
        """(..., K / a byte's numbers) into (..., K) whole numbers."""
        width, codes = packed.shape[-1], out.view(np.uint8)
        spread = self.step.bit_length() - 1  # the step is a power of two: a shift does for a product
        mask = np.uint8(((1 << self.bits) - 1) << spread)
        for place in range(self.a_byte):
            part, shift = codes[..., place * width : (place + 1) * width], place * self.bits - spread
            (np.right_shift if shift >= 0 else np.left_shift)(packed, np.uint8(abs(shift)), out=part)
            np.bitwise_and(part, mask, out=part)
        codes -= np.uint8(self.offset)  # wraps round


NIBBLES: Final = Packing(bits=4, offset=8)
"""Two numbers a byte, -7 to 7."""
PAIRS: Final = Packing(bits=2, offset=3, step=2)
"""Four numbers a byte: -3, -1, 1 and 3."""


class Coded:
    """Values that are `codes * scales`. What came several numbers a byte is taken apart when somebody asks for `codes`.

    Args:
        codes: (N, *shape) int8, from -127 to 127.
        scales: (N, *shape[:-1]) float32.
    """

    def __init__(self, codes: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
        self._codes: NDArray[np.int8] | None = codes
        self._packed: tuple[Packing, Bytes] | None = None
        self.scales = scales

    @classmethod
    def of_packed(cls, packing: Packing, packed: Bytes, scales: NDArray[np.float32]) -> Coded:
        """Of several numbers a byte.

        Args:
            packing: how.
            packed: (N, *shape[:-1], K / a byte's numbers).
            scales: (N, *shape[:-1]) float32.
        """
        made = cls.__new__(cls)
        made._codes, made._packed, made.scales = None, (packing, packed), scales
        return made

    @property
    def packed(self) -> tuple[Packing, Bytes] | None:
        """How, and as `of_packed` was given them; None where numbers came a byte each."""
        return self._packed

    @property
    def codes(self) -> NDArray[np.int8]:
        """(N, *shape) int8."""
        if self._codes is None:
            assert self._packed is not None
            packing, packed = self._packed
            self._codes = np.empty(self.shape, np.int8)
            packing.take_apart(packed, self._codes)
        return self._codes

    def codes_of(self, first: int, last: int, *, out: NDArray[np.int8]) -> None:
        """`codes` of the items from `first` to before `last` into (last - first, *shape) int8; none are kept here."""
        if self._packed is None or self._codes is not None:
            np.copyto(out, self.codes[first:last])
        else:
            packing, packed = self._packed
            packing.take_apart(packed[first:last], out)

    def __len__(self) -> int:
        return len(self.scales)

    def __getitem__(self, places: slice | list[int] | NDArray[Any]) -> Coded:
        """Of some of the items."""
        if self._packed is not None:
            packing, packed = self._packed
            return Coded.of_packed(packing, packed[places], self.scales[places])
        return Coded(self.codes[places], self.scales[places])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """For numpy: the floats."""
        del copy  # they always are
        return self.floats().astype(dtype or np.float32, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape)."""
        if self._packed is not None:
            packing, packed = self._packed
            return (*packed.shape[:-1], packing.a_byte * packed.shape[-1])
        return self.codes.shape

    def floats(self) -> NDArray[np.float32]:
        """(N, *shape) float32."""
        return np.asarray(self.codes * self.scales[..., None], np.float32)


Stored: TypeAlias = NDArray[Any] | Coded
"""N items' values of one feature, as a gallery keeps them."""


def floats(stored: Stored) -> NDArray[Any]:
    """(N, *shape): float16 or float32 as stored, float32 of what is coded."""
    return stored.floats() if isinstance(stored, Coded) else stored
