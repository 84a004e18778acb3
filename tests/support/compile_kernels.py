"""Compile both kernels for an H200 (sm_90) as its own process, without one: Triton brings compiler and assembler along.

    python tests/support/compile_kernels.py        prints a JSON line a kernel

A process of its own, since whether kernels are interpreted is decided when they are imported.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from threadmatch.model.config import GRNetConfig
from threadmatch.model.descriptions import DEFAULT_MODEL, SHIPPED
from threadmatch.model.gpu import dense_kernel, pair_kernel
from threadmatch.model.gpu.dense_engine import BLOCK_K, STAGES, WARPS
from threadmatch.model.gpu.head_packing import TILES, Tiles, pack_head
from threadmatch.model.grnet import SimilarityHead, load_checkpoint

H200 = GPUTarget("cuda", 90, 32)
ROUNDED = {"projection": "*bf16", "steps": "*bf16", "nodes": "*bf16", "hidden": "*bf16"}
PAIRS = {"scores": "*fp32", "queries": "*fp32", "items": "*fp16", "owner": "*i32", "pairs": "i32", "index": "*i32",
         "mask": "*i8", "constants": "*fp32", "position": "*fp32", **ROUNDED}  # fmt: skip
CELLS = {"scores": "*fp32", "queries": "*fp32", "items": "*u8", "scales": "*fp32", "owner": "*i32"}


def compiled(kernel: Any, types: dict[str, str], sizes: dict[str, int], *, warps: int) -> dict[str, Any]:
    """One kernel; every pointer at a multiple of 16 bytes, as torch allocates them."""
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]] for place, type_ in enumerate(signature.values()) if type_.startswith("*")
    }
    source = ASTSource(kernel, signature, constexprs=sizes, attrs=aligned)
    made = triton.compile(source, target=H200, options={"num_warps": warps, "num_stages": sizes["STAGES"]})
    ptx = made.asm["ptx"]
    return {
        "kernel": kernel.fn.__name__,
        "shared_bytes": made.metadata.shared,
        "tensor_core_products": ptx.count("wgmma.mma_async"),
        "barriers": ptx.count("bar.sync"),
    }


def of_head(head: SimilarityHead, tiles: Tiles) -> dict[str, Any]:
    """The pair kernel of a head in bfloat16."""
    sizes = dict(pack_head(head, device="cpu", tiles=tiles, dtype=torch.bfloat16).sizes)
    return compiled(pair_kernel.score_pairs, PAIRS, sizes | {"ROUNDING": pair_kernel.NATIVE.value}, warps=tiles.warps)


def main() -> None:
    """Print what was compiled."""
    shipped, paper = load_checkpoint(SHIPPED / DEFAULT_MODEL).head, SimilarityHead(GRNetConfig(), 1024)
    first, second, *_ = TILES["bfloat16"]
    print(json.dumps(of_head(shipped, first)), flush=True)
    print(json.dumps(of_head(paper, second)), flush=True)
    cells = {"PHOTO": 49, "ITEM": 49, "CHANNELS": 256, "FORM": dense_kernel.NIBBLES.value, "BLOCK_P": 64, "BLOCK_Q": 64,
             "BLOCK_K": BLOCK_K, "STAGES": STAGES, "ROUNDING": pair_kernel.NATIVE.value}  # fmt: skip
    print(json.dumps(compiled(dense_kernel.dense_match, CELLS, cells, warps=WARPS)), flush=True)


if __name__ == "__main__":
    main()
