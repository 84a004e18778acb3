"""A model calibrated again on a shop's own pairs: the same weights, other probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import Calibration
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.errors import DataError
from threadmatch.model.evaluate.calibration import (
    MIN_OF_EACH,
    ScoredQueries,
    calibrate,
    expected_calibration_error,
    held_out_error,
    no_match_rates,
    reliability,
)
from threadmatch.model.evaluate.evaluation import EvaluationSettings, rank
from threadmatch.model.evaluate.provenance import provenance
from threadmatch.model.grnet import load_checkpoint
from threadmatch.model.inference import Model, load_model, model_folder
from threadmatch.model.progress import Progress, unheard


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
    progress: Progress = unheard,
) -> dict[str, Any]:
    """Fit a model's calibration on labelled pairs and save it.

    Args:
        name: as `load_model` takes it.
        gallery, queries: best the shop's own gallery, or as large a part of it as has labelled queries.
        out: folder for the new checkpoint and calibration.json; made if missing.
        candidates, max_false_reject: as `ScoredQueries` and `calibrate` say.
        device: "auto", "cpu" or "cuda".
        cache: folder for features; None keeps nothing.
        progress: hears how many photos are encoded and how many queries are ranked.

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
    network = load_checkpoint(model_folder(name))
    network.calibration = calibrate(scored, max_false_reject=max_false_reject)
    prints = save_checkpoint(network, out)
    report = {
        "checkpoint": str(out),
        "fingerprint": prints.model,
        "features_fingerprint": prints.features,
        "gallery": len(gallery),
        "queries": len(queries),
        **_compared(model, network.calibration, scored),
        "provenance": provenance(),
    }
    (out / "calibration.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _compared(model: Model, fitted: Calibration, scored: ScoredQueries) -> dict[str, Any]:
    """The model's own calibration and the new one on these pairs, the new one on held-out folds."""
    scores, same = scored.first_pages()
    stated = model.probability(scores, items=scored.gallery_items)
    rates = no_match_rates(model.calibration, scored, items=scored.gallery_items)
    before = {
        **model.calibration.to_dict(),
        "ece": expected_calibration_error(stated, same),
        "false_accept": rates.false_accept,
        "false_reject": rates.false_reject,
    }
    after = {**fitted.to_dict(), "ece_held_out": held_out_error(scored)}
    return {"before": before, "after": after, "bins_before": reliability(stated, same)}
