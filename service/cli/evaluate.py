"""`threadmatch evaluate`: how good the two stages are on a gallery and queries with known answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    gallery_csv: Annotated[Path, typer.Option(help="CSV: image, product_id, optional id, box and others")],
    query_csv: Annotated[Path, typer.Option(help="CSV: image, product_id, optional box and setup")],
    out: Annotated[Path, typer.Option(help="JSON file to write; a .md table and TREC files stand beside it")],
    *,
    images: Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the CSV's")] = None,
    model: Annotated[list[str] | None, typer.Option(help="model name or folder; may be given again")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="items the first stage hands to GRNet")] = 200,
    exhaustive: Annotated[bool, typer.Option(help="also rerank the whole gallery, up to 2,000 items")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Measure top-1/5/20/50 and MRR of stage one, greedy matching and GRNet, with a paired interval of the gain."""
    from rich.console import Console
    from rich.progress import Progress

    from model.data.pairs import read_labelled
    from model.errors import ModelError
    from model.inference import DEFAULT_MODEL, load_model
    from model.train.evaluation import evaluate as measure
    from model.train.evaluation import markdown, write_json, write_trec

    console = Console(stderr=True)
    try:
        gallery = read_labelled(gallery_csv, images=images)
        queries = read_labelled(query_csv, images=images)
        results = {}
        for name in model or [DEFAULT_MODEL]:
            loaded = load_model(name, device=device)
            with Progress(console=console, transient=True) as progress:
                bar = progress.add_task(f"ranking with {loaded.name}", total=len(queries))
                result, rankings = measure(
                    loaded,
                    gallery,
                    queries,
                    candidates=candidates,
                    exhaustive=exhaustive,
                    progress=lambda done, _, bar=bar: progress.update(bar, completed=done),  # type: ignore[misc]
                )
            results[loaded.name] = result
            folder = out.with_suffix("") / loaded.name
            for method in rankings.orders:
                write_trec(rankings, method, folder)
    except ModelError as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    first = next(iter(results.values()))
    # One model is the contract's form; further ones stand beside it by name.
    write_json(first if len(results) == 1 else {**first, "models": results}, out)
    out.with_suffix(".md").write_text("\n".join(f"## {name}\n\n{markdown(r)}" for name, r in results.items()))
    if as_json:
        json.dump(first if len(results) == 1 else {**first, "models": results}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        for name, result in results.items():
            sys.stdout.write(f"{name}\n{markdown(result)}")
