"""An evaluation as files: JSON, a Markdown table, TREC run and qrels files, and each query's rank as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from threadmatch.model.evaluate.ranking import Rankings
from threadmatch.model.evaluate.verdict import SMALL_GROUP, verdict

COLUMNS = ("top1", "top5", "top20", "top50", "mrr")
HEADER = "| queries | method | n | top-1 | top-5 | top-20 | top-50 | MRR |\n|---|---|---|---|---|---|---|---|"


def markdown(result: dict[str, Any]) -> str:
    """The report for people: the verdict, one small table, then groups, small ones in one."""
    whole = {"queries": result["queries"], **result["methods"]}
    lines = [*(f"- {sentence}" for sentence in verdict(result)), "", HEADER, *_rows("all", whole, result)]
    groups = folded({**result["by_setup"], **result["by_category"]})
    if groups:
        lines += ["", HEADER, *(row for group, own in groups.items() for row in _rows(group, own, result))]
    recall = ", ".join(f"{percent(value)} at {k}" for k, value in result["shortlist_recall"].items())
    lines += ["", f"Shortlist recall in per cent: {recall}; {result['candidates']} are reranked.", ""]
    for baseline, gain in result.get("gain_over", {}).items():
        lines.append(f"- Gain of grnet over {baseline}, top-1: {interval(gain['top1'])}, MRR: {interval(gain['mrr'])}")
    if result.get("gain_over"):
        lines += ["", "In points, with paired bootstrap 95 % intervals.", ""]
    if calibration := result.get("calibration"):
        lines.append(f"- Expected calibration error of the first-page probabilities: {calibration['ece']:.4f}")
    if (no_match := result.get("no_match")) is not None and no_match["threshold"] is not None:
        right = no_match.get("false_reject_right")
        of_right = "" if right is None else f" ({percent(right)} % of those of them whose first match is right)"
        lines.append(
            f"- No match below {no_match['threshold']:.3f}: said of {percent(no_match['false_reject'])} % of the "
            f"queries whose product is there{of_right}, not said of {percent(no_match['false_accept'])} % once it is "
            "taken out"
        )
    return "\n".join(lines).rstrip() + "\n"


def folded(groups: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Groups of few queries as one, since their rates say little each.

    Args:
        groups: {label: {"queries", method: rates, ...}} of a report.

    Returns:
        The large ones as they are, and the others together, their rates weighed by their queries. All as they are where
        none is large.
    """
    kept = {label: own for label, own in groups.items() if own["queries"] >= SMALL_GROUP}
    small = [own for label, own in groups.items() if label not in kept]
    if len(small) < 2 or not kept:
        return dict(groups)
    total = sum(own["queries"] for own in small)
    together: dict[str, Any] = {"queries": total}
    measured = [name for name, own in small[0].items() if isinstance(own, dict) and isinstance(own.get("mrr"), float)]
    for method in measured:
        together[method] = {key: sum(own["queries"] * own[method][key] for own in small) / total for key in COLUMNS}
    return {**kept, f"{len(small)} groups of fewer than {SMALL_GROUP}": together}


def _rows(group: str, own: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    for name in result["methods"]:
        if name in own:
            cells = " | ".join(percent(own[name][key]) for key in COLUMNS)
            yield f"| {group} | {name} | {own['queries']} | {cells} |"


def percent(rate: float) -> str:
    """0..1 as per cent with one digit."""
    return f"{100 * rate:.1f}"


def interval(gain: dict[str, float]) -> str:
    """Points with their interval."""
    return f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


def write_trec(rankings: Rankings, method: str, folder: Path, *, depth: int = 100) -> None:
    """METHOD.run.trec and qrels.trec, so that trec_eval or ranx can check the figures.

    Query n is q<n> and gallery position i is g<i>, counted from 0 in the order of the CSV files. Scores fall with the
    rank, so ties are settled as they were here. A reader that drops queries without an answer has higher rates.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{method}.run.trec").open("w") as file:
        for n, order in enumerate(rankings.orders[method]):
            shown = order[:depth]
            for place, position in enumerate(shown):
                file.write(f"q{n} Q0 g{position} {place + 1} {len(shown) - place} {method}\n")
    where: dict[str, list[int]] = {}
    for position, image in enumerate(rankings.gallery):
        where.setdefault(image.product_id, []).append(position)
    with (folder / "qrels.trec").open("w") as file:
        for n, image in enumerate(rankings.queries):
            for position in where.get(image.product_id, []):
                file.write(f"q{n} 0 g{position} 1\n")


def write_ranks(rankings: Rankings, path: Path) -> None:
    """Each query's rank by each method, from 1; 0 where its product is not in the gallery."""
    methods = {name: rankings.ranks(name) for name in rankings.orders}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "image", "product_id", "setup", "category", *methods])
        for n, image in enumerate(rankings.queries):
            own = [int(ranks[n]) for ranks in methods.values()]
            writer.writerow([f"q{n}", image.id, image.product_id, image.setup, image.category, *own])


def write_json(result: dict[str, Any], path: Path) -> None:
    """Aside, then renamed: a reader never sees half a report."""
    staged = path.with_name(f".{path.name}.partial")
    staged.write_text(json.dumps(result, indent=2) + "\n")
    staged.replace(path)
