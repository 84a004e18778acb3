"""GRNet's head as one Triton kernel: from two region sets to a score without a round trip to the GPU's memory.

Letters  N nodes (padded to NODES, a power of two), R regions, C channels, D similarity channels, C' node channels,
         T steps; D and C' padded to whole tiles with zeros, which change nothing
Paper    Kuang et al., ICCV 2019, Eq. 1 to 8

A program takes one pair after another. Its nodes live in a strip of scratch of its own that no other program touches:
128 KB a program at the shipped sizes in bfloat16, 132 programs on an H200, 17 MB in all, so they stay in the 50 MB
of its second-level cache. A tile of nodes is made in registers from the regions themselves (difference, square,
projection, length) and written once; edges and messages are never written. Products run on tensor cores and add up in
float32; lengths, softmax and the last step, which has one row, are float32 altogether.

Triton does not order what one thread writes to memory before what another reads of it: `tl.debug_barrier` does, in a
program (bar.sync). Each place that needs one says so.

ROUNDING says what a tensor core is given: EXACT float32 as it is (three TF32 products, "tf32x3"), NATIVE bfloat16, or
EMULATED: float32 rounded to bfloat16, for Triton's interpreter, which multiplies bfloat16's bits as whole numbers.
"""

from __future__ import annotations

import triton
import triton.language as tl

EXACT = tl.constexpr(0)
NATIVE = tl.constexpr(1)
EMULATED = tl.constexpr(2)
TINIEST = tl.constexpr(1e-12)
"""As torch's `normalize`: a vector of length 0 stays one."""


@triton.jit
def as_operand(values: tl.tensor, ROUNDING: tl.constexpr) -> tl.tensor:
    """What a product is given of float32 values."""
    if ROUNDING == NATIVE:
        values = values.to(tl.bfloat16)
    if ROUNDING == EMULATED:  # to the nearest, ties to even
        bits = values.to(tl.uint32, bitcast=True)
        bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16
        values = bits.to(tl.float32, bitcast=True)
    return values


@triton.jit
def _gap_product(
    query: tl.tensor, item: tl.tensor, projection: tl.tensor, left: tl.tensor, right: tl.tensor, real: tl.tensor,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, STAGES: tl.constexpr,
    ROUNDING: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """P|x - y|^2 of BLOCK_M nodes: (BLOCK_M, WIDTH) float32."""
    columns = tl.arange(0, WIDTH)
    product = tl.zeros((BLOCK_M, WIDTH), tl.float32)
    for first in tl.range(0, CHANNELS, BLOCK_C, num_stages=STAGES):
        channels = first + tl.arange(0, BLOCK_C)
        inside = real[:, None] & (channels < CHANNELS)[None, :]
        x = tl.load(query + left[:, None] * CHANNELS + channels[None, :], mask=inside, other=0.0).to(tl.float32)
        y = tl.load(item + right[:, None] * CHANNELS + channels[None, :], mask=inside, other=0.0).to(tl.float32)
        weights = tl.load(projection + channels[:, None] * WIDTH + columns[None, :])  # rows beyond C are zeros
        gap = x - y
        product = tl.dot(as_operand(gap * gap, ROUNDING), weights, product, input_precision="tf32x3")
    return product


@triton.jit
def _write_nodes(
    query: tl.tensor, item: tl.tensor, index: tl.tensor, projection: tl.tensor, constants: tl.tensor,
    position: tl.tensor, nodes: tl.tensor, NODES: tl.constexpr, REAL: tl.constexpr, CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr, HAS_POSITION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    STAGES: tl.constexpr, ROUNDING: tl.constexpr,
) -> None:  # fmt: skip
    """Eq. 4 and the position code: (NODES, WIDTH) nodes into the program's strip; rows beyond N are zeros."""
    columns = tl.arange(0, WIDTH)
    for start in range(0, NODES, BLOCK_M):  # whole rows in registers, so that their length is known at once
        rows = start + tl.arange(0, BLOCK_M)
        real = rows < REAL
        left, right = tl.load(index + rows), tl.load(index + NODES + rows)
        made = _gap_product(query, item, projection, left, right, real, CHANNELS, WIDTH, BLOCK_M, BLOCK_C, STAGES,
                            ROUNDING)  # fmt: skip
        made += tl.load(constants + columns)[None, :]  # the bias, zeros where there is none
        made = made / tl.maximum(tl.sqrt(tl.sum(made * made, axis=1)), TINIEST)[:, None]
        place = rows[:, None] * WIDTH + columns[None, :]
        if HAS_POSITION:
            made += tl.load(position + place)
        tl.store(nodes + place, as_operand(tl.where(real[:, None], made, 0.0), ROUNDING))
    tl.debug_barrier()  # others of this program read these rows next


@triton.jit
def _times(
    rows_of: tl.tensor, weights: tl.tensor, start: tl.tensor, NODES: tl.constexpr, INNER: tl.constexpr,
    OUTER: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, STAGES: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """BLOCK_N columns, from `start`, of nodes (NODES, INNER) @ weights (INNER, OUTER), float32."""
    rows, columns = tl.arange(0, NODES), start + tl.arange(0, BLOCK_N)
    product = tl.zeros((NODES, BLOCK_N), tl.float32)
    for first in tl.range(0, INNER, BLOCK_K, num_stages=STAGES):
        inner = first + tl.arange(0, BLOCK_K)
        a = tl.load(rows_of + rows[:, None] * INNER + inner[None, :])
        b = tl.load(weights + inner[:, None] * OUTER + columns[None, :])
        product = tl.dot(a, b, product, input_precision="tf32x3")
    return product


@triton.jit
def _edges(
    nodes: tl.tensor, weights: tl.tensor, mask: tl.tensor, NODES: tl.constexpr, REAL: tl.constexpr,
    WIDTH: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, STAGES: tl.constexpr,
    ROUNDING: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Eq. 5: softmax_b s_a^T M s_b, (NODES, NODES) float32; columns beyond N are zeros."""
    rows = tl.arange(0, NODES)
    affinity = tl.zeros((NODES, NODES), tl.float32)
    for start in range(0, WIDTH, BLOCK_N):
        towards = _times(nodes, weights, start, NODES, WIDTH, WIDTH, BLOCK_K, BLOCK_N, STAGES)
        columns = start + tl.arange(0, BLOCK_N)
        s = tl.load(nodes + rows[:, None] * WIDTH + columns[None, :])
        affinity = tl.dot(as_operand(towards, ROUNDING), tl.trans(s), affinity, input_precision="tf32x3")
    allowed = (rows < REAL)[None, :]
    if HAS_MASK:
        allowed = allowed & (tl.load(mask + rows[:, None] * NODES + rows[None, :]) != 0)
    affinity = tl.where(allowed, affinity, float("-inf"))
    share = tl.exp(affinity - tl.max(affinity, axis=1)[:, None])
    return share / tl.sum(share, axis=1)[:, None]


@triton.jit
def _hear(
    nodes: tl.tensor, weights: tl.tensor, edges: tl.tensor, heard: tl.tensor, NODES: tl.constexpr, WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, STAGES: tl.constexpr, ROUNDING: tl.constexpr,
) -> None:  # fmt: skip
    """Eq. 6 to 8, with W before the sum: h_a = ReLU(sum_b w_ab W s_b), (NODES, HIDDEN) into the other strip."""
    rows = tl.arange(0, NODES)
    for start in range(0, HIDDEN, BLOCK_N):
        told = _times(nodes, weights, start, NODES, WIDTH, HIDDEN, BLOCK_K, BLOCK_N, STAGES)
        h = tl.zeros((NODES, BLOCK_N), tl.float32)
        h = tl.dot(edges, as_operand(told, ROUNDING), h, input_precision="tf32x3")
        place = rows[:, None] * HIDDEN + (start + tl.arange(0, BLOCK_N))[None, :]
        tl.store(heard + place, as_operand(tl.maximum(h, 0.0), ROUNDING))
    tl.debug_barrier()  # the next step reads these rows


@triton.jit
def _first_row(
    nodes: tl.tensor, weights: tl.tensor, mask: tl.tensor, NODES: tl.constexpr, REAL: tl.constexpr,
    WIDTH: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Eq. 5 for node 0 alone: (NODES,) float32."""
    rows = tl.arange(0, NODES)
    affinity = tl.zeros((NODES,), tl.float32)
    for start in range(0, WIDTH, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        towards = tl.zeros((BLOCK_N,), tl.float32)
        for first in range(0, WIDTH, BLOCK_K):
            inner = first + tl.arange(0, BLOCK_K)
            own = tl.load(nodes + inner).to(tl.float32)
            m = tl.load(weights + inner[:, None] * WIDTH + columns[None, :]).to(tl.float32)
            towards += tl.sum(own[:, None] * m, axis=0)
        s = tl.load(nodes + rows[:, None] * WIDTH + columns[None, :]).to(tl.float32)
        affinity += tl.sum(s * towards[None, :], axis=1)
    allowed = rows < REAL
    if HAS_MASK:
        allowed = allowed & (tl.load(mask + rows) != 0)
    affinity = tl.where(allowed, affinity, float("-inf"))
    share = tl.exp(affinity - tl.max(affinity, axis=0))
    return share / tl.sum(share, axis=0)


@triton.jit
def _answer(
    nodes: tl.tensor, weights: tl.tensor, row: tl.tensor, constants: tl.tensor, NODES: tl.constexpr,
    WIDTH: tl.constexpr, HIDDEN: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Eq. 6 to 8 for node 0 alone, and the classifier: one float32."""
    rows = tl.arange(0, NODES)
    score = tl.load(constants + HIDDEN)
    for start in range(0, HIDDEN, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        h = tl.zeros((BLOCK_N,), tl.float32)
        for first in range(0, WIDTH, BLOCK_K):
            inner = first + tl.arange(0, BLOCK_K)
            s = tl.load(nodes + rows[:, None] * WIDTH + inner[None, :]).to(tl.float32)
            message = tl.sum(row[:, None] * s, axis=0)
            w = tl.load(weights + inner[:, None] * HIDDEN + columns[None, :]).to(tl.float32)
            h += tl.sum(message[:, None] * w, axis=0)
        score += tl.sum(tl.maximum(h, 0.0) * tl.load(constants + columns), axis=0)
    return score


@triton.jit
def _alike(
    query: tl.tensor, item: tl.tensor, scales: tl.tensor, blend: tl.tensor, REGIONS: tl.constexpr,
    CHANNELS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """The blended similarities, weighed: Eq. 1 between the global regions, Eq. 2 and 3 over all; float32 throughout."""
    rows = tl.arange(0, BLOCK_R)
    products = tl.zeros((BLOCK_R, BLOCK_R), tl.float32)
    x_squares, y_squares = tl.zeros((BLOCK_R,), tl.float32), tl.zeros((BLOCK_R,), tl.float32)
    for first in range(0, CHANNELS, BLOCK_C):
        channels = first + tl.arange(0, BLOCK_C)
        place = rows[:, None] * CHANNELS + channels[None, :]
        inside = (rows < REGIONS)[:, None] & (channels < CHANNELS)[None, :]
        x = tl.load(query + place, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(item + place, mask=inside, other=0.0).to(tl.float32)
        products = tl.dot(x, tl.trans(y), products, input_precision="tf32x3")
        x_squares += tl.sum(x * x, axis=1)
        y_squares += tl.sum(y * y, axis=1)
    cosine = products / tl.maximum(tl.sqrt(x_squares), TINIEST)[:, None]
    cosine = cosine / tl.maximum(tl.sqrt(y_squares), TINIEST)[None, :]
    scale = tl.load(scales + rows)  # of rows beyond R: -1
    partners = (scale[:, None] == scale[None, :]) & (scale >= 0)[None, :]
    best = tl.max(tl.where(partners, cosine, float("-inf")), axis=1)
    greedy = tl.sum(tl.where(rows < REGIONS, best, 0.0), axis=0) / REGIONS
    both_global = (rows == 0)[:, None] & (rows == 0)[None, :]
    alike = tl.sum(tl.sum(tl.where(both_global, cosine, 0.0), axis=1), axis=0)
    return tl.load(blend) * alike + tl.load(blend + 1) * greedy


@triton.jit(do_not_specialize=["pairs"])
def score_pairs(
    scores: tl.tensor, queries: tl.tensor, items: tl.tensor, owner: tl.tensor, pairs: tl.tensor, index: tl.tensor,
    mask: tl.tensor, projection: tl.tensor, steps: tl.tensor, constants: tl.tensor, position: tl.tensor,
    nodes: tl.tensor, hidden: tl.tensor, NODES: tl.constexpr, REAL: tl.constexpr, REGIONS: tl.constexpr,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, HIDDEN: tl.constexpr, STEPS: tl.constexpr, FROZEN: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_POSITION: tl.constexpr, HAS_BLEND: tl.constexpr, ROUNDING: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_R: tl.constexpr, STAGES: tl.constexpr,
) -> None:  # fmt: skip
    """Score `pairs` pairs: the query `owner[p]` of (Q, R, C) with item p of (B, R, C) -> scores (B,) float32.

    `head_packing.PackedHead` says what the weights' buffers hold. Any number of programs shares the pairs out.
    """
    program = tl.program_id(0)
    nodes += program * NODES * WIDTH
    hidden += program * 2 * NODES * HIDDEN
    answer = constants + WIDTH
    later = steps + WIDTH * (WIDTH + HIDDEN)  # weights of steps 2 to T
    for pair in tl.range(program, pairs, tl.num_programs(0), num_stages=1):
        query = queries + tl.load(owner + pair) * REGIONS * CHANNELS
        item = items + pair * REGIONS * CHANNELS
        _write_nodes(query, item, index, projection, constants, position, nodes, NODES, REAL, CHANNELS, WIDTH,
                     HAS_POSITION, BLOCK_M, BLOCK_C, STAGES, ROUNDING)  # fmt: skip
        for t in tl.static_range(STEPS - 1):
            if t == 0:
                edges = as_operand(
                    _edges(nodes, steps, mask, NODES, REAL, WIDTH, HAS_MASK, BLOCK_K, BLOCK_N, STAGES, ROUNDING),
                    ROUNDING,
                )
                _hear(nodes, steps + WIDTH * WIDTH, edges, hidden, NODES, WIDTH, HIDDEN, BLOCK_K, BLOCK_H, STAGES,
                      ROUNDING)  # fmt: skip
            else:
                given, m = hidden + ((t - 1) % 2) * NODES * HIDDEN, later + (t - 1) * 2 * HIDDEN * HIDDEN
                if not FROZEN:
                    edges = as_operand(
                        _edges(given, m, mask, NODES, REAL, HIDDEN, HAS_MASK, BLOCK_K, BLOCK_H, STAGES, ROUNDING),
                        ROUNDING,
                    )
                _hear(given, m + HIDDEN * HIDDEN, edges, hidden + (t % 2) * NODES * HIDDEN, NODES, HIDDEN, HIDDEN,
                      BLOCK_K, BLOCK_H, STAGES, ROUNDING)  # fmt: skip
        if STEPS == 1:
            row = _first_row(nodes, steps, mask, NODES, REAL, WIDTH, HAS_MASK, BLOCK_K, BLOCK_N)
            score = _answer(nodes, steps + WIDTH * WIDTH, row, answer, NODES, WIDTH, HIDDEN, BLOCK_K, BLOCK_H)
        else:
            given, m = hidden + (STEPS % 2) * NODES * HIDDEN, later + (STEPS - 2) * 2 * HIDDEN * HIDDEN
            if FROZEN:
                first = (tl.arange(0, NODES) == 0)[:, None]
                row = tl.sum(tl.where(first, edges.to(tl.float32), 0.0), axis=0)
            else:
                row = _first_row(given, m, mask, NODES, REAL, HIDDEN, HAS_MASK, BLOCK_K, BLOCK_H)
            score = _answer(given, m + HIDDEN * HIDDEN, row, answer, NODES, HIDDEN, HIDDEN, BLOCK_K, BLOCK_H)
        if HAS_BLEND:
            score += _alike(query, item, index + 2 * NODES, answer + HIDDEN + 1, REGIONS, CHANNELS, BLOCK_R, BLOCK_C)
        tl.store(scores + pair, score)
        tl.debug_barrier()  # the next pair's nodes go where others may still read these
