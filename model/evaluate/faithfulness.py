"""Whether explanations name what decided: the score's drop when the named region is blanked, against other regions.

Letters  n pairs of images, N items of a shortlist, R regions, S image side
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.encoded import EncodedSet, encode_images
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.metrics import paired_gain
from threadmatch.model.evaluate.ranking import QueryScores, chain_of
from threadmatch.model.explain import Evidence
from threadmatch.model.features import EMBEDDING
from threadmatch.model.grnet_matcher import GRNetMatcher
from threadmatch.model.images import load_image
from threadmatch.model.inference import Model
from threadmatch.model.matchers import named
from threadmatch.model.matching import Items, Photo, as_explaining, as_photo
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.similarity import scale_spans

AFTER, BEFORE, MIDDLE, EDGE_AFTER, EDGE_BEFORE, GRADCAM = (
    "after", "before", "middle", "edge_after", "edge_before", "gradcam",
)  # fmt: skip
PAIRS: Final = {
    AFTER: "evidence after reasoning: the pair that adds most to the score",
    BEFORE: "evidence before reasoning: the pair with most edge times similarity",
    EDGE_AFTER: "largest edge into the global node alone, last step",
    EDGE_BEFORE: "largest edge into the global node alone, first step",
    GRADCAM: "region of the same scale as `after` with the most Grad-CAM in it",
}
"""Ways of GRNet to name a region."""
NODES: Final = {
    AFTER: "evidence: the cell that adds most to the score",
    BEFORE: "evidence before: the cell that is most like its partner",
    MIDDLE: "the middle cell, whatever is there",
}
"""Ways of a matcher over cells; the last is a control, for garments stand in the middle of photos."""
WAYS: Final[Mapping[str, Mapping[str, str]]] = {"sparse": NODES, "dense": NODES, "grnet": PAIRS}
"""Of the matchers whose explanations are measured."""
CANDIDATES: Final = 200
"""Items of the shortlist that rivals come from."""
TOP: Final = 10_000  # all pairs: edges alone order them otherwise
_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Drops of the score, (n,) each, by way: with the named region blanked, and the mean of the others of its size."""

    matcher: str
    ways: Mapping[str, str]
    named: dict[str, NDArray[np.float64]]
    others: dict[str, NDArray[np.float64]]
    scores: NDArray[np.float64]

    def report(self, model: Model, *, seed: int, seconds: float) -> dict[str, Any]:
        """What `threadmatch evaluate-explanations` writes."""
        methods = {
            name: {
                "way": words,
                "drop_named": float(self.named[name].mean()),
                "drop_random": float(self.others[name].mean()),
                "gain": asdict(paired_gain(self.others[name], self.named[name])),
                "named_drops_more": float((self.named[name] > self.others[name]).mean()),
            }
            for name, words in self.ways.items()
        }
        return {
            "matcher": self.matcher,
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
    matcher: str | None = None,
    seed: int = 0,
    progress: Progress = unheard,
) -> Faithfulness:
    """Blank regions of queries and score them again with the item they show.

    A region is blanked with the mean colour of its photo. Each way's region is compared with the mean of the other
    regions of the same size, which is what a random one of them gives on average. A matcher that compares the items of
    a shortlist with one another scores the item among those that the chain before it puts first, as in a search.

    Args:
        model: whose explanations are measured.
        gallery, queries: labelled images; each query is paired with the first gallery image of its product.
        pairs: at most so many, drawn by `seed`.
        matcher: that explains; None takes the one that has the last word in the model's chain.
        seed: of the draw.
        progress: hears how many photos of the gallery are encoded, where rivals are needed, and pairs done.

    Raises:
        ConfigError: the model has no such matcher, or it is not measured this way.
        DataError: no query's product is in the gallery, or a photo of the gallery cannot be read.
        InvalidImageError: an image cannot be read.
    """
    shown: dict[str, int] = {}
    for place, image in enumerate(gallery):
        shown.setdefault(image.product_id, place)
    known = [query for query in queries if query.product_id in shown]
    if not known:
        raise DataError("no query's product is in the gallery; both need the same product_id")
    asked = Asked(model, gallery, matcher or (model.chain[-1].matcher if model.chain else ""), progress)
    drawn = np.random.default_rng(seed).permutation(len(known))[:pairs]
    named: dict[str, list[float]] = {name: [] for name in asked.ways}
    others: dict[str, list[float]] = {name: [] for name in asked.ways}
    scores = []
    for done, place in enumerate(drawn.tolist(), start=1):
        score, drops, chosen = _one(asked, pixels_of(model, known[place]), shown[known[place].product_id])
        scores.append(score)
        for name, region in chosen.items():
            named[name].append(drops[region])
            others[name].append(float(np.mean([drops[other] for other in asked.siblings(region) if other != region])))
        progress("blanking regions", done, len(drawn))
    return Faithfulness(
        asked.matcher.name,
        asked.ways,
        {name: np.asarray(values) for name, values in named.items()},
        {name: np.asarray(values) for name, values in others.items()},
        np.asarray(scores),
    )


def pixels_of(model: Model, image: LabelledImage) -> NDArray[np.uint8]:
    """(S, S, 3) as the model is given them."""
    return load_image(image.path.read_bytes(), image_px=model.image_px, framing=model.framing, box=image.box)[0].pixels


class Asked:
    """The matcher whose explanations are measured, and a gallery to find items in.

    Args:
        model: its.
        gallery: encoded as a whole where an item's score depends on its rivals.
        name: of the matcher.
        progress: hears how many photos are encoded.

    Attributes:
        ways: to name a region, and their words.

    Raises:
        ConfigError: the model has no such matcher, or it is not measured this way.
    """

    def __init__(self, model: Model, gallery: Sequence[LabelledImage], name: str, progress: Progress = unheard) -> None:
        found = as_explaining(named(model.matchers, name))
        if found is None or name not in WAYS:
            raise ConfigError(f"explanations of {name!r} are not measured; take one of {', '.join(WAYS)}")
        self.model, self.matcher, self._gallery = model, found, gallery
        self._boxes = np.rint(found.region_boxes() * model.image_px).astype(int)
        self.ways = WAYS[name]
        self._sizes = scale_spans(model.config.grids) if self.ways is PAIRS else [(0, len(self._boxes))]
        self._shop: EncodedSet | None = None
        if not found.pointwise:
            self._shop = encode_images(model, gallery, progress=progress).as_kept(model.features)

    def given(self, photo: Photo, place: int) -> tuple[Items, int]:
        """The items that are scored with a photo, and where among them the one at a place of the gallery is."""
        if self._shop is None:
            return self.model.encode(pixels_of(self.model, self._gallery[place])[None]), 0
        order = np.argsort(-(self._shop.embeddings @ photo[EMBEDDING]), kind="stable")
        scored = QueryScores(self._shop, photo, order)
        places, _ = scored.last_stage(chain_of(self.model), min(CANDIDATES, len(order)), 0)
        first = order[places]
        if place not in first:  # then a search does not get as far as to score it; it takes the last one's part
            first[-1] = place
        return self._shop.items(first, self.matcher.needs), int(np.flatnonzero(first == place)[0])

    def score(self, photo: Photo, items: Items, at: int) -> float:
        """Of one of the items."""
        [scores] = self.matcher.score_many([photo], [items])
        return float(scores[at])

    def chosen(self, pixels: NDArray[np.uint8], photo: Photo, items: Items, at: int) -> dict[str, int]:
        """The region that each way names."""
        told = self.matcher.evidence(photo, items, top=TOP)[at]
        found = {AFTER: told.after[0].query_region, BEFORE: told.before[0].query_region}
        if not isinstance(self.matcher, GRNetMatcher):
            return {**found, MIDDLE: self._middle()}
        cam = self.matcher.grad_cam(pixels, as_photo(items, at), side="query")
        return {
            **found,
            EDGE_AFTER: _by_edge(told.after),
            EDGE_BEFORE: _by_edge(told.before),
            GRADCAM: max(self.siblings(found[AFTER]), key=lambda region: self._mean_in(cam, region)),
        }

    def siblings(self, region: int) -> list[int]:
        """The regions of the same scale, itself included: they have the same size, but for rounding."""
        return next(list(range(start, end)) for start, end in self._sizes if start <= region < end)

    def blank(self, pixels: NDArray[np.uint8], region: int) -> NDArray[np.uint8]:
        """(S, S, 3) with one region in the mean colour of the whole."""
        x0, y0, x1, y1 = self._boxes[region]
        out = pixels.copy()
        out[y0:y1, x0:x1] = np.rint(pixels.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
        return out

    def _middle(self) -> int:
        centres = (self._boxes[:, :2] + self._boxes[:, 2:]) / 2
        return int(np.square(centres - self.model.image_px / 2).sum(axis=1).argmin())

    def _mean_in(self, cam: NDArray[np.float32], region: int) -> float:
        rows, columns = cam.shape
        box = self.matcher.region_boxes()[region] * (columns, rows, columns, rows)
        x0, y0, x1, y1 = np.rint(box).astype(int)
        return float(cam[y0:y1, x0:x1].mean())


def _by_edge(pairs: Sequence[Evidence]) -> int:
    return max(pairs, key=lambda pair: pair.edge).query_region


def _one(asked: Asked, pixels: NDArray[np.uint8], place: int) -> tuple[float, dict[int, float], dict[str, int]]:
    """The score of a pair, its drop for every region that is compared, and the region that each way names."""
    model = asked.model
    photo = {name: values[0] for name, values in model.encode(pixels[None]).items()}
    items, at = asked.given(photo, place)
    score, chosen = asked.score(photo, items, at), asked.chosen(pixels, photo, items, at)
    compared = sorted({sibling for region in chosen.values() for sibling in asked.siblings(region)})
    drops = {}
    for start in range(0, len(compared), _BATCH):
        regions = compared[start : start + _BATCH]
        blanked = model.encode(np.stack([asked.blank(pixels, region) for region in regions]))
        for n, region in enumerate(regions):
            drops[region] = score - asked.score({name: values[n] for name, values in blanked.items()}, items, at)
    return score, drops, chosen


def markdown(result: dict[str, Any]) -> str:
    """The report as a table."""
    lines = [
        "| region named by | drop, named | drop, random | difference, 95 % | named drops more |",
        "|---|---|---|---|---|",
    ]
    for figures in result["methods"].values():
        gain = figures["gain"]
        lines.append(
            f"| {figures['way']} | {figures['drop_named']:.2f} | {figures['drop_random']:.2f} "
            f"| {gain['mean']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}] "
            f"| {100 * figures['named_drops_more']:.0f} % |"
        )
    return "\n".join(lines) + "\n"
