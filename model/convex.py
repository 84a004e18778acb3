"""Small convex fits: one minimum, no step size to choose, the same answer wherever they begin.

Letters  n observations, V values of each
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Doubles = NDArray[np.float64]
_DEVIATION_FLOOR = 1e-9
"""So that a value that never changes is left at its weight of zero, not divided by nothing."""


def minimise(loss: Callable[[Tensor], Tensor], start: Tensor, *, steps: int = 300) -> Tensor:
    """Where a convex function is least, by L-BFGS with a strong Wolfe line search (Nocedal and Wright, 2006, ch. 7).

    Args:
        loss: of a tensor shaped as `start`, a scalar that can be differentiated.
        start: any shape, float; it is left as it is.
        steps: at most.

    Returns:
        The same shape and dtype, without a gradient.
    """
    found = start.detach().clone().requires_grad_()
    solver = torch.optim.LBFGS([found], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        value = loss(found)
        value.backward()
        return value

    solver.step(closure)
    return found.detach()


def logistic(values: Doubles, holds: NDArray[np.bool_], counts: Doubles, *, pull: float) -> tuple[Doubles, float]:
    """Logistic regression, whose weights are pulled to zero in units of each value's deviation.

    Args:
        values: (n, V).
        holds: (n,) what is to be told.
        counts: (n,) what each observation weighs.
        pull: of the squared standardised weights, beside the mean loss of an observation.

    Returns:
        (V,) weights and the offset, of the values as they are given.
    """
    mean, deviation = values.mean(axis=0), values.std(axis=0) + _DEVIATION_FLOOR
    x = torch.from_numpy((values - mean) / deviation)
    y, share = torch.from_numpy(holds.astype(np.float64)), torch.from_numpy(counts)

    def loss(found: Tensor) -> Tensor:
        missed = F.binary_cross_entropy_with_logits(x @ found[:-1] + found[-1], y, weight=share)
        return missed + pull * found[:-1].square().sum()

    standard = minimise(loss, torch.zeros(values.shape[1] + 1, dtype=torch.float64), steps=500).numpy()
    weights = standard[:-1] / deviation
    return weights, float(standard[-1] - weights @ mean)
