"""MAP of a model's attributes on labelled photos, beside its plain embedding and beside other models' attributes.

Letters  n photos, A attributes, V values
Paper    Ma et al., AAAI 2020 (ASEN): MAP; see `attribute_precision`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.coded import floats
from threadmatch.model.data.attribute_labels import AttributeSet
from threadmatch.model.data.encoded import EncodedSet, encode_images
from threadmatch.model.errors import DataError
from threadmatch.model.evaluate.attribute_precision import (
    mean_precision,
    precision_gain,
    precisions,
    sides,
    triplet_accuracy,
)
from threadmatch.model.evaluate.metrics import Interval
from threadmatch.model.features import ATTRIBUTES
from threadmatch.model.inference import Model
from threadmatch.model.progress import Progress, unheard

PLAIN: Final = "embedding"
"""What a report calls the vector of stage one, the same whatever attribute is asked for."""

Found = Mapping[str, NDArray[np.float64]]
"""By attribute the average precision of each photo that asks."""


def evaluate_attributes(
    models: Mapping[str, Model],
    photos: AttributeSet,
    *,
    cache: Path | None = None,
    triplets: Mapping[str, NDArray[np.int64]] | None = None,
    progress: Progress = unheard,
) -> dict[str, Any]:
    """Measure models on the attributes that they and the photos have.

    Args:
        models: by name; the first one's embedding is the plain method.
        photos: labelled.
        cache: folder for encoded photos.
        triplets: judged ones by attribute, (T, 3) positions of anchor, near and far.
        progress: hears of encoding.

    Returns:
        Plain JSON types: photos, queries and candidates; map (method, then attribute, `all` and `mean`), gains of every
        method over the plain one and over the first model, with intervals; by_setup; accuracy of predicted values; of
        triplets, if any.

    Raises:
        DataError: a model has no attributes, or no attribute is both known to all models and labelled.
    """
    encoded = {
        name: encode_images(model, photos.images, cache=cache, progress=progress) for name, model in models.items()
    }
    for name, model in models.items():
        if model.attributes is None:
            raise DataError(f"model {name!r} has no attributes; train them with `threadmatch train-attributes`")
    names = _common(models, photos)
    marks = [photos.marks(name, photos.vocabulary(name)) for name in names]
    vectors: dict[str, NDArray[np.float32]] = {PLAIN: next(iter(encoded.values())).embeddings}
    vectors |= {name: _chosen(model, encoded[name], names) for name, model in models.items()}
    found = {method: precisions(own, photos, marks, names) for method, own in vectors.items()}
    asks, answers = sides(photos)
    report: dict[str, Any] = {
        "photos": len(photos.images),
        "queries": len(asks),
        "candidates": len(answers),
        "attributes": list(names),
        "values": {name: len(photos.vocabulary(name)) for name in names},
        "map": {method: mean_precision(own) for method, own in found.items()},
        "gains": _gains(found, np.array([photos.images[n].product_id for n in asks]), list(vectors)),
        "by_setup": _by_setup(found, np.array([photos.images[n].setup or "shop" for n in asks])),
        "values_right": {name: _values_right(model, encoded[name], photos) for name, model in models.items()},
    }
    if triplets is not None:
        report["triplet_accuracy"] = {
            method: _triplets(own, triplets, names) for method, own in vectors.items() if own.ndim == 3
        }
    return report


def _common(models: Mapping[str, Model], photos: AttributeSet) -> tuple[str, ...]:
    known = [set(model.attributes.names) for model in models.values() if model.attributes is not None]
    names = tuple(name for name in photos.values if all(name in own for own in known) and len(photos.known(name)))
    if not names:
        raise DataError(
            f"the photos are labelled with {', '.join(photos.values)}, the models know "
            f"{', '.join(sorted(set().union(*known)))}: nothing in common"
        )
    return names


def _chosen(model: Model, encoded: EncodedSet, names: Sequence[str]) -> NDArray[np.float32]:
    """(n, len(names), D) of a model's embeddings."""
    assert model.attributes is not None, "checked before"
    at = [model.attributes.names.index(name) for name in names]
    return np.asarray(floats(encoded.features[ATTRIBUTES])[:, at], np.float32)


def _gains(found: Mapping[str, Found], products: NDArray[np.str_], methods: Sequence[str]) -> dict[str, Any]:
    plain, first, *others = methods
    pairs = [(plain, method) for method in methods[1:]] + [(other, first) for other in others]
    gains = {}
    for baseline, method in pairs:
        gain: Interval = precision_gain(found[baseline], found[method], products)
        gains[f"{method} over {baseline}"] = {"mean": gain.mean, "low": gain.low, "high": gain.high}
    return gains


def _by_setup(found: Mapping[str, Found], setups: NDArray[np.str_]) -> dict[str, dict[str, float]]:
    kinds = sorted(set(setups.tolist()))
    if len(kinds) < 2:
        return {}
    return {
        setup: {
            method: mean_precision({name: own[setups == setup] for name, own in by_name.items()}).get(
                "mean", float("nan")
            )
            for method, by_name in found.items()
        }
        for setup in kinds
    }


def _values_right(model: Model, encoded: EncodedSet, photos: AttributeSet) -> dict[str, dict[str, float]]:
    """How often the predicted value is one that the photo has, and how probable it was said to be."""
    assert model.attributes is not None, "checked before"
    predicted = model.attributes.predict(np.asarray(encoded.features[ATTRIBUTES], np.float32))
    right: dict[str, dict[str, float]] = {}
    for attribute in model.attributes.attributes:
        own = photos.values.get(attribute.name, [])
        told = [
            (said[attribute.name].value in values, said[attribute.name].probability)
            for said, values in zip(predicted, own, strict=False)
            if attribute.values and set(values) & set(attribute.values)
        ]
        if told:
            hits, sure = np.array(told, np.float64).T
            right[attribute.name] = {"photos": len(told), "right": float(hits.mean()), "said": float(sure.mean())}
    return right


def _triplets(
    vectors: NDArray[np.float32], triplets: Mapping[str, NDArray[np.int64]], names: Sequence[str]
) -> dict[str, float]:
    by_name = {
        name: (triplet_accuracy(*(vectors[rows[:, side], names.index(name)] for side in range(3))), len(rows))
        for name, rows in triplets.items()
        if name in names
    }
    total = sum(count for _, count in by_name.values())
    every = sum(share * count for share, count in by_name.values()) / max(1, total)
    return {**{name: share for name, (share, _) in by_name.items()}, "all": every}


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """The report as a Markdown table: a row an attribute, a column a method, in per cent."""
    methods = list(report["map"])
    lines = [
        f"{report['queries']} photos ask {report['candidates']}; MAP in per cent, whole lists, own garment left out.",
        "",
        f"| attribute | values | {' | '.join(methods)} |",
        f"|---|---|{'---|' * len(methods)}",
    ]
    for name in (*report["attributes"], "all", "mean"):
        cells = [f"{100 * report['map'][method].get(name, float('nan')):.1f}" for method in methods]
        lines.append(f"| {name} | {report['values'].get(name, '')} | {' | '.join(cells)} |")
    lines.append("")
    lines += [
        f"- {what}: {100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
        for what, gain in report["gains"].items()
    ]
    return lines
