"""`threadmatch curves`: the curves of a training run as a picture and as TensorBoard events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def curves(run: Annotated[Path, typer.Argument(help="folder of a training run, with curves.jsonl")]) -> None:
    """Draw loss and accuracy of a run: curves.png, and event files for `tensorboard --logdir RUN/tensorboard`."""
    from model.errors import ModelError
    from model.train.curves import write_curves

    try:
        files = write_curves(run)
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(str(files.picture))
    typer.echo(str(files.events) if files.events else "no TensorBoard events: install the extra `train`")
