"""`threadmatch data draw`: a drawn shop and questions about it, where no photos are at hand."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.progress import Shown


def draw(
    *,
    out: Annotated[Path, typer.Option(help="Folder to draw into; what is there already is kept.")],
    items: Annotated[int, typer.Option(min=1, help="Shop images: one garment each.")] = 1000,
    queries: Annotated[int, typer.Option(min=0, help="Street queries, in four setups that take turns.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Which shop; the same seed draws the same one.")] = 7,
    first: Annotated[int, typer.Option(min=0, help="Index of the first garment, to share a large shop.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON on stdout.")] = False,
) -> None:
    """Draw shop images with catalogue.csv, street photos of them with queries.csv, and both as manifest.csv."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.synthetic.drawn.drawn_shop import DrawnShop, draw_shop

    shop = DrawnShop(items=items, queries=queries, seed=seed, first=first)
    try:
        with Shown() as show:
            counts = draw_shop(
                out,
                shop,
                workers=workers or os.cpu_count() or 1,
                progress=lambda done, total: show("drawing", done, total),
            )
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    pace = counts.drawn / max(counts.seconds, 1e-9)
    result = {
        "items": counts.items,
        "queries": counts.queries,
        "drawn": counts.drawn,
        "kept": counts.kept,
        "seconds": counts.seconds,
        "images_per_second": round(pace, 1),
        "catalogue": str(out / "catalogue.csv"),
        "queries_file": str(out / "queries.csv"),
        "manifest": str(out / "manifest.csv"),
    }
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        typer.echo(f"drew {counts.drawn} pictures in {counts.seconds:.1f} s, kept {counts.kept}")
        typer.echo(f"threadmatch ingest {result['catalogue']} --images {out} --gallery GALLERY")
