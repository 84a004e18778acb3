"""Train a Kronecker-product matching head over a model's features, against the negatives that GRNet's head meets.

Letters  q queries a step, k items a query (the match first), P positions, C channels
Paper    Shen et al., CVPR 2018: cross-entropy of "same" and "different" for every head on every group; here positives
         and negatives are averaged apart, since there are k - 1 times as many of these
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.sides import Sides
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.kpm import KPMHead, KPMMatcher
from threadmatch.model.train.inputs.negatives import Draw, draw_queries, matches_of, nearest_others
from threadmatch.model.train.loop.optimisers import steady
from threadmatch.model.train.loop.run_folder import KPM, Run
from threadmatch.model.train.loop.training_loop import Course, TrainingLoop
from threadmatch.model.train.loop.validation import RANKING, spaced
from threadmatch.model.train.losses import Targets, same_or_different


@dataclass(frozen=True, slots=True, kw_only=True)
class KPMSettings:
    """How to train; sizes as HeadSettings has them for GRNet's head, so that both see as many pairs."""

    steps: int = 300
    queries: int = 32
    negatives: int = 7
    shortlist: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    evaluate_every: int = 50
    evaluate_queries: int = 600
    candidates: int = 100
    seed: int = 0


def train_kpm_head(
    head: KPMHead, train: Sides[EncodedSet], val: Sides[EncodedSet], *, settings: KPMSettings, run: Run
) -> dict[str, float]:
    """Train in place; keep the weights that rerank `val` best, the start among them.

    Args:
        head: untrained.
        train, val: the stage-one embeddings, and the maps for regions: (n, P, C).
        settings: how.
        run: where.

    Returns:
        The best figures on `val`.

    Raises:
        DataError: no query has its product in the gallery, or the gallery shows one product only.
    """
    products = train.map(_products)
    matches = matches_of(products)
    embeddings = train.map(lambda side: torch.from_numpy(side.embeddings))
    shortlists = nearest_others(embeddings, products, matches, depth=settings.shortlist)
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    course = Course(
        files=KPM,
        steps=settings.steps,
        evaluate_every=settings.evaluate_every,
        chosen_by="kpm_mrr",
        seed=settings.seed,
    )
    loop = TrainingLoop(head, optimiser, steady(optimiser), course=course, run=run)

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([settings.seed, step])
        sizes = {"queries": settings.queries, "negatives": settings.negatives}
        return _losses(head, train, draw_queries(products, matches, shortlists, **sizes, rng=rng))

    return loop.train(losses, lambda trained: _evaluate(trained, val, settings, run))


def _products(side: EncodedSet) -> list[str]:
    return [image.product_id for image in side.images]


def _losses(head: KPMHead, train: Sides[EncodedSet], drawn: Draw) -> dict[str, Tensor]:
    q, k = drawn.items.shape
    one = torch.from_numpy(train.queries.regions[drawn.queries]).float().repeat_interleave(k, dim=0)  # (q * k, P, C)
    items = torch.from_numpy(train.gallery.regions[drawn.items.reshape(-1)]).float()
    head.train()
    return {"total": same_or_different(head.logits(one, items), Targets.first(q, k))}


def _evaluate(head: KPMHead, val: Sides[EncodedSet], settings: KPMSettings, run: Run) -> dict[str, float]:
    """top-1 and mean reciprocal rank of the reranked shortlist, on evenly spaced queries."""
    matcher = KPMMatcher(head)
    at = spaced(len(val.queries.images), settings.evaluate_queries).tolist()
    orders = []
    for number, n in enumerate(at):
        order = np.argsort(-(val.gallery.embeddings @ val.queries.embeddings[n]), kind="stable")[: settings.candidates]
        photo, items = {"map": val.queries.regions[n]}, {"map": val.gallery.regions[order]}
        [scores] = matcher.score_many([photo], [items])
        orders.append(order[np.argsort(-scores, kind="stable")])
        run.say(RANKING, number + 1, len(at))
    found = rates(first_hit(orders, _products(val.gallery), [val.queries.images[n].product_id for n in at]))
    return {f"kpm_{name}": found[name] for name in ("top1", "mrr")}
