"""A gallery and queries with known answers, ranked by every stage and method, and what the rankings are worth.

Letters  n queries, m gallery items, k shortlist
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.chain import STAGE_ONE
from threadmatch.model.color import ColorMatcher, color_regions
from threadmatch.model.data.encoded import EncodedSet, encode_images
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.pixel_descriptions import describe_pixels
from threadmatch.model.errors import ConfigError
from threadmatch.model.evaluate.calibration import NoMatchRates, expected_calibration_error, no_match_rates, reliability
from threadmatch.model.evaluate.metrics import RECALL_K, TOP_K, paired_gain, rates, recall_at
from threadmatch.model.evaluate.ranking import (
    FINAL,
    FULL,
    JudgedQuery,
    Method,
    Rankings,
    alone,
    chain_of,
    rank_encoded,
)
from threadmatch.model.inference import Model
from threadmatch.model.kpm import KPMMatcher, load_kpm, map_scales
from threadmatch.model.matchers import MATCHERS, named
from threadmatch.model.progress import Progress, unheard

EXHAUSTIVE_PAIRS = 200_000
"""Most pairs of query and item for which the whole gallery is reranked too without being asked for; a minute to four on
two cores."""
DEFAULT_METHODS = ("global", "greedy", "grnet")
GRNET = "grnet"
"""The matcher that the yardstick is of."""
OTHER_METHODS = (FULL, "color", "kpm")
"""Beside stage one and the matchers."""


def known_methods() -> tuple[str, ...]:
    """What can be measured, by name."""
    return (STAGE_ONE, *MATCHERS, *OTHER_METHODS)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """What to measure.

    Fields:
        methods: some of `known_methods`; "global" is always there, since the others rerank its shortlist. "grnet" is
            the model's whole chain, "grnet_full" GRNet alone over all candidates; the other matchers stand alone.
            "color" ranks the whole gallery by colour histograms. "kpm" needs `kpm`.
        candidates: k, how many stage one hands on.
        exhaustive: also let GRNet rank the whole gallery; None: where that is at most EXHAUSTIVE_PAIRS.
        kpm: folder of a trained matching head.
        cache: folder for features; None keeps nothing.
    """

    methods: Collection[str] = DEFAULT_METHODS
    candidates: int = 200
    exhaustive: bool | None = None
    kpm: Path | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.methods) - set(known_methods()):
            raise ConfigError(f"methods has {sorted(unknown)}, known are {', '.join(known_methods())}")
        if ("kpm" in self.methods) != (self.kpm is not None):
            raise ConfigError("the method kpm and the folder of its trained head go together; give both or neither")


def rank(
    model: Model,
    gallery: Sequence[LabelledImage],
    queries: Sequence[LabelledImage],
    *,
    settings: EvaluationSettings | None = None,
    progress: Progress = unheard,
) -> Rankings:
    """Rank the gallery for every query, as the settings say.

    Args:
        model: whose two stages are measured.
        gallery, queries: labelled images on disk.
        settings: what to measure; None: the three default methods.
        progress: hears how many photos are encoded and how many queries are ranked.

    Raises:
        DataError: an image cannot be read. CheckpointError: the matching head is not this model's.
    """
    settings = settings or EvaluationSettings()
    shop = encode_images(model, gallery, cache=settings.cache, progress=progress).as_kept(model.features)
    street = encode_images(model, queries, cache=settings.cache, progress=progress)
    methods = {name: alone(named(model.matchers, name)) for name in settings.methods if name in model.matchers}
    if "color" in settings.methods:
        asked, held = (
            describe_pixels(images, color_regions, image_px=model.image_px, progress=progress)
            for images in (queries, gallery)
        )
        street, shop = street.having(color=asked), shop.having(color=held)
        methods["color"] = alone(ColorMatcher(), whole=True)
    if settings.kpm is not None:
        head = load_kpm(settings.kpm, features_fingerprint=model.features_fingerprint)
        mapped = model.with_scales(map_scales(head.config.grid))
        maps = [
            encode_images(mapped, images, cache=settings.cache, progress=progress).regions
            for images in (queries, gallery)
        ]
        street, shop = street.having(map=maps[0]), shop.having(map=maps[1])
        methods["kpm"] = alone(KPMMatcher(head))
    if FULL in settings.methods:
        methods[FULL] = alone(named(model.matchers, GRNET))
    if FINAL in settings.methods:
        methods[FINAL] = chain_of(model)
    _check_features(methods, shop)
    small = len(gallery) * len(queries) <= EXHAUSTIVE_PAIRS
    return rank_encoded(
        shop,
        street,
        methods,
        candidates=settings.candidates,
        exhaustive=small if settings.exhaustive is None else settings.exhaustive,
        judge=partial(model.judge, items=len(gallery)) if model.certainty is not None else None,
        progress=progress,
    )


def _check_features(methods: Mapping[str, Method], encoded: EncodedSet) -> None:
    for name, method in methods.items():
        needed = {feature for matcher, _ in method.stages for feature in matcher.needs}
        if lacking := sorted(needed - encoded.features.keys()):
            raise ConfigError(
                f"method {name!r} needs the features {lacking}, this model makes {sorted(encoded.features)}; leave the "
                "method out, or use a model that has them"
            )


def report(rankings: Rankings, model: Model, *, seconds: float) -> dict[str, Any]:
    """What `threadmatch evaluate` writes: figures by method, setup and category, with intervals of the gain."""
    methods = {name: rankings.ranks(name) for name in rankings.orders}
    result = {
        "gallery": len(rankings.gallery),
        "queries": len(rankings.queries),
        "answerable": int((methods[STAGE_ONE] > 0).sum()),
        "candidates": rankings.candidates,
        **figures(methods),
        "by_setup": _by(rankings, methods, lambda image: image.setup.split("+")),  # hard in two ways: counted in both
        "by_category": _by(rankings, methods, lambda image: (image.category,)),
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "seconds": round(seconds, 3),
    }
    if rankings.judged:
        result |= _judged(rankings.judged, model)
    elif rankings.scored is not None and model.matchers[model.chain[-1].matcher].calibrated:
        scores, same = rankings.scored.first_pages()
        stated = model.probability(scores, items=len(rankings.gallery))
        result["calibration"] = {
            "ece": expected_calibration_error(stated, same),
            "ece_without_gallery_size": expected_calibration_error(model.probability(scores), same),
            "matches": len(scores),
            "bins": reliability(stated, same),
            **model.calibration.to_dict(),
        }
        result["no_match"] = asdict(no_match_rates(model.calibration, rankings.scored, items=len(rankings.gallery)))
    return result


def _judged(judged: Sequence[JudgedQuery], model: Model) -> dict[str, Any]:
    """How well the probabilities of a chain hold, and how often "no match" is wrong."""
    stated = np.concatenate([one.probabilities for one in judged])
    same = np.concatenate([one.same for one in judged])
    present = [one for one in judged if one.present]
    right = [one for one in present if one.search.same[:1].any()]
    assert model.certainty is not None
    rates = NoMatchRates(
        model.certainty.threshold,
        1 - float(np.mean([one.said_without for one in judged])),
        float(np.mean([one.said for one in present])) if present else 0.0,
        len(present),
        len(judged),
        float(np.mean([one.said for one in right])) if right else None,
    )
    calibration = {
        "ece": expected_calibration_error(stated, same),
        "ece_first": first_match_error(judged),
        "matches": len(stated),
        "bins": reliability(stated, same),
        "certainty": model.certainty.to_dict(),
    }
    return {"calibration": calibration, "no_match": asdict(rates)}


def first_match_error(judged: Sequence[JudgedQuery]) -> float:
    """Expected calibration error of the first matches alone."""
    first = [one for one in judged if len(one.same)]
    return expected_calibration_error(
        np.array([one.probabilities[0] for one in first], np.float32), np.array([one.same[0] for one in first], bool)
    )


def figures(methods: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Rates by method, shortlist recall, and the gain of the final method, from first-hit ranks of the same queries."""
    found: dict[str, Any] = {
        "methods": {name: rates(ranks) for name, ranks in methods.items()},
        "shortlist_recall": {str(k): recall_at(methods[STAGE_ONE], k) for k in RECALL_K},
    }
    if FINAL in methods:
        others = [name for name in methods if name != FINAL]
        found["gain_over"] = {name: gains(methods[name], methods[FINAL]) for name in others}
        found["gain"] = found["gain_over"][STAGE_ONE]
    return found


def gains(baseline: NDArray[np.int64], method: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Gain of one ranking over another on the same queries, with 95 % intervals: top1, ..., mrr."""
    before, after = per_query(baseline), per_query(method)
    return {name: asdict(paired_gain(before[name], after[name])) for name in before}


def per_query(ranks: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """What each query adds to a rate: (n,) 0..1 for top1, ..., mrr."""
    found = ranks > 0
    hits = {f"top{k}": (found & (ranks <= k)).astype(np.float64) for k in TOP_K}
    return {**hits, "mrr": np.where(found, 1 / np.maximum(ranks, 1), 0.0)}


def compare(before: Rankings, after: Rankings, method: str = FINAL) -> dict[str, dict[str, float]]:
    """Gain of one model's method over another's, on the same queries and gallery."""
    return gains(before.ranks(method), after.ranks(method))


def _by(
    rankings: Rankings, methods: dict[str, NDArray[np.int64]], label: Callable[[LabelledImage], Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """The figures of each group of queries: {label: {"queries", method: rates, "shortlist_recall", "gain"}}."""
    where: dict[str, list[int]] = {}
    for n, image in enumerate(rankings.queries):
        for value in label(image):
            where.setdefault(value, []).append(n)
    groups: dict[str, dict[str, Any]] = {}
    for value, at in sorted(where.items()):
        if value:
            own = figures({name: ranks[at] for name, ranks in methods.items()})
            groups[value] = {"queries": len(at), **own.pop("methods"), **own}
    return groups


def evaluate(
    model: Model,
    gallery: Sequence[LabelledImage],
    queries: Sequence[LabelledImage],
    *,
    candidates: int = 200,
    exhaustive: bool | None = None,
    settings: EvaluationSettings | None = None,
    progress: Progress = unheard,
) -> tuple[dict[str, Any], Rankings]:
    """Rank and report in one go; `settings` say it all, or `candidates` and `exhaustive` of the default one."""
    started = time.monotonic()
    settings = settings or EvaluationSettings(candidates=candidates, exhaustive=exhaustive)
    rankings = rank(model, gallery, queries, settings=settings, progress=progress)
    return report(rankings, model, seconds=time.monotonic() - started), rankings
