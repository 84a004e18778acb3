"""A gallery and queries with known answers, ranked by every stage and method, and what the rankings are worth.

Letters  n queries, m gallery items, k shortlist
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.pairs import LabelledImage
from model.inference import Model
from model.matchers import GreedyMatcher
from model.train.features import encode_images
from model.train.metrics import RECALL_K, TOP_K, first_hit, paired_gain, rates, recall_at

EXHAUSTIVE_LIMIT = 2000
"""Largest gallery that is also reranked whole, to see what the shortlist costs."""

Order = list[NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Rankings:
    """Gallery positions, best first, for each query, by method."""

    orders: dict[str, Order]
    gallery: list[LabelledImage]
    queries: list[LabelledImage]
    candidates: int

    def ranks(self, method: str) -> NDArray[np.int64]:
        """(n,) first-hit rank from 1, 0 where the product is not found."""
        products = [image.product_id for image in self.gallery]
        return first_hit(self.orders[method], products, [image.product_id for image in self.queries])


def rank(
    model: Model,
    gallery: Sequence[LabelledImage],
    queries: Sequence[LabelledImage],
    *,
    candidates: int = 200,
    exhaustive: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rankings:
    """Rank the gallery for every query.

    Args:
        model: whose two stages are measured.
        gallery, queries: labelled images on disk.
        candidates: k, how many stage one hands on.
        exhaustive: also rerank the whole gallery, where it has at most EXHAUSTIVE_LIMIT items.
        cache: folder for the features; None keeps nothing.
        progress: called with queries done and all.

    Returns:
        "global" (stage one: the whole gallery), "greedy" and "grnet" (its first k reranked, the rest as it was),
        and "grnet_exhaustive" where asked.
    """
    shop = encode_images(model, gallery, cache=cache)
    street = encode_images(model, queries, cache=cache)
    orders: dict[str, Order] = {"global": [], "greedy": [], "grnet": []}
    whole = exhaustive and len(gallery) <= EXHAUSTIVE_LIMIT
    if whole:
        orders["grnet_exhaustive"] = []
    greedy = GreedyMatcher(model.config.grids)
    for n in range(len(queries)):
        similar = shop.embeddings @ street.embeddings[n]
        order = np.argsort(-similar, kind="stable")
        orders["global"].append(order)
        short = order[:candidates]
        regions = shop.regions[short]
        by_greedy = greedy.score(torch.from_numpy(street.regions[n]), torch.from_numpy(regions)).numpy()
        orders["greedy"].append(_reranked(order, by_greedy))
        orders["grnet"].append(_reranked(order, model.score(street.regions[n], regions)))
        if whole:
            every = np.arange(len(gallery))
            orders["grnet_exhaustive"].append(_reranked(every, model.score(street.regions[n], shop.regions)))
        if progress:
            progress(n + 1, len(queries))
    return Rankings(orders, list(gallery), list(queries), candidates)


def _reranked(order: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The first len(scores) positions by score, ties in stage one's order; the others where they were."""
    head = order[: len(scores)][np.argsort(-scores, kind="stable")]
    return np.concatenate([head, order[len(scores) :]])


def report(rankings: Rankings, model: Model, *, seconds: float) -> dict[str, Any]:
    """What `threadmatch evaluate` writes: figures by method, setup and category, with intervals of the gain."""
    methods = {name: rankings.ranks(name) for name in rankings.orders}
    stage_one, final = methods["global"], methods["grnet"]
    return {
        "gallery": len(rankings.gallery),
        "queries": len(rankings.queries),
        "candidates": rankings.candidates,
        "methods": {name: rates(ranks) for name, ranks in methods.items()},
        "shortlist_recall": {str(k): recall_at(stage_one, k) for k in RECALL_K},
        "by_setup": _by(rankings, methods, lambda image: image.setup.split("+")),  # hard in two ways: counted in both
        "by_category": _by(rankings, methods, lambda image: (image.category,)),
        "gain": {f"top{k}": asdict(paired_gain(_hits(stage_one, k), _hits(final, k))) for k in TOP_K},
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "seconds": round(seconds, 3),
    }


def _hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def _by(
    rankings: Rankings, methods: dict[str, NDArray[np.int64]], label: Callable[[LabelledImage], Sequence[str]]
) -> dict[str, dict[str, Any]]:
    where: dict[str, list[int]] = {}
    for n, image in enumerate(rankings.queries):
        for value in label(image):
            where.setdefault(value, []).append(n)
    return {
        value: {"queries": len(at), **{name: rates(ranks[at]) for name, ranks in methods.items()}}
        for value, at in sorted(where.items())
        if value
    }


def evaluate(
    model: Model,
    gallery: Sequence[LabelledImage],
    queries: Sequence[LabelledImage],
    *,
    candidates: int = 200,
    exhaustive: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], Rankings]:
    """Rank and report in one go."""
    started = time.monotonic()
    rankings = rank(model, gallery, queries, candidates=candidates, exhaustive=exhaustive, progress=progress)
    return report(rankings, model, seconds=time.monotonic() - started), rankings


def markdown(result: dict[str, Any]) -> str:
    """The report as a table."""
    lines = ["| queries | method | n | top-1 | top-5 | top-20 | top-50 | MRR |", "|---|---|---|---|---|---|---|---|"]
    groups = {"all": {"queries": result["queries"], **result["methods"]}, **result["by_setup"]}
    for group, methods in groups.items():
        for name, figures in methods.items():
            if name != "queries":
                cells = " | ".join(f"{100 * figures[key]:.1f}" for key in ("top1", "top5", "top20", "top50", "mrr"))
                lines.append(f"| {group} | {name} | {methods['queries']} | {cells} |")
    gain = result["gain"]["top1"]
    lines.append("")
    lines.append(
        f"Gain of grnet over global, top-1: {100 * gain['mean']:+.1f} points "
        f"[{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}], paired bootstrap 95 %."
    )
    return "\n".join(lines) + "\n"


def write_trec(rankings: Rankings, method: str, folder: Path, *, depth: int = 100) -> None:
    """run.trec and qrels.trec, so that trec_eval or ranx can check the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{method}.run.trec").open("w") as file:
        for n, order in enumerate(rankings.orders[method]):
            for place, position in enumerate(order[:depth]):
                file.write(f"q{n} Q0 g{position} {place + 1} {depth - place} {method}\n")
    where: dict[str, list[int]] = {}
    for position, image in enumerate(rankings.gallery):
        where.setdefault(image.product_id, []).append(position)
    with (folder / "qrels.trec").open("w") as file:
        for n, image in enumerate(rankings.queries):
            for position in where.get(image.product_id, []):
                file.write(f"q{n} 0 g{position} 1\n")


def write_json(result: dict[str, Any], path: Path) -> None:
    """Aside, then renamed: a reader never sees half a report."""
    staged = path.with_name(f".{path.name}.partial")
    staged.write_text(json.dumps(result, indent=2) + "\n")
    staged.replace(path)
