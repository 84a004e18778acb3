"""The paper's tables on one's own data: train what a table needs, measure it on a test set, write Markdown and JSON.

Every row is a run in a folder of its own. A table that was cut off goes on where it stopped, and a row that two tables
share is trained once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.errors import ConfigError
from threadmatch.model.evaluate.evaluation import per_query
from threadmatch.model.evaluate.metrics import paired_gain
from threadmatch.model.evaluate.provenance import provenance
from threadmatch.model.evaluate.report import write_json
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.train.paper_tables.method_rows import measure_methods
from threadmatch.model.train.paper_tables.table_data import TableData, prepare
from threadmatch.model.train.paper_tables.table_report import table_markdown
from threadmatch.model.train.paper_tables.table_specs import FULL_ROW, METHOD_LABELS, TABLES, Row, Table
from threadmatch.model.train.paper_tables.trained_rows import MeasuredRow, measure_row
from threadmatch.model.train.recipe import Recipe

logger = logging.getLogger(__name__)

Values = dict[str, NDArray[np.float64]]
"""What each test query adds to top1, ..., mrr: (n,) 0..1, a mean over seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings:
    """What to make.

    Fields:
        number: "3" to "7".
        test: a manifest or folder, of garments that are in none of the recipe's sets.
        rows: names of rows of Table 5 or 6; none: all.
        seeds: each row is trained once a seed and its figures are means.
        candidates: how many stage one hands on.
        backbone: checkpoint whose backbone every row has, such as a fine-tuned one; None: the recipe's, pretrained.
        model: for Tables 3, 4 and 7, a trained checkpoint that is measured; None trains Table 5's row 7.
    """

    number: str
    test: Path
    rows: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    candidates: int = 200
    backbone: Path | None = None
    model: Path | None = None

    def __post_init__(self) -> None:
        if self.number not in TABLES:
            raise ConfigError(f"table {self.number!r} is not made here, known are {', '.join(sorted(TABLES))}")
        known = [row.name for row in TABLES[self.number].rows]
        if wrong := [name for name in self.rows if name not in known]:
            raise ConfigError(f"table {self.number} has no rows {wrong}, known are {known}")
        if self.model is not None and known:
            raise ConfigError(f"table {self.number} trains its rows; a model is for tables 3, 4 and 7")
        if not self.seeds:
            raise ConfigError("a table needs at least one seed")


def make_table(recipe: Recipe, settings: TableSettings, *, out: Path, progress: Progress = unheard) -> dict[str, Any]:
    """Make a table, or what is missing of it.

    Args:
        recipe: what the rows are trained on and how; `[model]` says what a row does not.
        settings: which table, and on what.
        out: folder for rows, features and table-N.json, .md; tables in one folder share them.
        progress: hears what is done, and how far it is.

    Returns:
        What table-N.json says.

    Raises:
        DataError, ConfigError, CheckpointError: as their rooms say.
    """
    table = TABLES[settings.number]
    if (recipe.finetune or recipe.end_to_end) and settings.backbone is None:
        logger.warning("rows are trained over the pretrained backbone; give --backbone for the recipe's trained one")
    data = prepare(recipe, settings.test, cache=out / "features", backbone=settings.backbone, progress=progress)
    measured = (_rows if table.kind == "rows" else _methods)(table, data, settings, out, progress)
    result: dict[str, Any] = {
        "table": table.number,
        "title": table.title,
        "kind": table.kind,
        "test": str(settings.test),
        "gallery": len(data.test.gallery.images),
        "queries": len(data.test.queries.images),
        "candidates": settings.candidates,
        "recipe": recipe.name,
        "backbone": None if settings.backbone is None else str(settings.backbone),
        "rows": measured,
        "provenance": provenance(),
    }
    (out / f"table-{table.number}.md").write_text(table_markdown(result))
    write_json(result, out / f"table-{table.number}.json")
    return result


def _rows(
    table: Table, data: TableData, settings: TableSettings, out: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Rows of Table 5 or 6, with each one's gain over the first and over the full model."""
    chosen = [row for row in table.rows if not settings.rows or row.name in settings.rows]
    runs = {row.name: _train_seeds(row, data, settings, out, progress) for row in chosen}
    values = {name: _mean([one.ranks["grnet"] for one in own]) for name, own in runs.items()}
    first = chosen[0].name
    last = FULL_ROW.name if FULL_ROW.name in runs else None
    return [
        {
            "name": row.name,
            "label": row.label,
            "settings": {
                name: list(value) if isinstance(value, tuple) else value for name, value in row.settings.items()
            },
            **_summary(values[row.name]),
            "stage_one": _rates(_mean([one.ranks["global"] for one in runs[row.name]])),
            "gain_over": {
                name: _gains(values[name], values[row.name])
                for name in dict.fromkeys((first, last))
                if name is not None
            },
            "paper": row.paper,
            "runs": _runs(runs[row.name]),
        }
        for row in chosen
    ]


def _methods(
    table: Table, data: TableData, settings: TableSettings, out: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Rows of Table 3, 4 or 7, whole and by setup and category, with GRNet's gain over each."""
    runs = []
    common: dict[str, Any] = {"candidates": settings.candidates, "out": out, "progress": progress}
    for seed in settings.seeds:
        full = settings.model
        if full is None:
            full = measure_row(data, FULL_ROW.settings, seed=seed, **common).folder / "checkpoint"
        runs.append(measure_methods(data, full, seed=seed, **common))
    images = data.test.queries.images
    groups = {
        "by_setup": _places([image.setup.split("+") for image in images]),
        "by_category": _places([[image.category] for image in images]),
    }
    values = {name: _mean([one.ranks[name] for one in runs]) for name in METHOD_LABELS}
    return [
        {
            "name": name,
            "label": label,
            **_summary(values[name]),
            "grnet_gains": _gains(values[name], values["grnet"]),
            **{
                kind: {
                    group: {
                        "queries": len(at),
                        **_summary(_part(values[name], at)),
                        "grnet_gains": _gains(_part(values[name], at), _part(values["grnet"], at)),
                    }
                    for group, at in places.items()
                }
                for kind, places in groups.items()
            },
            "paper": table.paper.get(name, {}),
            "runs": _runs(runs),
        }
        for name, label in METHOD_LABELS.items()
    ]


def _train_seeds(
    row: Row, data: TableData, settings: TableSettings, out: Path, progress: Progress
) -> list[MeasuredRow]:
    logger.info("row", extra={"row": row.name, "label": row.label})
    return [
        measure_row(data, row.settings, seed=seed, candidates=settings.candidates, out=out, progress=progress)
        for seed in settings.seeds
    ]


def _runs(runs: list[MeasuredRow]) -> list[dict[str, Any]]:
    """Where each figure comes from: folder, seed, seconds, command, commit, machine."""
    return [
        {"folder": str(one.folder), **{name: one.record[name] for name in ("seed", "seconds", "provenance")}}
        for one in runs
    ]


def _places(labels: list[list[str]]) -> dict[str, NDArray[np.int64]]:
    """Where each label stands; a query with two counts in both."""
    where: dict[str, list[int]] = {}
    for n, own in enumerate(labels):
        for label in own:
            if label:
                where.setdefault(label, []).append(n)
    return {label: np.asarray(at) for label, at in sorted(where.items())}


def _mean(ranks: list[NDArray[np.int64]]) -> Values:
    found = [per_query(one) for one in ranks]
    return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


def _part(values: Values, at: NDArray[np.int64]) -> Values:
    return {name: own[at] for name, own in values.items()}


def _rates(values: Values) -> dict[str, float]:
    return {name: float(own.mean()) for name, own in values.items()}


def _summary(values: Values) -> dict[str, Any]:
    """Rates, and the bootstrap 95 % interval of each."""
    nothing = {name: np.zeros_like(own) for name, own in values.items()}
    return {**_rates(values), "interval": _gains(nothing, values)}


def _gains(before: Values, after: Values) -> dict[str, dict[str, float]]:
    return {name: asdict(paired_gain(before[name], after[name])) for name in after}
