"""`threadmatch data dye`: garments in other colours, made from real photos of garments."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.progress import Shown
from threadmatch.service.cli.streetify import Part


def dye(
    data: Annotated[Path, typer.Argument(help="Folder of source folders, each with items.csv and its photos.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write source folders of the same names into.")],
    sources: Annotated[str, typer.Option(help="Source folders, separated by commas.")] = "clothing",
    split: Annotated[Part, typer.Option(help="Which garments: train, val or test.")] = Part.TRAIN,
    colours: Annotated[int, typer.Option(min=1, help="New colours of each garment.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same photos.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON on stdout.")] = False,
) -> None:
    """Photograph each garment in other colours: products that nothing but their colour tells apart."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.synthetic.dyed.dyed_photos import dye_sources

    try:
        with Shown() as show:
            counts = dye_sources(
                data,
                out,
                sources=[source.strip() for source in sources.split(",") if source.strip()],
                split=split.value,
                colours=colours,
                seed=seed,
                workers=workers or None,
                progress=lambda done, total: show("dyeing garments", done, total),
            )
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        json.dump(counts, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        typer.echo(f"made {counts['dyed']} photos of {counts['photos']} garments, {counts['failed']} of them failed")
        typer.echo(f"threadmatch data streetify {out} --sources {sources} --split {split.value} --out SET")
