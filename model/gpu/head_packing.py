"""A trained head as the pair kernel reads it: merged, padded to whole tiles, in one buffer a kind.

Letters  N nodes, R regions, C channels, D similarity channels, C' node channels, T steps; padded sizes in capitals
Paper    Kuang et al., ICCV 2019, Eq. 4 to 8
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from threadmatch.model.config import GRNetConfig
from threadmatch.model.errors import CompileError
from threadmatch.model.grnet import SimilarityHead
from threadmatch.model.similarity import pair_index, scale_spans

Precision = Literal["float32", "bfloat16"]
"""What products are made of; sums, lengths and softmax are float32 in both."""

LEAST_TILE: Final = 16
"""Side of the smallest product of a tensor core."""
MOST_NODES: Final = 128
"""All edges of a pair stand in registers, N^2 of them."""
MOST_WIDTH: Final = 512
"""Of D and C': a whole node stands in registers while its length is taken."""
MOST_REGIONS: Final = 64
MOST_STEPS: Final = 8
"""Each step is code of its own."""
BLEND_TERMS: Final = ("global", "greedy")


@dataclass(frozen=True, slots=True)
class Tiles:
    """How much of each product a program holds at a time; powers of two.

    Fields:
        rows: nodes made at a time.
        channels: of C.
        columns: of M and W.
        inner: of the products' inner side behind the nodes.
        stages: tiles on their way while one is multiplied.
        warps: of a program, 32 threads each.
    """

    rows: int = 64
    channels: int = 64
    columns: int = 64
    inner: int = 64
    stages: int = 3
    warps: int = 8


TILES: Final[dict[Precision, tuple[Tiles, ...]]] = {
    "bfloat16": (
        Tiles(),
        Tiles(channels=32),
        Tiles(channels=32, stages=2),
        Tiles(rows=32, channels=32, inner=32, stages=2),
    ),
    "float32": (Tiles(rows=16, channels=16, columns=32, inner=16, stages=2),),
}
"""Tried in turn: a GPU with less shared memory than an H200's 227 KB a program takes a later one."""


def padded(size: int) -> int:
    """The power of two that holds `size`, LEAST_TILE at least."""
    return max(LEAST_TILE, 1 << (size - 1).bit_length())


def why_unfit(config: GRNetConfig) -> str:
    """What of a head is beyond the kernel; "" where nothing is."""
    for what, size, most in (
        ("nodes a pair", config.nodes, MOST_NODES),
        ("similarity channels", config.similarity_channels, MOST_WIDTH),
        ("node channels", config.node_channels, MOST_WIDTH),
        ("regions", config.regions, MOST_REGIONS),
        ("steps", config.steps, MOST_STEPS),
    ):
        if size > most:
            return f"{size} {what} are more than the {most} that the kernel holds"
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class PackedHead:
    """Buffers of one head and one precision; all contiguous, on the device.

    Fields:
        index: (2 NODES + BLOCK_R) int32: the query region of each node, its gallery region, the scale of each region
            (-1 beyond R).
        mask: (NODES, NODES) int8, 1 where there is an edge; rows beyond N have all. One number where there is no mask.
        projection: (C up to whole tiles, WIDTH): P^T.
        steps: T_out^T T_in and W^T of step 1, (WIDTH, WIDTH) and (WIDTH, HIDDEN), then of each later step, (HIDDEN,
            HIDDEN) twice; one after another.
        constants: (WIDTH + HIDDEN + 3) float32: the bias of Eq. 4, the classifier's difference, its bias, the weights
            of the blended global and greedy similarity.
        position: (NODES, WIDTH) float32; one number where there is none.
        sizes: what the kernel is compiled for.
    """

    index: Tensor
    mask: Tensor
    projection: Tensor
    steps: Tensor
    constants: Tensor
    position: Tensor
    sizes: Mapping[str, int]


def pack_head(head: SimilarityHead, *, device: str, tiles: Tiles, dtype: torch.dtype) -> PackedHead:
    """Copy a head's weights into the kernel's form.

    Args:
        head: trained; later changes of it are not seen.
        device: for the buffers.
        tiles: a program's.
        dtype: of what products are made of.

    Raises:
        CompileError: the head is beyond the kernel (`why_unfit`).
    """
    config = head.config
    if reason := why_unfit(config):
        raise CompileError(reason)
    own = {name: value.detach().float().cpu() for name, value in head.state_dict().items()}
    sizes = _sizes(config, own["projection"].shape[1], tiles)
    nodes, width, block = sizes["NODES"], sizes["WIDTH"], sizes["BLOCK_C"]
    channels = -(-sizes["CHANNELS"] // block) * block
    position = own.get("position")
    masked = not (config.intra_scale_edges and config.inter_scale_edges)
    return PackedHead(
        index=_index(config, sizes).to(device),
        mask=(_mask(head.mask.cpu(), nodes) if masked else torch.ones(1, dtype=torch.int8)).to(device),
        projection=_pad(own["projection"].T, channels, width).to(device, dtype),
        steps=_steps(config, own, sizes).to(device, dtype),
        constants=_constants(config, own, sizes).to(device),
        position=(torch.zeros(1) if position is None else _pad(position, nodes, width)).to(device),
        sizes=sizes,
    )


def _sizes(config: GRNetConfig, channels: int, tiles: Tiles) -> dict[str, int]:
    nodes, width, hidden = (padded(size) for size in (config.nodes, config.similarity_channels, config.node_channels))
    return {
        "NODES": nodes,
        "REAL": config.nodes,
        "REGIONS": config.regions,
        "CHANNELS": channels,
        "WIDTH": width,
        "HIDDEN": hidden,
        "STEPS": config.steps,
        "FROZEN": int(config.edges == "frozen"),
        "HAS_MASK": int(not (config.intra_scale_edges and config.inter_scale_edges)),
        "HAS_POSITION": int(config.position_code),
        "HAS_BLEND": int(bool(config.blend)),
        "BLOCK_M": min(tiles.rows, nodes),
        "BLOCK_C": min(tiles.channels, padded(channels)),
        "BLOCK_N": min(tiles.columns, width),
        "BLOCK_H": min(tiles.columns, hidden),
        "BLOCK_K": min(tiles.inner, width, hidden),
        "BLOCK_R": padded(config.regions),
        "STAGES": tiles.stages,
    }


def _pad(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """(r, c) -> (rows, columns), zeros behind."""
    out = torch.zeros(rows, columns)
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out


def _index(config: GRNetConfig, sizes: Mapping[str, int]) -> Tensor:
    query, gallery, _ = pair_index(config.grids)
    scales = torch.full((sizes["BLOCK_R"],), -1)
    for scale, (start, end) in enumerate(scale_spans(config.grids)):
        scales[start:end] = scale
    behind = torch.zeros(sizes["NODES"] - config.nodes, dtype=torch.int64)
    return torch.cat([query, behind, gallery, behind, scales]).to(torch.int32)


def _mask(mask: Tensor, nodes: int) -> Tensor:
    """(N, N) bool -> (NODES, NODES): a row without any edge would have no softmax, so those beyond N have all."""
    out = torch.ones(nodes, nodes, dtype=torch.int8)
    out[: mask.shape[0], : mask.shape[1]] = mask
    return out


def _steps(config: GRNetConfig, own: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
    parts = []
    for t in range(config.steps):
        inner = sizes["WIDTH"] if t == 0 else sizes["HIDDEN"]
        w = own[f"steps.{t}.w"]  # (C', D or C')
        t_out = own.get(f"steps.{t}.t_out")
        merged = torch.zeros(1, 1) if t_out is None else t_out.T @ own[f"steps.{t}.t_in"]  # zeros: edges are kept
        parts += [_pad(merged, inner, inner).flatten(), _pad(w.T, inner, sizes["HIDDEN"]).flatten()]
    return torch.cat(parts)


def _constants(config: GRNetConfig, own: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
    weight, bias = own["classifier.weight"], own["classifier.bias"]
    two = config.classifier == "two_logits"
    answer = weight[1] - weight[0] if two else weight[0]  # (C',)
    offset = bias[1:] - bias[:1] if two else bias  # (1,)
    blend = dict(zip(config.blend, own["blend"].tolist(), strict=True)) if config.blend else {}
    projected = own.get("projection_bias")
    return torch.cat(
        [
            _pad((torch.zeros(1) if projected is None else projected)[None], 1, sizes["WIDTH"])[0],
            _pad(answer[None], 1, sizes["HIDDEN"])[0],
            offset,
            torch.tensor([blend.get(term, 0.0) for term in BLEND_TERMS]),
        ]
    )
