"""A trained network's scores of a set's queries, from cached features, as calibration takes them.

Letters  R regions, C channels
"""

from __future__ import annotations

import logging

import numpy as np
import torch

from threadmatch.model.config import Calibration
from threadmatch.model.data.sides import Sides
from threadmatch.model.engine import Engine
from threadmatch.model.errors import DataError
from threadmatch.model.evaluate.calibration import ScoredQueries, calibrate, fit_calibration
from threadmatch.model.grnet import GRNet
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.train.inputs.feature_sets import FeatureSet

logger = logging.getLogger(__name__)


@torch.no_grad()
def score_features(
    network: GRNet, features: Sides[FeatureSet], *, candidates: int = 200, progress: Progress = unheard
) -> ScoredQueries:
    """Rerank every query's shortlist, and as many items more as it has of its product.

    Args:
        network: trained, in evaluation mode.
        features: of both sides.
        candidates: what a search reranks.
        progress: hears how many queries are scored.
    """
    engine = Engine(network.head)
    embedding, regions = features.gallery.vectors(network)
    names = np.asarray(features.gallery.products)
    scores, same = [], []
    for n, product in enumerate(features.queries.products):
        one, query = features.queries.vectors(network, slice(n, n + 1))
        deep = candidates + int((names == product).sum())
        short = (one @ embedding.T)[0].topk(min(deep, len(embedding))).indices
        scores.append(engine.score(query[0], regions[short]).numpy())
        same.append(names[short.numpy()] == product)
        progress("scoring val to calibrate", n + 1, len(features.queries.products))
    return ScoredQueries(scores, same, list(features.queries.products), len(names), candidates)


def calibrate_network(
    network: GRNet, val: Sides[FeatureSet], *, candidates: int = 200, progress: Progress = unheard
) -> tuple[Calibration, ScoredQueries]:
    """Calibration of a trained network on held-out pairs; without a threshold where they are too few for one.

    Returns:
        The calibration, for `network.calibration`, and the scores it was fitted on.
    """
    scored = score_features(network, val, candidates=candidates, progress=progress)
    try:
        return calibrate(scored), scored
    except DataError as error:
        logger.warning("no threshold of no match: %s", error)
        return fit_calibration(*scored.first_pages()), scored
