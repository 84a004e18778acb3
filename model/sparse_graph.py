"""A sparse graph of similarities: one node for each cell of the photo, with its best partner in the item.

Letters  n items of a shortlist, P nodes (49), F inputs a node, T terms
Paper    after Kuang et al., ICCV 2019, sec. 3.2: nodes are similarities and hear their neighbours; here a node has one
         partner in place of all, and knows how alike and where, not what

    g_ij = exp(-|d_i - d_j|^2 / 2)                  j beside i, d_i how far i's partner lies, in cells
    a_i  = mean of g_ij over the j beside i         what i hears: whether its neighbours' partners moved alike
    t_i  = p_i v_i / sum_j p_j                      a term: a value of node i, and how much i is asked
    s    = b + sum_i (c cos_i / P + sum_t w_t t_i)
    h    = sigma(e + sum_i sum_t u_t t_i)           presence: whether the photo's garment is there at all

Both are read off the same terms: s tells the garment from the items beside it, h a garment that is there from one whose
likest item is another. The weights are few and found by convex fits (`model.train.phases.sparse_graph_fit`); with all w
zero the graph is the dense match. Forms that learn their messages were tried and kept what is peculiar to the makers of
their queries (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from threadmatch.model.errors import ConfigError
from threadmatch.model.node_inputs import INPUTS, TINT_INPUTS, Grid, centres

COSINE_SCALE: Final = 40.0
"""c: turns a mean cosine into logits."""
CENTRE: Final = 0.3
"""How far from the middle, as a share of a side, a node still counts."""
LEAST: Final = 0.02
"""Of a weight that may vanish."""

ASKED: Final = ("centre", "inside", "spread", "mutual", "distinct", "partner_inside")
"""Whose values count: those near the middle; unlike the rim of the photo; whose cosine differs between items; chosen
mutually; unlike the rest of the photo; whose partner is unlike the rim of the item."""
PLAIN: Final = (
    "cosine", "margin", "mutual", "mutual_gap", "same_place", "backwards", "distance", "partner_border", "above_mean",
    "above_best_other", "standing", "share_beaten",
)  # fmt: skip
"""Inputs that are terms by themselves, in the mean."""
COLOURED: Final = (*TINT_INPUTS, *(f"{asked}:{value}" for asked in (*ASKED, "agree") for value in TINT_INPUTS))
"""Terms of colours; zero without tints."""
TERMS: Final = (
    *PLAIN,
    *(f"{asked}:{value}" for asked in ASKED for value in ("cosine", "above_best_other")),
    "centre:backwards", "centre:agree", "agree:cosine", "agree", "agree_cosine", "square", "best_half", "best_quarter",
    *COLOURED,
)  # fmt: skip
VALUES: Final = (*INPUTS, "agree", "agree_cosine", "square", "best_half", "best_quarter")
"""v of a node: its inputs, and what comes of them."""
WEIGHING: Final = (*ASKED, "agree")
"""Whose values count, each a weight p of a node."""
TINY: Final = 1e-6
"""Beside a sum of weights, which may be 0."""
_AT: Final = {name: at for at, name in enumerate(INPUTS)}


def beside(grid: Grid) -> Tensor:
    """(P, P) float32: 1 / m where j is one of the m cells beside i, corners too; else 0."""
    rows, columns = grid
    gap = (centres(grid)[:, None] - centres(grid)[None]).abs() * torch.tensor([columns, rows])  # (P, P, 2) in cells
    near = (gap < 1.5).all(dim=-1) & ~torch.eye(len(gap), dtype=torch.bool)
    return near / near.sum(dim=1, keepdim=True).clamp(min=1)


_beside = lru_cache(maxsize=16)(beside)


def agreement(moved: Tensor, grid: Grid) -> Tensor:
    """What each node hears of its neighbours: whether their partners moved as its own did.

        a_i = mean over j beside i of exp(-|d_i - d_j|^2 / 2)

    Args:
        moved: (n, P, 2) displacements x and y, as shares of a side.
        grid: rows and columns of the map.

    Returns:
        (n, P) in 0..1.
    """
    rows, columns = grid
    cells = moved * torch.tensor([columns, rows], dtype=moved.dtype, device=moved.device)
    squared = cells.square().sum(dim=-1)  # (n, P)
    apart = squared[:, :, None] + squared[:, None] - 2 * cells @ cells.transpose(1, 2)  # (n, P, P)
    return (torch.exp(-0.5 * apart.clamp(min=0)) * _beside(grid).to(moved.device)).sum(dim=2)


def node_terms(inputs: Tensor, grid: Grid) -> Tensor:
    """What each node adds to each term.

    Args:
        inputs: (n, P, F) of `node_inputs`.
        grid: rows and columns of the map.

    Returns:
        (n, P, T) in the order of TERMS; summed over nodes a term is a weighted mean of a value.
    """
    values, weights = node_values(inputs, grid)
    value = dict(zip(VALUES, values.unbind(dim=-1), strict=True))  # each (n, P)
    share = dict(zip(WEIGHING, (weights / (weights.sum(dim=1, keepdim=True) + TINY)).unbind(dim=-1), strict=True))
    return torch.stack([_term(name, value, share, inputs.shape[1]) for name in TERMS], dim=-1)


def _term(name: str, value: Mapping[str, Tensor], share: Mapping[str, Tensor], nodes: int) -> Tensor:
    who, of, what = name.partition(":")
    return share[who] * value[what] if of else value[name] / nodes


def node_values(inputs: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """What terms are made of.

    Args:
        inputs: (n, P, F) of `node_inputs`.
        grid: rows and columns of the map.

    Returns:
        (n, P, V) values v in the order of VALUES, and (n, P, who) weights p in the order of WEIGHING.
    """
    cosine, nodes = inputs[..., _AT["cosine"]], inputs.shape[1]
    agree = agreement(inputs[..., _AT["dx"] : _AT["dy"] + 1], grid)
    place = cosine.argsort(dim=1, descending=True, stable=True).argsort(dim=1)  # 0 for the best
    best = [(place < count) * cosine * (nodes / count) for count in (-(-nodes // 2), max(1, nodes // 4))]
    further = torch.stack([agree, agree * cosine, cosine.clamp(min=0).square(), *best])
    off_centre, mutual = inputs[..., _AT["off_centre"]], inputs[..., _AT["mutual"]]
    inside, distinct, partner_inside = (
        (1 - inputs[..., _AT[name]]).clamp(min=LEAST) for name in ("border", "alone", "partner_border")
    )
    weights = [
        torch.exp(-((off_centre / CENTRE) ** 2)), inside, inputs[..., _AT["spread"]], mutual + 1e-3, distinct,
        partner_inside, agree + 1e-3,
    ]  # fmt: skip
    # Value by value in memory, as the inputs come and as they are added up.
    return torch.cat([inputs.movedim(-1, 0), further]).movedim(0, -1), torch.stack(weights).movedim(0, -1)


@dataclass(frozen=True, slots=True)
class SparseGraph:
    """A fitted graph.

    Fields:
        grid: rows and columns of the map.
        weights: w of each of TERMS that has one.
        cosine_scale: c.
        bias: b.
        presence: u of each of TERMS that has one; empty where nothing was fitted.
        presence_bias: e.
    """

    grid: Grid = (7, 7)
    weights: Mapping[str, float] = field(default_factory=dict)
    cosine_scale: float = COSINE_SCALE
    bias: float = 0.0
    presence: Mapping[str, float] = field(default_factory=dict)
    presence_bias: float = 0.0
    _by_value: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)
    """Of each readout the weights as (V,) of the values in a mean over nodes, and (who, V) of those in a weighted one;
    one below the other."""

    def __post_init__(self) -> None:
        if unknown := sorted({*self.weights, *self.presence} - set(TERMS)):
            raise ConfigError(f"a sparse graph has no terms {unknown}; known are {', '.join(TERMS)}")
        readouts = [_by_value(self.weights, self.cosine_scale)]
        readouts += [_by_value(self.presence, 0.0)] if self.presence else []
        plain, asked = zip(*readouts, strict=True)
        object.__setattr__(self, "_by_value", (torch.stack(plain), torch.stack(asked)))

    @property
    def reads_tints(self) -> bool:
        """Whether colours take part."""
        return any(weights.get(name) for weights in (self.weights, self.presence) for name in COLOURED)

    def contributions(self, inputs: Tensor) -> Tensor:
        """What each node adds to the score: (n, P, F) -> (n, P)."""
        return self._read(inputs)[0]

    def score(self, inputs: Tensor) -> Tensor:
        """(n, P, F) -> (n,) logits: the contributions and the bias."""
        return self.contributions(inputs).sum(dim=1) + self.bias

    def score_and_presence(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """(n, P, F) -> (n,) of `score`, and (n,) 0..1 of presence, were each the answer; None where none is fitted."""
        score, *presence = self._read(inputs).sum(dim=2)
        return score + self.bias, torch.sigmoid(presence[0] + self.presence_bias) if presence else None

    def _read(self, inputs: Tensor) -> Tensor:
        """(n, P, F) -> (readouts, n, P), what each node adds to each readout."""
        plain, asked = (weights.to(inputs.device) for weights in self._by_value)  # (readouts, V), (readouts, who, V)
        values, weights = (of.movedim(-1, 0) for of in node_values(inputs, self.grid))  # (V, n, P), (who, n, P)
        share = weights / (weights.sum(dim=2, keepdim=True) + TINY)
        each = values.flatten(1)  # (V, n P)
        in_mean = (plain / inputs.shape[1]) @ each
        in_weighted = (share.flatten(1) * (asked @ each)).sum(dim=1)
        return (in_mean + in_weighted).view(-1, *inputs.shape[:2])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; without a presence nothing of it, as it was before there was one."""
        presence = {"presence": dict(self.presence), "presence_bias": self.presence_bias} if self.presence else {}
        return {
            "grid": list(self.grid),
            "weights": dict(self.weights),
            "cosine_scale": self.cosine_scale,
            "bias": self.bias,
            **presence,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SparseGraph:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: a field or term that is not known.
        """
        try:
            given = {**values, "grid": tuple(values["grid"])}
            return cls(**given)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"a sparse graph has {sorted(values)}: {error!r}") from error


def _by_value(weights: Mapping[str, float], cosine_scale: float) -> tuple[Tensor, Tensor]:
    """Weights of terms as (V,) of values in a mean over nodes, and (who, V) of those in a weighted one."""
    plain, asked = torch.zeros(len(VALUES)), torch.zeros(len(WEIGHING), len(VALUES))
    plain[VALUES.index("cosine")] = cosine_scale
    for name, weight in weights.items():
        who, of, what = name.partition(":")
        if of:
            asked[WEIGHING.index(who), VALUES.index(what)] += weight
        else:
            plain[VALUES.index(name)] += weight
    return plain, asked
