"""`threadmatch data sample`: a small shop of real photos, where one has none at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(*, out: Annotated[Path, typer.Option(help="Folder to write into.")]) -> None:
    """Write the 300 photos that ship (CC0) as a shop's catalogue, and three street photos to search with."""
    from threadmatch.service.demo.shipped import CATALOGUE_FILE, write_shop

    try:
        count = write_shop(out)
    except OSError as error:
        typer.echo(f"error: {out} cannot be written: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"wrote {count} items and their photos")
    typer.echo(f"threadmatch ingest {out / CATALOGUE_FILE} --images {out} --gallery GALLERY")
