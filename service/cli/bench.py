"""`threadmatch bench`: speed of this machine, from one matrix product to a served search."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

QUICK_ITEMS = 300
QUICK_SECONDS = 3.0


def bench(
    *,
    model: Annotated[str, typer.Option(help="Model name or folder; else the one shipped.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    gallery_items: Annotated[int, typer.Option(min=10, help="Drawn garments to ingest and to search.")] = 5000,
    clients: Annotated[str, typer.Option(help="How many ask at once, in turn.")] = "1,4,16,64",
    workers: Annotated[str, typer.Option(help="Processes that serve, in turn.")] = "1",
    candidates: Annotated[int, typer.Option(min=1, help="Items the first stage hands to the reranker.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Images a call when encoding.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each measurement.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, garments and queries.")] = 7,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small gallery and short measurements; a first look.")
    ] = False,
    with_service: Annotated[bool, typer.Option("--service/--no-service", help="Ingestion and /search too.")] = True,
    only_searches: Annotated[
        bool, typer.Option("--only-searches", help="Only /search, over the gallery that an earlier run left in --work.")
    ] = False,
    work: Annotated[Path, typer.Option(help="Folder for drawings and galleries.")] = Path("bench-data"),
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Measure encoding, reranking, decoding, ingestion and the latency of /search on this machine."""
    from rich.console import Console

    from threadmatch.model.errors import ModelError
    from threadmatch.service.bench.report import show_bench
    from threadmatch.service.bench.run import BenchOptions, run_bench
    from threadmatch.service.process.commands import CommandError

    try:
        counts, processes = (tuple(int(count) for count in text.split(",")) for text in (clients, workers))
    except ValueError as error:
        raise typer.BadParameter("give whole numbers, such as 1,4,16", param_hint="--clients, --workers") from error
    options = BenchOptions(
        model=model,
        device=device,
        gallery_items=min(gallery_items, QUICK_ITEMS) if quick else gallery_items,
        clients=counts,
        candidates=candidates,
        batch=batch,
        seconds=min(seconds, QUICK_SECONDS) if quick else seconds,
        seed=seed,
        work=work,
        with_service=with_service,
        workers=processes,
        only_searches=only_searches,
    )
    stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        result = run_bench(options, lambda message: stderr.print(message, style="dim"))
    except (ModelError, CommandError, OSError) as error:
        typer.echo(f"threadmatch bench: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show_bench(result, Console(highlight=False, markup=False))
