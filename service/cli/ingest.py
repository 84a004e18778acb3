"""`threadmatch ingest`: a catalogue in, a new generation of a gallery out."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from threadmatch.indexer.ingest import IngestResult, Progress

LINE_EVERY_S = 5.0


def ingest(
    catalogue: Annotated[Path, typer.Argument(help="CSV, JSON Lines or Parquet file, an item a row")],
    gallery: Annotated[Path, typer.Option(help="folder of the gallery; made when missing")],
    *,
    images: Annotated[
        Path | None, typer.Option(help="folder that image paths are below; default: the catalogue's")
    ] = None,
    model: Annotated[str, typer.Option(help="model name or checkpoint folder; default: the shipped one")] = "",
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="images a model call, and a commit")] = 32,
    workers: Annotated[int, typer.Option(min=0, max=256, help="decoding processes; 0: one a core")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="go on where an unfinished run stopped, or encode every row again")
    ] = True,
    prune: Annotated[bool, typer.Option(help="delete the items that the catalogue does not hold")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="host whose image URLs are fetched; may be given again")
    ] = None,
    allow_private_network: Annotated[
        bool, typer.Option(help="also fetch where an allowed host has a private address")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Encode a catalogue's photos into a gallery and put it in service. Bad images are listed, never fatal."""
    from rich.console import Console

    from threadmatch.indexer.errors import IndexerError
    from threadmatch.model.descriptions import DEFAULT_MODEL
    from threadmatch.model.errors import ModelError
    from threadmatch.service.galleries.local import ingest as run

    console = Console(stderr=True)
    try:
        with Show(console) as show:
            result = run(
                catalogue,
                gallery,
                images=images,
                model=model or DEFAULT_MODEL,
                device=device,
                progress=show,
                batch_size=batch_size,
                workers=workers or os.cpu_count() or 1,
                fresh=not resume,
                prune=prune,
                allow_hosts=tuple(allow_host or ()),
                allow_private_network=allow_private_network,
            )
    except (IndexerError, ModelError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("Stopped. What was encoded is kept: type the same command again to go on.")
        raise typer.Exit(130) from None
    _say(result, as_json=as_json)


def _say(result: IngestResult, *, as_json: bool) -> None:
    if as_json:
        json.dump(result.as_json(), sys.stdout)
        sys.stdout.write("\n")
        return
    typer.echo(
        f"generation {result.generation}: {result.items} items; {result.encoded} encoded, {result.skipped} were there "
        f"already, {result.rejected} rejected; {result.seconds:.1f} s, {result.images_per_second:.1f} images/s"
    )
    if result.rejects_file:
        typer.echo(f"rejected rows and why: {result.rejects_file}")


class Show:
    """Progress on stderr: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Bar | None = None
        self.task: TaskID | None = None
        self.last_line = time.monotonic()
        self.stage = ""

    def __enter__(self) -> Show:
        if self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:.1f}/s"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[rejected]} rejected"),
                console=self.console,
            )
            self.bar.start()
            self.task = self.bar.add_task("reading", total=None, rate=0.0, rejected=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, now: Progress) -> None:
        rate = now.done / now.seconds if now.seconds else 0.0
        if self.bar is not None and self.task is not None:
            self.bar.update(
                self.task,
                description=now.stage,
                total=now.rows or None,
                completed=now.done,
                rate=rate,
                rejected=now.rejected,
            )
            return
        if now.stage == self.stage and time.monotonic() - self.last_line < LINE_EVERY_S:
            return
        self.stage, self.last_line = now.stage, time.monotonic()
        if not now.rows:
            self.console.print("reading the catalogue", highlight=False)
            return
        left = f", about {(now.rows - now.done) / rate:.0f} s left" if rate and now.rows > now.done else ""
        self.console.print(
            f"{now.stage}: {now.done} of {now.rows} rows, {rate:.1f}/s{left}, {now.rejected} rejected", highlight=False
        )
