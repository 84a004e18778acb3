"""What `threadmatch evaluate` does once it has models and data: measure each, join the reports, write the rankings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadmatch.service.cli.progress import Shown

if TYPE_CHECKING:
    from rich.console import Console

    from threadmatch.model.data.pairs import LabelledImage
    from threadmatch.model.evaluate.comparison import Compared
    from threadmatch.model.evaluate.evaluation import EvaluationSettings
    from threadmatch.model.evaluate.ranking import Rankings
    from threadmatch.model.inference import Model


def measure_models(
    models: list[Model],
    gallery: list[LabelledImage],
    queries: list[LabelledImage],
    settings: EvaluationSettings,
    console: Console,
) -> dict[str, tuple[dict[str, Any], Rankings]]:
    """Report and rankings by model; of two with one name the later goes by its fingerprint too."""
    from threadmatch.model.evaluate.evaluation import evaluate as measure

    measured: dict[str, tuple[dict[str, Any], Rankings]] = {}
    for model in models:
        with Shown(console) as show:
            found = measure(model, gallery, queries, settings=settings, progress=show)
        measured[f"{model.name}-{model.fingerprint}" if model.name in measured else model.name] = found
    return measured


def compared_models(
    models: list[Model],
    measured: dict[str, tuple[dict[str, Any], Rankings]],
    queries: list[LabelledImage],
    *,
    candidates: int,
    page: Path | None,
) -> list[Compared]:
    """Time the models, write the page if one is asked for, and set several models side by side; one makes no list."""
    from threadmatch.model.evaluate.comparison import compare_models
    from threadmatch.model.evaluate.latency import measure_latency
    from threadmatch.model.evaluate.provenance import command_line
    from threadmatch.model.evaluate.report_page import write_page

    if page is None and len(models) == 1:
        return []
    latency = measure_latency(dict(zip(measured, models, strict=True)), queries, candidates=candidates)
    compared = compare_models(measured, models, latency) if len(models) > 1 else []
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_page(measured, page, latency=latency, command=command_line(), compared=compared)
    return compared


def joined(measured: dict[str, tuple[dict[str, Any], Rankings]], compared: Sequence[Compared] = ()) -> dict[str, Any]:
    """One model's report; further ones stand in it by name, each with its gain over the first, and all side by side."""
    from threadmatch.model.evaluate.evaluation import compare
    from threadmatch.model.evaluate.provenance import provenance
    from threadmatch.model.evaluate.ranking import FINAL

    (first, (result, rankings)), *others = measured.items()
    joined: dict[str, Any] = {**result, "provenance": provenance()}
    if others:
        joined["models"] = {name: own for name, (own, _) in measured.items()}
        joined["gain_over_first"] = {
            name: compare(rankings, own, FINAL if FINAL in own.orders else "global") for name, (_, own) in others
        }
        joined["first"] = first
    if compared:
        joined["comparison"] = [row.to_dict() for row in compared]
    return joined


def write_rankings(rankings: dict[str, Rankings], folder: Path, depth: int) -> None:
    """Each model's ranks.csv and, `depth` deep, its TREC files, in a folder of its own; 0 leaves these out."""
    from threadmatch.model.evaluate.report import write_ranks, write_trec

    for name, own in rankings.items():
        below = folder / name.replace("/", "_")
        write_ranks(own, below / "ranks.csv")
        for method in own.orders if depth else ():
            write_trec(own, method, below, depth=depth)
