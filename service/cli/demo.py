"""`threadmatch demo`: ingest a gallery, serve it, search it with street photos, keep serving."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.stopping import ended_by_sigterm_too


def demo(
    *,
    data: Annotated[Path | None, typer.Option(help="Folder of images, with or without a catalogue in it.")] = None,
    drawn: Annotated[int | None, typer.Option(min=10, help="Draw this many garments in place of photos.")] = None,
    parts: Annotated[str, typer.Option(help="Sub-folders of the real photos to take, such as clothing,luma.")] = "",
    queries: Annotated[int, typer.Option(min=1, help="Street photos to search with.")] = 12,
    candidates: Annotated[int, typer.Option(min=1, help="Items the first stage hands to the reranker.")] = 200,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")] = 0,
    model: Annotated[str, typer.Option(help="Model name or folder; else the one shipped.")] = "",
    work: Annotated[Path, typer.Option(help="Folder for the gallery and what is made for it.")] = Path("demo-data"),
    check: Annotated[bool, typer.Option("--check", help="Stop after the searches; 0 only if all went well.")] = False,
    write_picture: Annotated[Path | None, typer.Option(help="PNG of queries with matches before and after.")] = None,
) -> None:
    """Show the whole way, from a catalogue to ranked matches over HTTP."""
    from rich.console import Console

    from threadmatch.indexer.errors import IndexerError
    from threadmatch.model.errors import ModelError
    from threadmatch.service.demo.errors import DemoError
    from threadmatch.service.demo.run import DemoOptions, run_demo
    from threadmatch.service.process.commands import CommandError

    options = DemoOptions(
        data=data,
        drawn_items=drawn,
        parts=tuple(part.strip() for part in parts.split(",")) if parts else None,
        queries=queries,
        candidates=candidates,
        port=port,
        model=model,
        work=work,
        check=check,
        picture=write_picture,
    )
    console = Console(highlight=False, markup=False)
    try:
        with ended_by_sigterm_too():  # the service first
            run_demo(options, console)
    except (DemoError, CommandError, ModelError, IndexerError) as error:
        typer.echo(f"threadmatch demo: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("\nStopped.")
        if check:
            raise typer.Exit(1) from None
