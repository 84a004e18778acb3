"""What a detector's boxes are worth: overlap with the true ones, and top-1 when they are searched.

Letters  n queries, m gallery images
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.detection.proposals import Detector
from threadmatch.model.errors import DataError
from threadmatch.model.evaluate.metrics import paired_gain
from threadmatch.model.features import Features
from threadmatch.model.images import Box, DecodedImage, decode_image, prepare_for
from threadmatch.model.inference import Model

CROPS: Final = ("given", "whole", "proposed")
BATCH: Final = 16


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0..1."""
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    both = max(0.0, across) * max(0.0, down)
    return both / (one.width * one.height + other.width * other.height - both)


def measure_boxes(
    model: Model,
    detector: Detector,
    gallery: Sequence[LabelledImage],
    queries: Sequence[LabelledImage],
    *,
    most: tuple[int, int] = (100, 300),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Search each query by its given box, as a whole, and by the surest proposal (as a whole where there is none).

    Args:
        model: ranks the gallery by its second stage, without a shortlist.
        detector: proposes.
        gallery, queries: labelled images; only queries with a box count.
        most: queries and gallery images at most, drawn by `seed`; the queries' own products stay in the gallery.
        seed: of the draw.
        progress: called with queries done and all.

    Raises:
        DataError: no query has a box, or none of their products is in the gallery.
        InvalidImageError: an image cannot be read.
    """
    rng = np.random.default_rng(seed)
    products = {image.product_id for image in gallery}
    usable = [query for query in queries if query.box is not None and query.product_id in products]
    if not usable:
        raise DataError("no query has both a box and its product in the gallery; there is nothing to measure")
    asked = [usable[place] for place in rng.permutation(len(usable))[: most[0]]]
    wanted = {query.product_id for query in asked}
    shown = [image for image in gallery if image.product_id in wanted]
    rest = [image for image in gallery if image.product_id not in wanted]
    shown += [rest[place] for place in rng.permutation(len(rest))[: max(0, most[1] - len(shown))]]
    shop = _encode(model, [_crop(model, *_read(image)) for image in shown])
    overlaps: dict[str, list[float]] = {name: [] for name in CROPS[1:]}
    hits: dict[str, list[float]] = {name: [] for name in CROPS}
    for done, query in enumerate(asked, start=1):
        image, given = _read(query)
        boxes = {"given": given, "whole": _whole(image), "proposed": _proposed(detector, image)}
        for name in CROPS[1:]:
            overlaps[name].append(overlap(given, boxes[name]))
        found = _encode(model, [_crop(model, image, boxes[name]) for name in CROPS])
        for place, name in enumerate(CROPS):
            photo = {feature: values[place] for feature, values in found.items()}
            best = int(model.score(photo, shop).argmax())
            hits[name].append(float(shown[best].product_id == query.product_id))
        if progress is not None:
            progress(done, len(asked))
    return _report(overlaps, hits, detector.name, len(shown), seed)


def _report(
    overlaps: dict[str, list[float]], hits: dict[str, list[float]], detector: str, gallery: int, seed: int
) -> dict[str, Any]:
    values = {name: np.asarray(each) for name, each in overlaps.items()}
    right = {name: np.asarray(each) for name, each in hits.items()}
    return {
        "detector": detector,
        "queries": len(right["given"]),
        "gallery": gallery,
        "seed": seed,
        "overlap": {
            name: {"mean": float(each.mean()), "half_or_more": float((each >= 0.5).mean())}
            for name, each in values.items()
        },
        "overlap_gain": asdict(paired_gain(values["whole"], values["proposed"])),
        "top1": {name: float(each.mean()) for name, each in right.items()},
        "top1_gain": asdict(paired_gain(right["whole"], right["proposed"])),
    }


def _read(image: LabelledImage) -> tuple[DecodedImage, Box]:
    decoded = decode_image(image.path.read_bytes(), long_side_hint_px=1024)
    return decoded, image.box or _whole(decoded)


def _whole(image: DecodedImage) -> Box:
    return Box(0, 0, image.width, image.height)


def _proposed(detector: Detector, image: DecodedImage) -> Box:
    found = detector.detect(image.pixels)
    if not found:
        return _whole(image)
    box = found[0].box
    return Box(box.x0 * image.width, box.y0 * image.height, box.x1 * image.width, box.y1 * image.height)


def _crop(model: Model, image: DecodedImage, box: Box) -> NDArray[np.uint8]:
    return prepare_for(model, image, box).pixels


def _encode(model: Model, pixels: Sequence[NDArray[np.uint8]]) -> Features:
    parts = [model.encode(np.stack(pixels[start : start + BATCH])) for start in range(0, len(pixels), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def markdown(result: dict[str, Any]) -> str:
    """The report as a table."""
    lines = ["| searched | overlap with the true box | 0.5 or more | top-1 |", "|---|---|---|---|"]
    for name in CROPS:
        seen = result["overlap"].get(name, {"mean": 1.0, "half_or_more": 1.0})
        lines.append(
            f"| {name} | {seen['mean']:.2f} | {100 * seen['half_or_more']:.0f} % | {100 * result['top1'][name]:.1f} |"
        )
    gain = result["top1_gain"]
    lines += [
        "",
        f"Proposed against whole, top-1: {100 * gain['mean']:+.1f} points "
        f"[{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}], paired bootstrap 95 %.",
    ]
    return "\n".join(lines) + "\n"
