"""`threadmatch ingest`: a catalogue in, a new generation of a gallery out."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from threadmatch.service.cli.feed_options import Mapped, Preset, mapping
from threadmatch.service.cli.progress import Shown
from threadmatch.service.cli.stopping import ended_by_sigterm_too

if TYPE_CHECKING:
    from rich.console import Console

    from threadmatch.indexer.ingest_options import IngestResult, Progress
    from threadmatch.indexer.rejects import RejectBound


Images = Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the catalogue's")]
AllowHost = Annotated[list[str] | None, typer.Option(help="host whose image URLs are fetched; may be given again")]
MaxRejects = Annotated[
    str, typer.Option(metavar="N|P%", help="put nothing in service if more rows are rejected; default: all but one")
]
Private = Annotated[bool, typer.Option(help="also fetch where an allowed host has a private address")]
Predict = Annotated[
    bool, typer.Option("--predict", help="add columns predicted.NAME: attributes that the model reads off the photos")
]
Resume = Annotated[
    bool, typer.Option("--resume/--fresh", help="go on where an unfinished run stopped, or encode every row again")
]
Box = Annotated[
    Literal["auto", "none"],
    typer.Option(
        help="for rows without a box, of photos that show somebody: encode the garment that the row means, or all"
    ),
]
Ray = Annotated[
    str,
    typer.Option(metavar="ADDRESS", help="Ray cluster whose nodes read, decode, encode: auto, HOST:PORT or ray://..."),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        metavar='"HOST NAME: VALUE"', help="header for a private image host, sent to no other; again for more"
    ),
]


def ingest(
    catalogue: Annotated[Path, typer.Argument(help="CSV, JSON Lines or Parquet file, or a folder of Parquet parts")],
    gallery: Annotated[Path, typer.Option(help="folder of the gallery, made when missing; or cluster://NAME")],
    *,
    images: Images = None,
    model: Annotated[str, typer.Option(help="name or folder; default: the gallery's own, else the shipped one")] = "",
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="images a model call, and a commit")] = 32,
    workers: Annotated[int, typer.Option(min=0, max=256, help="decoding processes; 0: one a core")] = 0,
    resume: Resume = True,
    prune: Annotated[bool, typer.Option(help="delete the items that the catalogue does not hold")] = False,
    box: Box = "auto",
    predict: Predict = False,
    max_rejects: MaxRejects = "100%",
    mapped: Mapped = None,
    preset: Preset = None,
    ray: Ray = "",
    allow_host: AllowHost = None,
    header: Headers = None,
    allow_private_network: Private = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Encode a catalogue's photos into a gallery and put it in service. Bad images are listed, never fatal."""
    from rich.console import Console

    from threadmatch.indexer.errors import IndexerError
    from threadmatch.model.errors import ModelError
    from threadmatch.service.galleries.filling import ingest as run

    console = Console(stderr=True)
    try:
        with ended_by_sigterm_too(), redirect_stdout(sys.stderr), Shown(console) as show:  # Ray prints; stdout is ours
            result = run(
                catalogue,
                gallery,
                images=images,
                model=model or None,
                device=device,
                ray=ray,
                progress=lambda now: _show(show, now),
                batch_size=batch_size,
                workers=workers or os.cpu_count() or 1,
                fresh=not resume,
                prune=prune,
                predict=predict,
                box=box,
                allow_hosts=tuple(allow_host or ()),
                allow_private_network=allow_private_network,
                headers=_headers(header or [], allow_host or []),
                max_rejects=_bound(max_rejects),
                mapped=mapping(mapped or []),
                preset=preset.value if preset else "",
            )
    except (IndexerError, ModelError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise _stopped(console) from None
    _say(result, as_json=as_json)


def _stopped(console: Console) -> typer.Exit:
    console.print("Stopped. What was encoded is kept: type the same command again to go on.")
    return typer.Exit(130)


def _bound(text: str) -> RejectBound:
    from threadmatch.indexer.rejects import RejectBound

    try:
        return RejectBound.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--max-rejects") from error


def _headers(given: list[str], hosts: list[str]) -> tuple[tuple[str, str, str], ...]:
    from threadmatch.indexer.catalogue.host_manners import parse_header

    try:
        return tuple(parse_header(text, hosts) for text in given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--header") from error


def _say(result: IngestResult, *, as_json: bool) -> None:
    if as_json:
        for warning in result.warnings:
            typer.echo(f"warning: {warning}", err=True)
        json.dump(result.as_json(), sys.stdout)
        sys.stdout.write("\n")
        return
    typer.echo(
        f"generation {result.generation}: {result.items} items; {result.encoded} encoded, {result.skipped} were there "
        f"already, {result.rejected} rejected; {result.seconds:.1f} s, {result.images_per_second:.1f} images/s"
    )
    if result.framed:
        typer.echo(
            f"{result.framed} photos show somebody: the garment that was found is encoded (--box none: all of it)"
        )
    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if result.rejects_file:
        typer.echo(f"rejected rows and why: {result.rejects_file}")


def _show(show: Shown, now: Progress) -> None:
    if now.rows:
        show(now.stage, now.done, now.rows, f"{now.rejected} rejected")
    else:
        show("reading the catalogue", 0, 0)
