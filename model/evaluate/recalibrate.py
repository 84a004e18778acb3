"""A model calibrated again on a shop's own pairs: the same weights, other probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.certainty import Certainty, probability
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import Calibration
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.errors import DataError
from threadmatch.model.evaluate.calibration import (
    CALIBRATION_DEPTH,
    FOLDS,
    MIN_OF_EACH,
    ScoredQueries,
    calibrate,
    expected_calibration_error,
    held_out_error,
    no_match_rates,
    reliability,
)
from threadmatch.model.evaluate.certainty_fit import WRONGLY_SAID, fit_certainty, how_often_said
from threadmatch.model.evaluate.evaluation import EvaluationSettings, rank
from threadmatch.model.evaluate.provenance import provenance
from threadmatch.model.evaluate.ranking import JudgedQuery
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model, load_model, model_folder
from threadmatch.model.matching import Matcher
from threadmatch.model.progress import Progress, unheard

RATES: Final = ("false_reject", "false_reject_right", "false_accept")
"""Of "no match"; like the error, told of searches that the fit did not see."""


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
        What calibration.json says: "before" and "after", each measured on these pairs; "after" on held-out folds;
        "before" is None of a model that stated no probabilities.

    Raises:
        CheckpointError: no such model. DataError: an image cannot be read, too few pairs, or a model whose chain ends
            in scores that nothing can be fitted to.
    """
    if (products := len({image.product_id for image in queries})) < MIN_OF_EACH:
        raise DataError(f"the queries show {products} products; a calibration needs at least {MIN_OF_EACH}")
    model = load_model(name, device=device)
    matcher = _last(model)
    settings = EvaluationSettings(methods=("grnet",), candidates=candidates, exhaustive=False, cache=cache)
    rankings = rank(model, gallery, queries, settings=settings, progress=progress)
    network = load_checkpoint(model_folder(name))
    if rankings.judged:
        compared = _sure(network, rankings.judged, max_false_reject)
    else:
        assert rankings.scored is not None, "grnet was among the methods"
        network.calibration = calibrate(rankings.scored, max_false_reject=max_false_reject)
        compared = _compared(model if matcher.calibrated else None, network.calibration, rankings.scored)
    prints = save_checkpoint(network, out)
    report = {
        "checkpoint": str(out),
        "fingerprint": prints.model,
        "features_fingerprint": prints.features,
        "gallery": len(gallery),
        "queries": len(queries),
        **compared,
        "provenance": provenance(),
    }
    (out / "calibration.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _last(model: Model) -> Matcher:
    """The matcher that has the last word, where probabilities can be fitted to its scores; DataError where not."""
    matcher = model.matchers[model.chain[-1].matcher]
    if not (matcher.calibrated or matcher.pointwise):
        raise DataError(
            f"the chain of {model.name} ends in {matcher.name!r}, whose scores depend on the rest of the shortlist; "
            "train GRNet's head on top (a recipe with start, for `threadmatch train`)"
        )
    return matcher


def _sure(network: GRNet, judged: Sequence[JudgedQuery], max_false_reject: float | None) -> dict[str, Any]:
    """Fit the certainty of a chain anew and set it; before on these pairs, after on held-out folds of them."""
    wrongly = WRONGLY_SAID if max_false_reject is None else max_false_reject
    before = network.certainty
    assert before is not None, "only a chain with a certainty is judged"
    searches = [one.search for one in judged]
    network.certainty = fit_certainty(searches, wrongly_said=wrongly)
    stated, same, said = np.zeros(0, np.float32), np.zeros(0, bool), []
    for fold in range(FOLDS):
        held = searches[fold::FOLDS]
        rest = [search for place, search in enumerate(searches) if place % FOLDS != fold]
        fitted = fit_certainty(rest, wrongly_said=wrongly)
        said.append(_said(fitted, judged[fold::FOLDS]))
        stated = np.concatenate([stated, *(probability(fitted, search.values[:CALIBRATION_DEPTH]) for search in held)])
        same = np.concatenate([same, *(search.same[:CALIBRATION_DEPTH] for search in held)])
    return {
        "before": {**_said(before, judged), "ece": expected_calibration_error(*_stated(judged))},
        "after": {
            **_said(network.certainty, judged),
            **{name: float(np.mean([one[name] for one in said])) for name in RATES},  # folds are alike in size
            "ece_held_out": expected_calibration_error(stated, same),
        },
        "bins_before": reliability(*_stated(judged)),
    }


def _stated(judged: Sequence[JudgedQuery]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return np.concatenate([one.probabilities for one in judged]), np.concatenate([one.same for one in judged])


def _said(certainty: Certainty, judged: Sequence[JudgedQuery]) -> dict[str, Any]:
    there = [one.search for one in judged if one.present]
    said = how_often_said(certainty, there, [one.search_without for one in judged])
    return {
        **certainty.to_dict(),
        "no_match_below": certainty.threshold,
        "false_reject": said.present,
        "false_reject_right": said.right,
        "false_accept": 1 - said.absent,
    }


def _compared(model: Model | None, fitted: Calibration, scored: ScoredQueries) -> dict[str, Any]:
    """The model's own calibration, where it has one, and the new one on these pairs, the new one on held-out folds."""
    after = {**fitted.to_dict(), "ece_held_out": held_out_error(scored)}
    if model is None:
        return {"before": None, "after": after, "bins_before": []}
    scores, same = scored.first_pages()
    stated = model.probability(scores, items=scored.gallery_items)
    rates = no_match_rates(model.calibration, scored, items=scored.gallery_items)
    before = {
        **model.calibration.to_dict(),
        "ece": expected_calibration_error(stated, same),
        "false_accept": rates.false_accept,
        "false_reject": rates.false_reject,
    }
    return {"before": before, "after": after, "bins_before": reliability(stated, same)}
