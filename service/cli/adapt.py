"""`threadmatch adapt`: a model that keeps the cells of its map too, their space fitted on your own photos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from threadmatch.service.cli.progress import Shown

if TYPE_CHECKING:
    from threadmatch.model.data.pairs import LabelledImage


def adapt(
    model: Annotated[str, typer.Argument(help="model name or checkpoint folder")],
    photos: Annotated[Path, typer.Option(help="folder of garment photos, or a CSV: image, product_id, optional box")],
    out: Annotated[Path, typer.Option(help="folder for the checkpoint")],
    *,
    images: Annotated[Path | None, typer.Option(help="folder that a CSV's paths are below; default: its own")] = None,
    channels: Annotated[int, typer.Option(min=8, max=512, help="numbers kept of each cell")] = 128,
    depth: Annotated[int, typer.Option(min=1, help="items that the last matcher orders behind the dense match")] = 16,
    most: Annotated[int, typer.Option(min=20, help="photos looked at, at most")] = 1500,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Add dense matching to a model: no labels, minutes. Ingest your catalogue again with what comes out."""
    from rich.console import Console

    from threadmatch.model.errors import ModelError
    from threadmatch.model.train.adapt import AdaptSettings
    from threadmatch.model.train.adapt import adapt as run

    console = Console(stderr=True)
    settings = AdaptSettings(channels=channels, depth=depth, photos=most)
    try:
        with Shown(console) as show:
            result = run(model, _labelled(photos, images), out=out, settings=settings, progress=show)
    except (ModelError, OSError) as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    chain = " -> ".join(f"{stage['matcher']} {stage.get('items', 'all')}" for stage in result["chain"])
    typer.echo(f"{result['photos']} photos; a search is now: shortlist -> {chain}")
    typer.echo(f"--model {result['checkpoint']}")


def _labelled(photos: Path, images: Path | None) -> list[LabelledImage]:
    from threadmatch.model.data.pairs import LabelledImage, read_labelled
    from threadmatch.model.data.photo_folder import photos_below

    if photos.is_dir():
        return [LabelledImage(path, path.name, path.name, None, "", "") for path in photos_below(photos)]
    return read_labelled(photos, images=images)
