"""`threadmatch data from-feedback`: training pairs and hard negatives out of what people said of matches."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def from_feedback(
    folder: Annotated[Path, typer.Argument(help="What THREADMATCH_FEEDBACK names.")],
    *,
    gallery: Annotated[Path, typer.Option(help="Folder of the gallery that was searched.")],
    out: Annotated[Path, typer.Option(help="New folder for the set: queries.csv, gallery.csv, negatives.csv.")],
    gallery_name: Annotated[str, typer.Option(help="What the service calls that gallery.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON on stdout.")] = False,
) -> None:
    """Make training pairs of the verdicts that a service was given."""
    from threadmatch.indexer.errors import IndexerError
    from threadmatch.indexer.opening import open_gallery
    from threadmatch.service.errors import StartError
    from threadmatch.service.feedback.training_set import build_set

    try:
        counts = build_set(folder, open_gallery(gallery), out, gallery_name=gallery_name)
    except (StartError, IndexerError, OSError) as error:
        typer.echo(f"threadmatch data from-feedback: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        json.dump({**counts.as_json(), "out": str(out)}, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    typer.echo(f"{counts.queries} pairs, {counts.items} gallery items, {counts.negatives} hard negatives in {out}")
    typer.echo(f"of {counts.verdicts} verdicts that count ({counts.history} were given)")
    for reason, count in (+counts.left_out).items():
        typer.echo(f"left out: {count}, {reason}")
