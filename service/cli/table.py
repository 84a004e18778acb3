"""`threadmatch table`: the paper's tables on your own data, every row trained and measured here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.progress import Shown, log_to_stderr


def table(
    number: Annotated[
        str, typer.Argument(help="3 (methods), 4 (by category), 5 (ablation), 6 (sizes) or 7 (by setup)")
    ],
    recipe: Annotated[Path, typer.Argument(help="recipe, a TOML file; see docs/training.md")],
    *,
    test: Annotated[Path, typer.Option(help="manifest, or folder with gallery.csv and queries.csv; other garments")],
    out: Annotated[Path, typer.Option(help="folder for rows and tables; an unfinished table there goes on")],
    rows: Annotated[str, typer.Option(help="of tables 5 and 6, such as 1,7; default: all")] = "",
    seeds: Annotated[str, typer.Option(help="each row is trained once a seed; commas between")] = "0",
    candidates: Annotated[int, typer.Option(min=1, help="items the first stage hands on")] = 200,
    backbone: Annotated[
        Path | None,
        typer.Option(help="checkpoint whose backbone every row has, and whose neck and embedding it starts from"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="tables 3, 4, 7: trained checkpoint to measure; default: train row 7 of table 5")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the table as JSON on stdout")] = False,
) -> None:
    """Make one of the paper's tables: train each row over cached features, measure it, write table-N.md and .json."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.train.loop.precision import keep_freed_memory
    from threadmatch.model.train.paper_tables.table_report import table_markdown
    from threadmatch.model.train.paper_tables.tables import TableSettings, make_table
    from threadmatch.model.train.recipe import read_recipe

    keep_freed_memory()
    try:
        numbers = [int(seed) for seed in _listed(seeds)]
    except ValueError as error:
        raise typer.BadParameter(f"--seeds is {seeds!r}, expected whole numbers with commas between") from error
    try:
        settings = TableSettings(
            number=number,
            test=test,
            rows=_listed(rows),
            seeds=numbers,
            candidates=candidates,
            backbone=backbone,
            model=model,
        )
        with Shown() as show:
            log_to_stderr()
            result = make_table(read_recipe(recipe), settings, out=out, progress=show)
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if as_json else table_markdown(result))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
