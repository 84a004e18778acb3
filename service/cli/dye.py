"""`threadmatch data dye`: real garments in other colours, and street queries of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.progress import Shown
from threadmatch.service.cli.streetify import SOURCES, Part


def dye(
    data: Annotated[Path, typer.Argument(help="Folder of source folders, each with items.csv and its photos.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write photos/, gallery.csv, queries.csv and queries/ into.")],
    sources: Annotated[str, typer.Option(help="Source folders, separated by commas.")] = SOURCES,
    split: Annotated[Part, typer.Option(help="Part to make: train, val or test.")] = Part.TRAIN,
    colours: Annotated[int, typer.Option(min=1, help="New colours a garment.")] = 2,
    per_item: Annotated[int, typer.Option(min=1, help="Queries a dyed garment.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same photos.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON on stdout.")] = False,
) -> None:
    """Dye garments in other colours, as variants of one cut: to learn, or to judge, telling them apart."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.synthetic.dyed.dyed_set import build_dyed_set

    try:
        with Shown() as show:
            counts = build_dyed_set(
                data,
                out,
                sources=[source.strip() for source in sources.split(",") if source.strip()],
                split=split.value,
                colours=colours,
                per_item=per_item,
                seed=seed,
                workers=workers or None,
                progress=show,
            )
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        json.dump(counts, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        typer.echo(f"dyed {counts['gallery']} garments, {counts['undyed']} could not be; {counts['queries']} queries")
