"""`threadmatch curves`: the curves of a training run as a picture and as TensorBoard events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def curves(
    run: Annotated[Path, typer.Argument(help="folder of a training run, with finetune.jsonl or curves.jsonl")],
) -> None:
    """Draw loss and accuracy of a run: finetune.png, curves.png, and events for `tensorboard --logdir`."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.train.loop.curves import EVENTS_FOLDER, write_curves

    try:
        written = write_curves(run)
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for files in written:
        typer.echo(str(files.picture))
    if all(files.events for files in written):
        typer.echo(str(run / EVENTS_FOLDER))
    else:
        typer.echo("no TensorBoard events: install the extra `train`")
