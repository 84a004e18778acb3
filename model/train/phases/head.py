"""Train neck, embedding and head over cached features of a frozen backbone, against the negatives that reranking meets.

Letters  q queries a step, k candidates a query (the match first), n images, E, R, C, D, C' as in config
Paper    Kuang et al., ICCV 2019, sec. 3.2 and 5.1; what differs is said beside each setting
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from threadmatch.model.data.sides import Sides
from threadmatch.model.grnet import GRNet
from threadmatch.model.train.inputs.feature_sets import FeatureSet
from threadmatch.model.train.inputs.negatives import Draw, draw_queries, matches_of, nearest_others
from threadmatch.model.train.loop.optimisers import head_groups
from threadmatch.model.train.loop.precision import Precision, check_at_least_one, check_precision, mixed
from threadmatch.model.train.loop.run_folder import HEAD, Run
from threadmatch.model.train.loop.training_loop import Course, TrainingLoop
from threadmatch.model.train.loop.validation import evaluate_features
from threadmatch.model.train.losses import METRIC, Compared, Targets, Vectors, losses_of


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """How to train over cached features."""

    metric_steps: int = 600
    """First phase, where there is a neck or an embedding: they alone learn, by greedy local matching (Eq. 2, 3) and the
    cosine of Eq. 1, each query against every item of the step. Cheap, and it carries over to garments never seen."""
    metric_queries: int = 64
    metric_negatives: int = 3
    metric_rate: float = 3e-4
    temperature: float = 0.05
    """Of both softmaxes of the first phase."""
    head_steps: int = 300
    """Second phase: GRNet's head learns on the features as they are now, as a residual over the blend."""
    queries: int = 32
    """Queries a step; each brings its match and `negatives` others."""
    negatives: int = 7
    """Drawn from the query's shortlist, since telling those apart is the reranker's whole work. The paper takes every
    other pair of the batch, of which most are easy."""
    shortlist: int = 60
    """Depth of the shortlist that negatives are drawn from; made anew every `refresh` steps of the first phase."""
    refresh: int = 100
    learning_rate: float = 1e-3
    """AdamW with a cosine to zero. The paper's SGD at 0.01 trains a whole backbone; here the head alone learns."""
    weight_decay: float = 0.05
    warm_up: int = 30
    evaluate_every: int = 150
    evaluate_queries: int = 600
    precision: Precision = "float32"
    """"bfloat16": matrix products in mixed precision, faster on CPUs with AVX-512 BF16 (docs/training.md)."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_at_least_one(
            self, "queries", "negatives", "metric_queries", "shortlist", "refresh", "warm_up", "evaluate_every"
        )

    @property
    def steps(self) -> int:
        """Of both phases."""
        return self.metric_steps + self.head_steps

    @property
    def weights(self) -> dict[str, float]:
        """Of the losses of the second phase; the first takes METRIC."""
        # The listwise loss leaves the score's zero free; a light pairwise one ties it to "same garment".
        return {"listwise": 1.0, "pair": 0.1}


def train_head(
    network: GRNet, train: Sides[FeatureSet], val: Sides[FeatureSet], *, settings: HeadSettings, run: Run
) -> dict[str, float]:
    """Train in place; keep the weights that rerank `val` best.

    Args:
        network: with a trained backbone, which is not touched.
        train, val: features of the bare backbone; of neck and embedding where no first phase trains these.
        settings: how.
        run: where.

    Returns:
        The best figures on `val`.

    Raises:
        DataError: no query has its product in the gallery, or the gallery shows one product only.
    """
    settings = possible(settings, network)
    assert not (settings.metric_steps and train.queries.projected), "what is projected already trains no neck"
    parts = nn.ModuleList(part for part in (network.neck, network.embedding, network.head) if part is not None)
    groups = head_groups(parts, rate=settings.learning_rate, weight_decay=settings.weight_decay)
    optimiser = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _cosine(step, settings))
    course = Course(
        files=HEAD,
        steps=settings.steps,
        evaluate_every=settings.evaluate_every,
        chosen_by="grnet_mrr",
        seed=settings.seed,
        clip=1.0,
    )
    loop = TrainingLoop(parts, optimiser, schedule, course=course, run=run)
    draws = _Draws(network, train, settings)

    def losses(step: int) -> dict[str, Tensor]:
        phase = _metric_losses if step < settings.metric_steps else _head_losses
        return phase(network, train, draws.at(step), settings)

    return loop.train(
        losses,
        lambda _: evaluate_features(network, val, queries=settings.evaluate_queries, progress=run.say),
    )


def possible(settings: HeadSettings, network: GRNet) -> HeadSettings:
    """Without the first phase where it has nothing to train."""
    nothing = network.neck is None and network.embedding is None
    return replace(settings, metric_steps=0) if nothing else settings


def _cosine(step: int, settings: HeadSettings) -> float:
    """Share of `learning_rate`: a warm-up and half a cosine in each phase."""
    metric = step < settings.metric_steps
    peak = settings.metric_rate / settings.learning_rate if metric else 1.0
    done, length = (step, settings.metric_steps) if metric else (step - settings.metric_steps, settings.head_steps)
    return peak * min(1.0, (done + 1) / settings.warm_up) * 0.5 * (1 + math.cos(math.pi * done / max(1, length)))


class _Draws:
    """The images of each step, a matter of seed and step alone, so that a resumed run has the same."""

    def __init__(self, network: GRNet, train: Sides[FeatureSet], settings: HeadSettings) -> None:
        self._network, self._train, self._settings = network, train, settings
        self._products = train.map(lambda side: side.products)
        self._matches = matches_of(self._products)
        self._shortlists: NDArray[np.int64] | None = None

    def at(self, step: int) -> Draw:
        settings = self._settings
        if self._shortlists is None or self._stale(step):
            with torch.no_grad():
                embeddings = self._train.map(lambda side: side.embeddings(self._network))
            self._shortlists = nearest_others(embeddings, self._products, self._matches, depth=settings.shortlist)
        sizes = (settings.queries, settings.negatives)
        if step < settings.metric_steps:
            sizes = (settings.metric_queries, settings.metric_negatives)
        rng = np.random.default_rng([settings.seed, step])
        return draw_queries(
            self._products, self._matches, self._shortlists, queries=sizes[0], negatives=sizes[1], rng=rng
        )

    def _stale(self, step: int) -> bool:
        """Whether the shortlists are made anew: now and then while the embedding learns, and once when it has.

        After an evaluation too, since a resumed run begins there.
        """
        settings = self._settings
        if step >= settings.metric_steps:
            return step == settings.metric_steps
        return step % settings.refresh == 0 or step % settings.evaluate_every == 0


def _vectors(network: GRNet, train: Sides[FeatureSet], drawn: Draw) -> tuple[Vectors, Vectors]:
    """Of the step's q queries and of its q * k items."""
    at, items = torch.from_numpy(drawn.queries), torch.from_numpy(drawn.items.reshape(-1))
    return Vectors(*train.queries.vectors(network, at)), Vectors(*train.gallery.vectors(network, items))


def _metric_losses(network: GRNet, train: Sides[FeatureSet], drawn: Draw, settings: HeadSettings) -> dict[str, Tensor]:
    """Each query over all items of the step, by embedding and by greedy local matching."""
    q, k = drawn.items.shape
    queries, items = _vectors(network, train, drawn)
    step = Compared(
        targets=Targets(torch.arange(q) * k, drawn.same),
        queries=queries,
        items=items,
        grids=network.config.grids,
        temperature=settings.temperature,
    )
    return losses_of(step, dict.fromkeys(METRIC, 1.0))


def _head_losses(network: GRNet, train: Sides[FeatureSet], drawn: Draw, settings: HeadSettings) -> dict[str, Tensor]:
    """Each query over its own match and the shortlist's negatives, by GRNet's score."""
    q, k = drawn.items.shape
    with torch.no_grad():  # neck and embedding stay as the first phase left them
        queries, items = _vectors(network, train, drawn)
    one = queries.regions.repeat_interleave(k, dim=0)  # (q * k, R, C)
    network.head.train()  # dropout
    with mixed(settings.precision, network.head):
        score = network.head(one, items.regions).float().view(q, k)
    step = Compared(targets=Targets.first(q, k), score=score, other_weight=1.0 / max(1, k - 1))
    return losses_of(step, settings.weights)
