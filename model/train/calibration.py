"""Score to probability: a logistic of the score, fitted on the best matches of held-out queries.

Paper    Platt, 1999; expected calibration error as in Guo et al., ICML 2017 (equal-width bins)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from model.config import Calibration

BINS = 15


def fit_calibration(scores: NDArray[np.float32], same: NDArray[np.bool_]) -> Calibration:
    """Fit sigmoid(scale * score + offset) by maximum likelihood.

    Args:
        scores: (n,) of the matches that users would see.
        same: (n,) whether each is the query's product.
    """
    x, y = torch.from_numpy(scores).double(), torch.from_numpy(same).double()
    spread = float(x.std()) or 1.0
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(weights[0] * x / spread + weights[1], y)
        loss.backward()
        return loss

    optimiser.step(closure)
    scale, offset = weights.detach().tolist()
    return Calibration(scale=round(scale / spread, 6), offset=round(offset, 6))


def expected_calibration_error(probability: NDArray[np.float32], same: NDArray[np.bool_]) -> float:
    """Mean gap between stated and found probability over BINS equal bins, weighted by their size; 0..1."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [
        (place == b).mean() * abs(float(probability[place == b].mean()) - float(same[place == b].mean()))
        for b in np.unique(place)
    ]
    return float(np.sum(gaps))
