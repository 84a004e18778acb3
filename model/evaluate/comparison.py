"""Several models on the same gallery and queries, side by side: how often they are right, how fast, how large.

Letters  n queries
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from threadmatch.model.chain import STAGE_ONE
from threadmatch.model.evaluate.evaluation import compare
from threadmatch.model.evaluate.latency import Latency
from threadmatch.model.evaluate.ranking import FINAL, Rankings
from threadmatch.model.evaluate.report import interval, percent
from threadmatch.model.inference import Model

Measured = Mapping[str, tuple[dict[str, Any], Rankings]]
"""Report and rankings by model's name."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One model beside the first.

    Fields:
        model: its name.
        method: whose rates these are: the chain where it was measured, else stage one.
        top1, top5, mrr: 0..1.
        gain: of top1 and mrr over the first model, with paired 95 % intervals; None for the first.
        encode_ms: of a photo, a median, the models by turns.
        rank_ms: of one search among `items` items.
        items: that were ranked.
        item_bytes: of an item's features in a gallery.
    """

    model: str
    method: str
    top1: float
    top5: float
    mrr: float
    gain: dict[str, dict[str, float]] | None
    encode_ms: float
    rank_ms: float
    items: int
    item_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def compare_models(measured: Measured, models: Sequence[Model], latency: Mapping[str, Latency]) -> list[Compared]:
    """The models side by side.

    Args:
        measured: on the same gallery and queries, by the same methods.
        models: in the same order.
        latency: of each.
    """
    (_, first), *_ = measured.values()
    method = FINAL if FINAL in first.orders else STAGE_ONE
    rows = []
    for (name, (report, rankings)), model in zip(measured.items(), models, strict=True):
        rates, took = report["methods"][method], latency[name]
        gain = None if rankings is first else compare(first, rankings, method)
        rows.append(
            Compared(
                model=name,
                method=method,
                top1=rates["top1"],
                top5=rates["top5"],
                mrr=rates["mrr"],
                gain=None if gain is None else {rate: gain[rate] for rate in ("top1", "mrr")},
                encode_ms=round(took.encode_ms, 3),
                rank_ms=round(took.rank_ms, 3),
                items=took.items,
                item_bytes=sum(spec.size_bytes for spec in model.features),
            )
        )
    return rows


def comparison_header(rows: Sequence[Compared]) -> tuple[str, ...]:
    """Names of the columns of `comparison_cells`."""
    over = f"against {rows[0].model}"
    ranking = f"ms to rank {rows[0].items}"
    return ("model", "top-1", "top-5", "MRR", f"top-1 {over}", f"MRR {over}", "ms a photo", ranking, "bytes an item")


def comparison_cells(rows: Sequence[Compared]) -> Iterator[tuple[str, ...]]:
    """A row of words for each model: rates in per cent, gains in points."""
    for row in rows:
        gains = ("", "") if row.gain is None else (interval(row.gain["top1"]), interval(row.gain["mrr"]))
        rates = (percent(row.top1), percent(row.top5), percent(row.mrr))
        yield (row.model, *rates, *gains, f"{row.encode_ms:.1f}", f"{row.rank_ms:.1f}", str(row.item_bytes))


def comparison_verdict(rows: Sequence[Compared]) -> list[str]:
    """A sentence for each model beyond the first: whether it is better, worse, or chance cannot be told from it."""
    first = rows[0].model if rows else ""
    sentences = []
    for row in rows:
        if row.gain is None:
            continue
        top1 = row.gain["top1"]
        if top1["low"] > 0:
            judged = "it is better"
        elif top1["high"] < 0:
            judged = "it is worse"
        else:
            judged = "these queries cannot tell them apart, more might"
        sentences.append(f"{row.model} against {first}: right first {interval(top1)} points; {judged}.")
    return sentences


def comparison_table(rows: Sequence[Compared]) -> str:
    """The models as sentences and a Markdown table."""
    header = comparison_header(rows)
    lines = [header, ("---",) * len(header), *comparison_cells(rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    said = "\n".join(f"- {sentence}" for sentence in comparison_verdict(rows))
    what = "the whole chain" if rows[0].method == FINAL else "stage one"
    return (
        f"## Models side by side\n\n{said}\n\n{table}\n\nBy {what}; rates in per cent, gains in points with paired "
        "bootstrap 95 % intervals on the same queries; times are medians, the models by turns.\n"
    )
