"""The serving form of GRNet's reranking: the same numbers as `grnet`, fewer operations, no gradients.

Letters  B pairs of a chunk, R regions, C channels, N nodes, D similarity channels, C' node channels
Paper    Kuang et al., ICCV 2019, Eq. 4 to 8

What is saved against the literal form, exactly:
    T_out^T T_in is one matrix, made once            (T_out s_a)^T (T_in s_b) = s_a^T M s_b
    W goes before the aggregation                    W (sum_b w_ab s_b) = sum_b w_ab (W s_b), and C' < D
    [M | W^T] is one product in each step
    the last step computes the global row only       the answer reads h_1^11 and nothing else
    pairs go through in chunks that stay in the cache of a core
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.config import GRNetConfig
from threadmatch.model.grnet import SimilarityHead
from threadmatch.model.similarity import greedy_similarity, scale_spans

CPU_CHUNK_PAIRS = 8
GPU_CHUNK_PAIRS = 512


@dataclass(frozen=True, slots=True)
class _Step:
    """One step's weights, merged: [T_out^T T_in | W^T] of (D, D + C'), or W^T alone where the edges are kept."""

    merged: Tensor
    channels_in: int
    own_edges: bool


class Engine:
    """Scores one query against many candidates.

    Args:
        head: trained; its weights are copied, later changes of it are not seen.
        device: where to compute.
        chunk_pairs: pairs computed at a time; None chooses for the device.
    """

    def __init__(self, head: SimilarityHead, *, device: str = "cpu", chunk_pairs: int | None = None) -> None:
        config = head.config
        self.config = config
        self.device = torch.device(device)
        self.chunk_pairs = chunk_pairs or (CPU_CHUNK_PAIRS if self.device.type == "cpu" else GPU_CHUNK_PAIRS)
        own = {name: value.detach().float().to(self.device) for name, value in head.state_dict().items()}
        self._projection_t = own["projection"].T.contiguous()  # (C, D)
        self._projection_bias = own.get("projection_bias")
        self._position = own.get("position")
        self._blend = own.get("blend")
        self._mask = None
        if not (config.intra_scale_edges and config.inter_scale_edges):
            self._mask = torch.zeros(head.mask.shape, device=self.device).masked_fill(
                ~head.mask.to(self.device), float("-inf")
            )
        self._steps = [self._merge(own, t) for t in range(config.steps)]
        weight, bias = own["classifier.weight"], own["classifier.bias"]
        two = config.classifier == "two_logits"
        self._answer_w = weight[1] - weight[0] if two else weight[0]  # (C',)
        self._answer_b = bias[1] - bias[0] if two else bias[0]
        self._spans = scale_spans(config.grids)

    @staticmethod
    def _merge(own: dict[str, Tensor], t: int) -> _Step:
        w_t = own[f"steps.{t}.w"].T  # (D, C')
        t_out = own.get(f"steps.{t}.t_out")
        if t_out is None:
            return _Step(w_t.contiguous(), w_t.shape[0], own_edges=False)
        affinity = t_out.T @ own[f"steps.{t}.t_in"]  # (D, D)
        return _Step(torch.cat([affinity, w_t], dim=1).contiguous(), w_t.shape[0], own_edges=True)

    @torch.inference_mode()
    def score(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Score one query against its candidates.

        Args:
            query: (R, C) regions, float16 or float32.
            candidates: (n, R, C) regions, float16 or float32; n may be 0.

        Returns:
            (n,) float32 logits, in the candidates' order.
        """
        return self.score_many([query], [candidates])[0]

    @torch.inference_mode()
    def score_many(self, queries: Sequence[Tensor], candidates: Sequence[Tensor]) -> list[Tensor]:
        """Score several queries, each against its own candidates, in shared chunks.

        Args:
            queries: (R, C) each.
            candidates: (n_k, R, C) each, as many as queries.

        Returns:
            (n_k,) float32 logits each.
        """
        return in_chunks(self.score_pairs, queries, candidates, device=self.device, chunk_pairs=self.chunk_pairs)

    def score_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Score pairs in one go: (1 or B, R, C) and (B, R, C), float32 on the device -> (B,)."""
        nodes = self._nodes(query, gallery)  # (B, N, D)
        edges: Tensor | None = None
        last = len(self._steps) - 1
        for t, step in enumerate(self._steps):
            nodes, edges = self._reason(nodes, step, edges, only_global=t == last)
        score: Tensor = nodes[:, 0] @ self._answer_w + self._answer_b  # (B,)
        if self._blend is not None:
            for name, weight in zip(self.config.blend, self._blend, strict=True):
                score = score + weight * self._similarity(name, query, gallery)
        return score

    def _nodes(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Eq. 4 for every same-scale pair of regions: (B, N, D)."""
        b, c = gallery.shape[0], gallery.shape[2]
        gap = torch.empty(b, self.config.nodes, c, device=self.device)
        node = 0
        for start, end in self._spans:
            cells = end - start
            out = gap[:, node : node + cells * cells].view(b, cells, cells, c)
            torch.sub(query[:, start:end, None], gallery[:, None, start:end], out=out)
            node += cells * cells
        gap = gap.mul_(gap).view(-1, c)  # (B * N, C)
        if self._projection_bias is None:
            nodes = gap @ self._projection_t  # (B * N, D)
        else:
            nodes = torch.addmm(self._projection_bias, gap, self._projection_t)
        nodes = F.normalize(nodes, dim=-1).view(b, -1, nodes.shape[-1])
        return nodes if self._position is None else nodes + self._position

    def _reason(
        self, nodes: Tensor, step: _Step, edges: Tensor | None, *, only_global: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One step, Eq. 5 to 8: (B, N, D) -> (B, N or 1, C')."""
        b, n, d = nodes.shape
        mask = self._mask
        if only_global and step.own_edges:
            # s_0^T M s_b for one row only, and W after the aggregation: both cheaper than their merged forms here
            towards = nodes[:, :1] @ step.merged[:, :d]  # (B, 1, D)
            row = self._softmax(torch.bmm(towards, nodes.transpose(1, 2)), None if mask is None else mask[:1])
            return (torch.bmm(row, nodes) @ step.merged[:, d:]).relu_(), None
        if only_global:
            assert edges is not None
            return (torch.bmm(edges[:, :1], nodes) @ step.merged).relu_(), edges
        both = (nodes.reshape(b * n, d) @ step.merged).view(b, n, -1)  # (B, N, D + C') or (B, N, C')
        if step.own_edges:
            affinity = torch.bmm(both[..., :d], nodes.transpose(1, 2))  # (B, N, N)
            edges = self._softmax(affinity, mask)
            both = both[..., d:]
        assert edges is not None
        return torch.bmm(edges, both).relu_(), edges

    @staticmethod
    def _softmax(affinity: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            affinity = affinity.add_(mask)
        return affinity.softmax(dim=-1)

    def _similarity(self, name: str, query: Tensor, gallery: Tensor) -> Tensor:
        if name == "global":
            return F.cosine_similarity(query[:, 0], gallery[:, 0], dim=-1, eps=1e-12)
        return greedy_similarity(query, gallery, grids=self.config.grids)


def in_chunks(
    score: Callable[[Tensor, Tensor], Tensor],
    queries: Sequence[Tensor],
    candidates: Sequence[Tensor],
    *,
    device: torch.device,
    chunk_pairs: int,
    mixed: bool | None = None,
) -> list[Tensor]:
    """Score the pairs of several queries in a row, a chunk at a time.

    A chunk of one query is one matrix product, which takes a CPU a quarter of the time of as many small ones. Chunks of
    several queries fill a GPU.

    Args:
        score: (1 or B, *shape) queries and (B, *shape) candidates, float32 on the device -> (B,).
        queries: (*shape) each.
        candidates: (n_k, *shape) each, as many as queries.
        device: where to compute.
        chunk_pairs: pairs at a time.
        mixed: whether a chunk may hold pairs of several queries; None for those of a GPU.

    Returns:
        (n_k,) float32 on the CPU each.
    """
    if not (device.type != "cpu" if mixed is None else mixed):
        return [
            _of_one(score, query.to(torch.float32)[None], block, chunk_pairs)
            for query, block in zip(queries, candidates, strict=True)
        ]
    counts = [len(block) for block in candidates]
    if not sum(counts):
        return [torch.empty(0) for _ in counts]
    stacked = torch.stack([query.to(device, torch.float32) for query in queries])  # (Q, *shape)
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)  # (n,)
    flat = candidates[0] if len(candidates) == 1 else torch.cat(list(candidates))
    scores = []
    for start in range(0, len(flat), chunk_pairs):
        chunk = flat[start : start + chunk_pairs].to(device, torch.float32)
        mine = owner[start : start + chunk_pairs]
        same = bool(mine[0] == mine[-1])  # owners are sorted
        query = stacked[mine[:1]] if same else stacked[mine]  # (1 or B, *shape)
        scores.append(score(query, chunk))
    return list(torch.cat(scores).cpu().split(counts))


def _of_one(score: Callable[[Tensor, Tensor], Tensor], query: Tensor, block: Tensor, chunk_pairs: int) -> Tensor:
    """(1, *shape) and (n, *shape) on the CPU -> (n,)."""
    scores = [score(query, chunk.to(torch.float32)) for chunk in block.split(chunk_pairs)] if len(block) else []
    return torch.cat(scores) if scores else torch.empty(0)


def needed_flops(config: GRNetConfig, channels: int) -> int:
    """Least multiply-adds times two of one pair, by the exact savings named on top of this module.

    Args:
        channels: C of the stored regions.
    """
    n, d, c = config.nodes, config.similarity_channels, config.node_channels
    total = 2 * n * channels * d
    for t in range(config.steps):
        width = d if t == 0 else c
        own = t == 0 or config.edges == "recompute"
        if t == config.steps - 1:
            total += 2 * (n * width + width * c) + own * 2 * (width * width + n * width)
        else:
            total += 2 * (n * width * c + n * n * c) + own * 2 * (n * width * width + n * n * width)
    return total
