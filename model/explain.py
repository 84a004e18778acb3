"""What decided a score: the share of each pair of regions, heat maps of it, and Grad-CAM.

Letters  B pairs of images, R regions an image, C channels, N nodes, C' node channels, h x w the feature map
Paper    Kuang et al., ICCV 2019, sec. 5.3: the edges into the global node (Fig. 5), Grad-CAM (Fig. 4)

An edge into the global node says what the answer listened to, not whether that spoke for a match or against it. The
answer itself is a sum: with g the channels that the last ReLU let through and a the answer's weights,

    score = constant + sum_n w_0n (a o g)^T W h_n + blended similarities        (w, h, W of the last step, Eq. 5 to 8)

so each node's term, and with it each pair's of regions, is an exact share of the score: edge times what was said. A
blended similarity is a sum over pairs too. Which of the two names the regions that matter is measured by
`model.evaluate.faithfulness`; docs/results.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.grnet import GRNet, SimilarityHead
from threadmatch.model.pyramid import pool_map
from threadmatch.model.similarity import Grid, global_similarity, pair_index, scale_spans

Side = Literal["query", "item"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One pair of regions.

    Fields:
        scale: such as "3x3".
        query_region, item_region: 0..R-1.
        weight: its part of all that speaks for the match, 0..1; 0 for what speaks against it.
        edge: of the pair's node into the global node, 0..1.
        contribution: what it adds to the score; None before reasoning, where no score is at hand.
    """

    scale: str
    query_region: int
    item_region: int
    weight: float
    edge: float
    contribution: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The pairs of regions that weigh most, heaviest first, before the first step and after the last."""

    before: list[Evidence]
    after: list[Evidence]


@dataclass(frozen=True, slots=True)
class Shares:
    """What each node has to do with the score, (B, N) each.

    Fields:
        contribution: after reasoning, in units of the score. Their sum and `constant`, (B,), make the score.
        said_before: edge of the first step times the cosine of the pair.
        edge, edge_before: into the global node, in the last step and in the first.
    """

    contribution: Tensor
    constant: Tensor
    said_before: Tensor
    edge: Tensor
    edge_before: Tensor


def node_shares(head: SimilarityHead, query: Tensor, gallery: Tensor) -> Shares:
    """Take scores apart.

    Args:
        head: trained, in evaluation mode.
        query, gallery: (B, R, C) regions, float.
    """
    heard, nodes = head.trace(query, gallery)
    incoming, edges = heard[-1]
    weight, bias = head.classifier.weight, head.classifier.bias
    answer, constant = (weight[1] - weight[0], bias[1] - bias[0]) if len(bias) == 2 else (weight[0], bias[0])
    open_channels = (nodes[:, 0] > 0).to(weight.dtype)  # (B, C'): the last ReLU at the global node
    listens_for = (open_channels * answer) @ head.steps[-1].w  # type: ignore[operator]  # (B, C' or D)
    contribution = edges[:, 0] * torch.einsum("bnc,bc->bn", incoming, listens_for)
    if head.blend is not None:
        for name, factor in zip(head.config.blend, head.blend, strict=True):
            contribution = contribution + factor * _blended(head, name, query, gallery)
    before = heard[0][1][:, 0]
    return Shares(
        contribution=contribution,
        constant=constant.expand(len(query)),
        said_before=before * _cosines(head, query, gallery),
        edge=edges[:, 0],
        edge_before=before,
    )


def _cosines(head: SimilarityHead, query: Tensor, gallery: Tensor) -> Tensor:
    """(B, N) cosine of the two regions of each node."""
    pairs = F.normalize(query, dim=-1) @ F.normalize(gallery, dim=-1).transpose(1, 2)  # (B, R, R)
    return torch.cat([pairs[:, s:e, s:e].flatten(1) for s, e in scale_spans(head.config.grids)], dim=1)


def _blended(head: SimilarityHead, name: str, query: Tensor, gallery: Tensor) -> Tensor:
    """(B, N) shares of one similarity that `config.blend` adds to the answer; their sum is that similarity."""
    cosines = _cosines(head, query, gallery)
    if name == "global":
        share = torch.zeros_like(cosines)
        share[:, 0] = global_similarity(query[:, 0], gallery[:, 0])
        return share
    chosen, start = torch.zeros_like(cosines), 0
    for first, end in scale_spans(head.config.grids):  # greedy: the best partner of each query region, and only that
        cells = end - first
        best = cosines[:, start : start + cells**2].unflatten(1, (cells, cells)).argmax(dim=2)  # (B, cells)
        rows = torch.arange(cells, device=best.device) * cells
        chosen.scatter_(1, start + rows + best, 1.0)
        start += cells**2
    return cosines * chosen / head.config.regions


def explain(head: SimilarityHead, query: Tensor, gallery: Tensor, *, top: int) -> list[Explanation]:
    """Name the pairs of regions that weigh most.

    The pair of whole photos is left out where there are finer ones: it is everywhere and says nothing of where.

    Args:
        head: trained, in evaluation mode.
        query, gallery: (B, R, C) regions, float.
        top: pairs to name.
    """
    shares = node_shares(head, query, gallery)
    before = _heaviest(head, shares.said_before, shares.edge_before, top, None)
    after = _heaviest(head, shares.contribution, shares.edge, top, shares.contribution)
    return [Explanation(first, last) for first, last in zip(before, after, strict=True)]


def _heaviest(
    head: SimilarityHead, said: Tensor, edges: Tensor, top: int, contribution: Tensor | None
) -> list[list[Evidence]]:
    """The nodes that say most, by (B, N) said; `weight` is the part of all that is positive."""
    i, j, scale = (index.tolist() for index in pair_index(head.config.grids))
    whole = 1 if len(i) > 1 else 0
    weights = said.clamp(min=0) / said.clamp(min=0).sum(dim=1, keepdim=True).clamp(min=1e-12)  # (B, N)
    nodes = said[:, whole:].topk(min(top, len(i) - whole), dim=1).indices + whole  # (B, top)
    return [
        [
            Evidence(
                scale=head.config.scales[scale[n]],
                query_region=i[n],
                item_region=j[n],
                weight=float(weights[b, n]),
                edge=float(edges[b, n]),
                contribution=None if contribution is None else float(contribution[b, n]),
            )
            for n in row
        ]
        for b, row in enumerate(nodes.tolist())
    ]


def region_heat(head: SimilarityHead, query: Tensor, gallery: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What each place of the two photos adds to the score.

    A region's heat is the largest positive contribution of its pairs, spread evenly over it. Not their sum: of a plain
    background many regions of one photo find their best partner in the same corner of the other, and a little of each
    would outweigh the garment. A cell of the map holds, for each scale, the mean over the regions that it is part of,
    summed over scales.

    Args:
        head: trained, in evaluation mode.
        query, gallery: (B, R, C) regions, float.
        boxes: (R, 4) int64 x0, y0, x1, y1 of the regions in cells of the map.

    Returns:
        (B, h, w) of the query and (B, h, w) of the item, 0 or more.
    """
    said = node_shares(head, query, gallery).contribution.clamp(min=0)  # (B, N)
    i, j, _ = pair_index(head.config.grids)
    grids = head.config.grids
    return _spread(said, i, boxes, grids), _spread(said, j, boxes, grids)


def _spread(said: Tensor, region_of: Tensor, boxes: Tensor, grids: Sequence[Grid]) -> Tensor:
    """(B, N) of nodes, each belonging to region_of[n], to (B, h, w)."""
    to = region_of.to(said.device).expand_as(said)
    by_region = said.new_zeros(len(said), len(boxes)).scatter_reduce_(1, to, said, "amax")  # (B, R)
    heat = said.new_zeros(len(said), int(boxes[:, 3].max()), int(boxes[:, 2].max()))
    for start, end in scale_spans(grids):
        of_scale, over = torch.zeros_like(heat), torch.zeros_like(heat[0])
        for region in range(start, end):
            x0, y0, x1, y1 = boxes[region].tolist()
            of_scale[:, y0:y1, x0:x1] += by_region[:, region, None, None] / ((y1 - y0) * (x1 - x0))
            over[y0:y1, x0:x1] += 1
        heat += of_scale / over  # neighbouring windows share a row of cells, which would look twice as warm
    return heat


def grad_cam(network: GRNet, pixels: Tensor, other: Tensor, side: Side) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017) of the score on the backbone's last map, as in the paper's Figure 4.

        cam = ReLU(sum_k alpha_k A_k),   alpha_k = mean over the map of d score / d A_k

    Maps of earlier stages that regions read (`config.hypercolumn`) stay as they are.

    Args:
        network: trained, in evaluation mode; gradients are taken from the last map on, its weights need none.
        pixels: (B, 3, S, S) values 0..255 of the photo to paint.
        other: (B, R, C) regions of the other photo, float.
        side: which of the two `pixels` is.

    Returns:
        (B, h, w), 0 or more.
    """
    with torch.no_grad():
        feature_map = network.backbone.look(pixels).feature_map  # (B, C, h, w), with the maps of earlier stages behind
        last, taps = feature_map.tensor_split([network.backbone.channels], dim=1)
    with torch.enable_grad():
        activation = last.detach().requires_grad_()
        whole = torch.cat([activation, taps], dim=1)
        regions = network.vectors(pool_map(whole, network.config, network.backbone.channels)[1])
        score = network.head(regions, other) if side == "query" else network.head(other, regions)
        (gradient,) = torch.autograd.grad(score.sum(), activation)
    alpha = gradient.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    cam: Tensor = (alpha * activation.detach()).sum(dim=1).relu()  # (B, h, w)
    return cam
