"""`threadmatch data streetify`: street queries with known answers, made from real photos of garments."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.progress import Shown

SOURCES = "clothing,luma,venia"


class Part(StrEnum):
    """Which part of the photos; photographers and SKUs never stand in two."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def streetify(
    data: Annotated[Path, typer.Argument(help="Folder of source folders, each with items.csv and its photos.")],
    *,
    out: Annotated[
        Path, typer.Option(help="Folder to write gallery.csv, queries.csv, manifest.csv and queries/ into.")
    ],
    sources: Annotated[str, typer.Option(help="Source folders, separated by commas.")] = SOURCES,
    split: Annotated[Part, typer.Option(help="Part to make: train, val or test.")] = Part.VAL,
    per_item: Annotated[int, typer.Option(min=1, help="Queries a photo; the four setups take turns.")] = 2,
    limit: Annotated[int, typer.Option(min=0, help="Gallery images at most; 0 takes all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same queries.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON on stdout.")] = False,
) -> None:
    """Cut garments out of photos, put them before other backgrounds, and write what `evaluate` and `train` read."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.synthetic.street.street_set import build_street_set

    try:
        with Shown() as show:
            counts = build_street_set(
                data,
                out,
                sources=[source.strip() for source in sources.split(",") if source.strip()],
                split=split.value,
                per_item=per_item,
                seed=seed,
                limit=limit or None,
                workers=workers or None,
                progress=lambda done, total: show("making queries", done, total),
            )
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    tables = {"gallery_csv": "gallery.csv", "queries_csv": "queries.csv", "manifest": "manifest.csv"}
    result = {**counts, **{name: str(out / table) for name, table in tables.items()}}
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        typer.echo(f"made {counts['queries']} queries over {counts['gallery']} items, {counts['failed']} failed")
        typer.echo(f"threadmatch evaluate --manifest {result['manifest']} --split {split.value} --out result.json")
