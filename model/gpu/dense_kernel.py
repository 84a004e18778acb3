"""The dense match as a Triton kernel, straight from the whole numbers that a gallery keeps.

Letters  P cells of the photo, Q of the item, K numbers a cell; BLOCK_P and BLOCK_Q are the powers of two that hold them
Paper    Kuang et al., ICCV 2019, Eq. 2 and 3, with the grid as fine as the map is: s = 1/P sum_i max_j x_i . y_j

A program takes one item: its cells are read once, 12 KB of int8 or 6 KB of int4. A whole number of one byte is exact in
bfloat16. The photo's float32 numbers are two bfloat16 each, a value and what it lost, so that products lose 2^-17 of a
number where one bfloat16 would lose 2^-9, which is more than some items differ by.

FORM says how an item's cells come: FLOATS of 16 or 32 bits, BYTES (int8) with a scale a cell, or NIBBLES: two numbers
a byte, the low four bits of byte n number n, the high four number K/2 + n, each 8 more than it is (`FeatureSpec.pack`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from threadmatch.model.gpu.pair_kernel import EXACT, as_operand

FLOATS = tl.constexpr(0)
BYTES = tl.constexpr(1)
NIBBLES = tl.constexpr(2)


@triton.jit
def _both_halves(
    x: tl.tensor,
    y: tl.tensor,
    products: tl.tensor,
    FORM: tl.constexpr,
    ROUNDING: tl.constexpr,
) -> tl.tensor:
    """Add x y^T of float32 x (BLOCK_P, BLOCK_K) and y (BLOCK_Q, BLOCK_K), which is float32 or whole numbers."""
    if FORM == FLOATS or ROUNDING == EXACT:
        products = tl.dot(x, tl.trans(y.to(tl.float32)), products, input_precision="tf32x3")
    else:
        whole = tl.trans(as_operand(y.to(tl.float32), ROUNDING))
        coarse = as_operand(x, ROUNDING)
        lost = as_operand(x - coarse.to(tl.float32), ROUNDING)
        products = tl.dot(coarse, whole, products, input_precision="tf32x3")
        products = tl.dot(lost, whole, products, input_precision="tf32x3")
    return products


@triton.jit
def dense_match(
    scores: tl.tensor, queries: tl.tensor, items: tl.tensor, scales: tl.tensor, owner: tl.tensor, PHOTO: tl.constexpr,
    ITEM: tl.constexpr, CHANNELS: tl.constexpr, FORM: tl.constexpr, ROUNDING: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
) -> None:  # fmt: skip
    """Photo `owner[n]` of (B', P, K) float32 with item n of (N, Q, K), or (N, Q, K/2) nibbles -> scores (N,) float32.

    `scales` are (N, Q) float32, read where cells are whole numbers.
    """
    pair = tl.program_id(0)
    photo_cells, item_cells = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_Q)
    of_photo, of_item = (photo_cells < PHOTO)[:, None], (item_cells < ITEM)[:, None]
    x_rows = queries + tl.load(owner + pair) * PHOTO * CHANNELS + photo_cells[:, None] * CHANNELS
    products = tl.zeros((BLOCK_P, BLOCK_Q), tl.float32)
    HALVES: tl.constexpr = 2 if FORM == NIBBLES else 1
    STORED: tl.constexpr = CHANNELS // HALVES
    y_rows = items + pair * ITEM * STORED + item_cells[:, None] * STORED
    for first in tl.range(0, STORED, BLOCK_K, num_stages=STAGES):
        channels = first + tl.arange(0, BLOCK_K)
        inside = (channels < STORED)[None, :]
        x = tl.load(x_rows + channels[None, :], mask=of_photo & inside, other=0.0)
        y = tl.load(y_rows + channels[None, :], mask=of_item & inside, other=0)
        if FORM == NIBBLES:
            high = tl.load(x_rows + STORED + channels[None, :], mask=of_photo & inside, other=0.0)
            byte = y.to(tl.int32)
            products = _both_halves(x, (byte & 15) - 8, products, FORM, ROUNDING)
            products = _both_halves(high, ((byte >> 4) & 15) - 8, products, FORM, ROUNDING)
        else:
            products = _both_halves(x, y, products, FORM, ROUNDING)
    if FORM != FLOATS:
        products = products * tl.load(scales + pair * ITEM + item_cells, mask=item_cells < ITEM, other=0.0)[None, :]
    best = tl.max(tl.where((item_cells < ITEM)[None, :], products, float("-inf")), axis=1)
    tl.store(scores + pair, tl.sum(tl.where(photo_cells < PHOTO, best, 0.0), axis=0) / PHOTO)
