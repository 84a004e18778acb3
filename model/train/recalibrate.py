"""A model calibrated again on a shop's own pairs: the same weights, other probabilities."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from model.checkpoint import load_checkpoint, save_checkpoint
from model.data.pairs import LabelledImage
from model.errors import DataError
from model.inference import load_model, model_folder
from model.train.calibration import (
    MIN_OF_EACH,
    calibrate,
    expected_calibration_error,
    held_out_error,
    no_match_rates,
    reliability,
)
from model.train.evaluation import EvaluationSettings, rank
from model.train.provenance import provenance

logger = logging.getLogger(__name__)


def recalibrate(
    name: str,
    gallery: Sequence[LabelledImage],
    queries: Sequence[LabelledImage],
    *,
    out: Path,
    candidates: int = 200,
    max_false_reject: float | None = None,
    device: str = "auto",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Fit a model's calibration on labelled pairs and save it.

    Args:
        name: as `load_model` takes it.
        gallery, queries: best the shop's own gallery, or as large a part of it as has labelled queries.
        out: folder for the new checkpoint and calibration.json; made if missing.
        candidates, max_false_reject: as `ScoredQueries` and `calibrate` say.
        device: "auto", "cpu" or "cuda".
        cache: folder for features; None keeps nothing.
        progress: called with queries done and all.

    Returns:
        What calibration.json says: "before" and "after", each measured on these pairs; "after" on held-out folds.

    Raises:
        CheckpointError: no such model. DataError: an image cannot be read, or too few pairs.
    """
    if (products := len({image.product_id for image in queries})) < MIN_OF_EACH:
        raise DataError(f"the queries show {products} products; a calibration needs at least {MIN_OF_EACH}")
    model = load_model(name, device=device)
    settings = EvaluationSettings(methods=("grnet",), candidates=candidates, exhaustive=False, cache=cache)
    scored = rank(model, gallery, queries, settings=settings, progress=progress).scored
    assert scored is not None, "grnet was among the methods"
    fitted = calibrate(scored, max_false_reject=max_false_reject)
    network = load_checkpoint(model_folder(name))
    old = network.calibration
    network.calibration = fitted
    prints = save_checkpoint(network, out)
    scores, same = scored.first_pages()
    stated = model.probability(scores, items=len(gallery))
    rates = no_match_rates(old, scored, items=len(gallery))
    report = {
        "checkpoint": str(out),
        "fingerprint": prints.model,
        "features_fingerprint": prints.features,
        "gallery": len(gallery),
        "queries": len(queries),
        "before": {
            **old.to_dict(),
            "ece": expected_calibration_error(stated, same),
            "false_accept": rates.false_accept,
            "false_reject": rates.false_reject,
        },
        "after": {**fitted.to_dict(), "ece_held_out": held_out_error(scored)},
        "bins_before": reliability(stated, same),
        "provenance": provenance(),
    }
    (out / "calibration.json").write_text(json.dumps(report, indent=2) + "\n")
    return report
