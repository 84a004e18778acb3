"""Whether explanations name what decided: the score's drop when the named region is blanked, against other regions.

Letters  n pairs of images, R regions, S image side
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.errors import DataError
from threadmatch.model.evaluate.metrics import paired_gain
from threadmatch.model.explain import Evidence
from threadmatch.model.grnet_matcher import GRNetMatcher
from threadmatch.model.images import load_image
from threadmatch.model.inference import Model
from threadmatch.model.matchers import named
from threadmatch.model.matching import Items, Photo, as_photo
from threadmatch.model.similarity import scale_spans

METHODS: Final = {
    "after": "evidence after reasoning: the pair that adds most to the score",
    "before": "evidence before reasoning: the pair with most edge times similarity",
    "edge_after": "largest edge into the global node alone, last step",
    "edge_before": "largest edge into the global node alone, first step",
    "gradcam": "region of the same scale as `after` with the most Grad-CAM in it",
}
TOP = 10_000  # all pairs: edges alone order them otherwise


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Drops of the score, (n,) each, by method: with the named region blanked, and the mean of its scale's others."""

    named: dict[str, NDArray[np.float64]]
    others: dict[str, NDArray[np.float64]]
    scores: NDArray[np.float64]

    def report(self, model: Model, *, seed: int, seconds: float) -> dict[str, Any]:
        """What `threadmatch evaluate-explanations` writes."""
        methods = {
            name: {
                "drop_named": float(self.named[name].mean()),
                "drop_random": float(self.others[name].mean()),
                "gain": asdict(paired_gain(self.others[name], self.named[name])),
                "named_drops_more": float((self.named[name] > self.others[name]).mean()),
            }
            for name in METHODS
        }
        return {
            "pairs": len(self.scores),
            "mean_score": float(self.scores.mean()),
            "methods": methods,
            "seed": seed,
            "model": {"name": model.name, "fingerprint": model.fingerprint},
            "seconds": round(seconds, 3),
        }


def measure(
    model: Model,
    gallery: Sequence[LabelledImage],
    queries: Sequence[LabelledImage],
    *,
    pairs: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Faithfulness:
    """Blank regions of queries and score them again with the item they show.

    A region is blanked with the mean colour of its photo. Each method's region is compared with the mean of the other
    regions of the same scale, which is what a random one of equal size gives on average.

    Args:
        model: whose explanations are measured.
        gallery, queries: labelled images; each query is paired with the first gallery image of its product.
        pairs: at most so many, drawn by `seed`.
        seed: of the draw.
        progress: called with pairs done and all.

    Raises:
        DataError: no query's product is in the gallery.
        InvalidImageError: an image cannot be read.
    """
    shown: dict[str, LabelledImage] = {}
    for image in gallery:
        shown.setdefault(image.product_id, image)
    known = [query for query in queries if query.product_id in shown]
    if not known:
        raise DataError("no query's product is in the gallery; both need the same product_id")
    drawn = np.random.default_rng(seed).permutation(len(known))[:pairs]
    named: dict[str, list[float]] = {name: [] for name in METHODS}
    others: dict[str, list[float]] = {name: [] for name in METHODS}
    scores = []
    for done, place in enumerate(drawn.tolist(), start=1):
        query, item = (_pixels(model, image) for image in (known[place], shown[known[place].product_id]))
        score, drops, chosen = _one(model, query, item)
        scores.append(score)
        for name, region in chosen.items():
            rest = [drops[other] for other in _siblings(model, region) if other != region]
            named[name].append(drops[region])
            others[name].append(float(np.mean(rest)))
        if progress is not None:
            progress(done, len(drawn))
    return Faithfulness(
        {name: np.asarray(values) for name, values in named.items()},
        {name: np.asarray(values) for name, values in others.items()},
        np.asarray(scores),
    )


def _pixels(model: Model, image: LabelledImage) -> NDArray[np.uint8]:
    return load_image(image.path.read_bytes(), image_px=model.image_px, framing=model.framing, box=image.box)[0].pixels


def _one(
    model: Model, query: NDArray[np.uint8], item: NDArray[np.uint8]
) -> tuple[float, dict[int, float], dict[str, int]]:
    """The score of a pair, its drop for every region that is compared, and the region each method names."""
    both = model.encode(np.stack([query, item]))
    photo, shown = ({name: values[part] for name, values in both.items()} for part in (0, slice(1, 2)))
    score = float(_score(model, photo, shown)[0])
    chosen = _named(model, query, photo, shown)
    compared = sorted({sibling for region in chosen.values() for sibling in _siblings(model, region)})
    blanked = model.encode(np.stack([blank(model, query, region) for region in compared]))
    again = [
        float(_score(model, {name: values[n] for name, values in blanked.items()}, shown)[0])
        for n in range(len(compared))
    ]
    return score, {region: score - value for region, value in zip(compared, again, strict=True)}, chosen


def _score(model: Model, photo: Photo, shown: Items) -> NDArray[np.float32]:
    [scores] = explainer(model).score_many([photo], [shown])
    return scores


def _named(model: Model, query: NDArray[np.uint8], photo: Photo, shown: Items) -> dict[str, int]:
    matcher = explainer(model)
    (told,) = matcher.evidence(photo, shown, top=TOP)

    def by_edge(pairs: Sequence[Evidence]) -> int:
        return max(pairs, key=lambda pair: pair.edge).query_region

    after = told.after[0].query_region
    cam = matcher.grad_cam(query, as_photo(shown, 0), side="query")
    rows, columns = cam.shape
    in_region = {}
    for region in _siblings(model, after):
        x0, y0, x1, y1 = np.rint(matcher.region_boxes()[region] * (columns, rows, columns, rows)).astype(int)
        in_region[region] = float(cam[y0:y1, x0:x1].mean())
    return {
        "after": after,
        "before": told.before[0].query_region,
        "edge_after": by_edge(told.after),
        "edge_before": by_edge(told.before),
        "gradcam": max(in_region, key=lambda region: in_region[region]),
    }


def explainer(model: Model) -> GRNetMatcher:
    """The matcher whose explanations are measured: GRNet's, whose regions, edges and gradients the ways of naming need.

    Raises:
        ConfigError: the model has none.
    """
    matcher = named(model.matchers, "grnet")
    assert isinstance(matcher, GRNetMatcher)
    return matcher


def _siblings(model: Model, region: int) -> list[int]:
    """The regions of the same scale, itself included: their windows have the same size, but for rounding."""
    return next(list(range(start, end)) for start, end in scale_spans(model.config.grids) if start <= region < end)


def blank(model: Model, pixels: NDArray[np.uint8], region: int) -> NDArray[np.uint8]:
    """(S, S, 3) with one region in the mean colour of the whole."""
    x0, y0, x1, y1 = np.rint(explainer(model).region_boxes()[region] * model.image_px).astype(int)
    out = pixels.copy()
    out[y0:y1, x0:x1] = np.rint(pixels.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    return out


def markdown(result: dict[str, Any]) -> str:
    """The report as a table."""
    lines = [
        "| region named by | drop, named | drop, random | difference, 95 % | named drops more |",
        "|---|---|---|---|---|",
    ]
    for name, figures in result["methods"].items():
        gain = figures["gain"]
        lines.append(
            f"| {METHODS[name]} | {figures['drop_named']:.2f} | {figures['drop_random']:.2f} "
            f"| {gain['mean']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}] "
            f"| {100 * figures['named_drops_more']:.0f} % |"
        )
    return "\n".join(lines) + "\n"
