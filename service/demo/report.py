"""What the demo prints: each query's first matches with both ranks, and the sum of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from threadmatch.service.demo.asking import Outcome
from threadmatch.service.http.schemas.search import MAX_TOP_K

SHOWN: Final = 3
NUMBERS: Final = {"": 3, "rank": 4, "was": 4, "score": 6, "prob.": 5, "dist.": 5}
"""Columns of figures and their widths: a narrow terminal shortens names, not figures."""


def show_outcome(console: Console, number: int, outcome: Outcome) -> None:
    """One query: where the right item stood, the first matches, the time of each stage."""
    query, answer = outcome.query, outcome.answer
    moved = f"{rank_text(outcome.before)} -> {rank_text(outcome.after)}"
    head = Text.assemble(
        (f"{number:2} {query.path.name}", "bold"),
        f"  {query.setup}  right item {query.product_id}: rank ",
        (moved, "bold"),
    )
    console.print()
    console.print(head, soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=number == 1)
    for heading, width in NUMBERS.items():
        table.add_column(heading, justify="right", no_wrap=True, min_width=width)
    table.add_column("id", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("name", overflow="ellipsis", no_wrap=True, ratio=1)
    for match in answer["matches"][:SHOWN]:
        right = (match["product_id"] or match["id"]) == query.product_id
        table.add_row(
            "  *" if right else "   ",
            str(match["rank"]),
            str(match["stage1_rank"]),
            f"{match['score']:.2f}",
            f"{match['probability']:.0%}",
            f"{match['distance']:.3f}",
            match["id"],
            _name(match),
            style="green" if right else None,
        )
    console.print(table)
    console.print(f"    {_times(answer['timings_ms'])}", style="dim", soft_wrap=True)


def show_total(console: Console, outcomes: Sequence[Outcome], about_queries: str) -> None:
    """Top-1 and top-5 before and after, how many they stand on, and the mean time of each stage."""
    n = len(outcomes)
    console.print(f"\n{n} queries, {about_queries}.", soft_wrap=True)
    for k in (1, 5):
        before = sum(o.before is not None and o.before <= k for o in outcomes)
        after = sum(o.after is not None and o.after <= k for o in outcomes)
        console.print(f"right item among the first {k}: {before} of {n} before reranking, {after} of {n} after")
    stages = outcomes[0].answer["timings_ms"]
    mean = {stage: sum(o.answer["timings_ms"].get(stage, 0.0) for o in outcomes) / n for stage in stages}
    console.print(f"mean time: {_times(mean)}", soft_wrap=True)
    console.print("So few queries give an impression; `threadmatch evaluate` measures.", style="dim")


def rank_text(rank: int | None) -> str:
    """A rank, or that it lies beyond what the service gives."""
    return f"beyond {MAX_TOP_K}" if rank is None else str(rank)


def _times(timings: dict[str, float]) -> str:
    return ", ".join(f"{stage} {milliseconds:.1f} ms" for stage, milliseconds in timings.items())


def _name(match: dict[str, Any]) -> str:
    metadata = match["metadata"]
    for column in ("name", "title", "label", "category"):
        if metadata.get(column):
            return str(metadata[column])
    return ""
