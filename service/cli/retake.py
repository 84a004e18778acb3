"""`threadmatch data retake`: a labelled set whose photos were taken again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.progress import Shown


def retake(
    labelled: Annotated[Path, typer.Argument(metavar="SET", help="Folder with gallery.csv and queries.csv.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write the same tables and their new photos into.")],
    copies: Annotated[int, typer.Option(min=1, help="New photos a query; an item gets one.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same photos.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON on stdout.")] = False,
) -> None:
    """Take the photos of a set again, with other folds, light, covers and cameras: more to train on."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.synthetic.retaken.retaken_set import build_retaken_set

    try:
        with Shown() as show:
            counts = build_retaken_set(
                labelled,
                out,
                copies=copies,
                seed=seed,
                workers=workers or None,
                progress=lambda done, total: show("taking photos", done, total),
            )
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        json.dump(counts, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        typer.echo(f"took {counts['queries']} photos of queries and {counts['gallery']} of items")
        typer.echo(f'a recipe takes both: [data] train = ["{labelled}", "{out}"]')
