"""What each tensor of a network learns by: rates and decay of its group, and how the rates go from step to step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

SMALLEST_SIZE = 1e-3
"""A tensor counts as at least this large, so that one that begins at zero can move."""

BLEND_PACE = 20.0
"""The blend's weights are as large as this, and learn that much faster than others, which are below one."""

Group = dict[str, Any]
"""Of an optimiser's parameters."""


def relative_groups(module: nn.Module, *, rate: float, weight_decay: float) -> list[Group]:
    """For AdamW: a rate that is a share of each tensor's own size (root mean square).

    One step moves a weight by that much of itself. The sizes of layers differ by a factor of a hundred, and an absolute
    rate that one of them needs tears another apart within twenty steps.
    """
    return [
        {
            "params": [p],
            "lr": rate * max(float(p.detach().square().mean().sqrt()), SMALLEST_SIZE),
            "weight_decay": weight_decay if p.ndim > 1 else 0.0,
        }
        for p in module.parameters()
    ]


def head_groups(parts: nn.Module, *, rate: float, weight_decay: float) -> list[Group]:
    """For AdamW: decay matrices; leave biases, the blend and other vectors alone."""
    named = [(name.rpartition(".")[2], p) for name, p in parts.named_parameters()]
    groups: list[Group] = [
        {"params": [p for _, p in named if p.ndim > 1], "lr": rate, "weight_decay": weight_decay},
        {"params": [p for name, p in named if p.ndim <= 1 and name != "blend"], "lr": rate, "weight_decay": 0.0},
    ]
    blend = [p for name, p in named if name == "blend"]
    if blend:
        groups.append({"params": blend, "weight_decay": 0.0, "lr": BLEND_PACE * rate})
    return groups


def cosine_after_warm_up(
    optimiser: torch.optim.Optimizer, *, steps: int, warm_up: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A rate that rises for `warm_up` steps under half a cosine that ends at zero."""

    def part(step: int) -> float:
        return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, part)


def steady(optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """A rate that stays as it is."""
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
