"""The paper's tables as settings: what each row changes, and what the paper measured for it on its own data.

Paper    Kuang et al., ICCV 2019, sec. 5.2 to 5.6; figures in per cent, on DeepFashion or FindFashion: they say how the
         rows should order, and are no target for another gallery
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from threadmatch.model.config import PAPER_SCALES

Kind = Literal["rows", "methods", "setups", "categories"]

WHOLE: dict[str, Any] = {"scales": PAPER_SCALES, "steps": 3, "intra_scale_edges": True, "inter_scale_edges": True}
"""The full GRNet in the fields that Table 5 and sec. 5.5 vary; a recipe may say otherwise, a table's row may not."""
_FIRST_SCALES = ("1x1", "1x2", "2x1", "2x2")
_FINE_SCALES = ("1x1", "1x3", "3x1", "3x3")


@dataclass(frozen=True, slots=True)
class Row:
    """One trained model of a table.

    Fields:
        name: such as "7"; `--rows` takes it.
        label: what it is.
        settings: fields of GRNetConfig over the recipe's.
        paper: the paper's figures, {"top1": per cent, ...}.
    """

    name: str
    label: str
    settings: dict[str, Any]
    paper: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """One table: `rows` are trained ("rows"), or `methods` are measured with the full model (every other kind)."""

    number: str
    title: str
    kind: Kind
    rows: tuple[Row, ...] = ()
    paper: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By method: what the paper measured."""


def _top(top1: float, top20: float, top50: float) -> dict[str, float]:
    return {"top1": top1, "top20": top20, "top50": top50}


def _row(name: str, label: str, paper: dict[str, float], **changed: Any) -> Row:
    return Row(name, label, {**WHOLE, **changed}, paper)


FULL_ROW = _row("7", "all scales, all edges, 3 layers", _top(25.73, 64.38, 75.00))

TABLE_5 = Table(
    "5",
    "Ablation, and the layer numbers of sec. 5.5",
    "rows",
    (
        _row("1", "global similarity only", _top(14.06, 47.60, 60.62), scales=("1x1",)),
        _row("2", "1x2, 2x1, 2x2", _top(22.60, 62.71, 73.25), scales=_FIRST_SCALES),
        _row("3", "1x3, 3x1, 3x3", _top(23.96, 64.48, 74.32), scales=_FINE_SCALES),
        _row(
            "4",
            "all scales, edges to the global node only",
            _top(24.48, 63.85, 74.17),
            intra_scale_edges=False,
            inter_scale_edges=False,
        ),
        _row("5", "all scales, inter-scale edges", _top(24.79, 64.17, 74.27), intra_scale_edges=False),
        _row("6", "all scales, intra-scale edges", _top(24.58, 63.85, 73.44), inter_scale_edges=False),
        FULL_ROW,
        _row("1 layer", "as 7, 1 layer", {"top1": 16.8}, steps=1),
        _row("2 layers", "as 7, 2 layers", {"top1": 22.8}, steps=2),
    ),
)

TABLE_6 = Table(
    "6",
    "Projection dimension D and channel number C'",
    "rows",
    tuple(
        _row(f"{d}/{c}", f"D = {d}, C' = {c}", paper, similarity_channels=d, node_channels=c)
        for d, c, paper in (
            (512, 128, _top(25.73, 64.38, 75.00)),
            (512, 256, _top(25.52, 64.50, 74.43)),
            (512, 512, _top(25.92, 64.75, 75.54)),
            (256, 128, _top(24.06, 63.02, 73.33)),
            (256, 256, _top(25.10, 64.48, 74.17)),
            (128, 128, _top(24.69, 63.64, 74.38)),
        )
    ),
)

METHOD_LABELS = {
    "color": "colour histograms (floor)",
    "frozen_global": "the backbone's features as they are, cosine",
    "frozen_greedy": "the backbone's features as they are, greedy local (Eq. 2, 3)",
    "global": "trained global (stage one)",
    "greedy": "trained greedy local (Eq. 2, 3)",
    "kpm": "KPM",
    "grnet": "GRNet",
}

TABLE_3 = Table("3", "Methods", "methods", paper={"kpm": _top(21.3, 54.1, 65.2), "grnet": _top(25.7, 64.4, 75.0)})
TABLE_4 = Table(
    "4",
    "Methods by category, top-20",
    "categories",
    paper={"grnet": {"tops": 58.3, "dresses": 64.2, "skirts": 72.5, "pants": 48.5, "outerwear": 38.6}},
)
TABLE_7 = Table(
    "7",
    "Methods by setup",
    "setups",
    paper={
        "global": {
            "easy": _top(16.9, 53.6, 67.6),
            "hard_view": _top(10.4, 37.8, 53.2),
            "hard_occlusion": _top(4.5, 25.3, 35.8),
            "hard_cropping": _top(7.3, 35.4, 49.9),
        },
        "kpm": {
            "easy": _top(22.9, 56.2, 69.2),
            "hard_view": _top(18.3, 45.8, 55.8),
            "hard_occlusion": _top(5.8, 25.5, 35.4),
            "hard_cropping": _top(9.7, 34.8, 46.7),
        },
        "grnet": {
            "easy": _top(27.1, 65.1, 75.2),
            "hard_view": _top(23.3, 57.9, 69.6),
            "hard_occlusion": _top(7.8, 35.0, 45.0),
            "hard_cropping": _top(14.9, 48.4, 61.1),
        },
    },
)

TABLES = {table.number: table for table in (TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLE_7)}
