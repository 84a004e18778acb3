"""`threadmatch evaluate-explanations` and `evaluate-detector`: do explanations name what decided, do boxes fit?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.progress import Shown


def evaluate_explanations(
    gallery_csv: Annotated[Path, typer.Option(help="CSV: image, product_id, optional id, box and others")],
    query_csv: Annotated[Path, typer.Option(help="CSV: image, product_id, optional box and setup")],
    *,
    images: Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the CSV's")] = None,
    model: Annotated[str | None, typer.Option(help="model name or folder; default: the shipped one")] = None,
    matcher: Annotated[str | None, typer.Option(help="that explains; default: the one that decides a search")] = None,
    pairs: Annotated[int, typer.Option(min=2, help="pairs of query and item, 0.2 to 4 s each")] = 200,
    seed: Annotated[int, typer.Option(help="of the draw of pairs")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    out: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Blank the region that an explanation names, score again, and compare the drop with other regions of its size."""
    import time

    from rich.console import Console

    from threadmatch.model.data.pairs import read_labelled, with_photos
    from threadmatch.model.descriptions import DEFAULT_MODEL
    from threadmatch.model.errors import ModelError
    from threadmatch.model.evaluate.faithfulness import markdown, measure
    from threadmatch.model.evaluate.report import write_json
    from threadmatch.model.inference import load_model

    console = Console(stderr=True)
    try:
        gallery = with_photos(read_labelled(gallery_csv, images=images))
        queries = with_photos(read_labelled(query_csv, images=images))
        loaded = load_model(model or DEFAULT_MODEL, device=device)
        started = time.monotonic()
        with Shown(console) as show:
            measured = measure(
                loaded,
                gallery,
                queries,
                pairs=pairs,
                matcher=matcher,
                seed=seed,
                progress=show,
            )
    except (ModelError, OSError) as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    result = measured.report(loaded, seed=seed, seconds=time.monotonic() - started)
    if out is not None:
        write_json(result, out)
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(
            f"{result['matcher']}: {result['pairs']} pairs, mean score {result['mean_score']:.2f}\n\n{markdown(result)}"
        )


def evaluate_detector(
    gallery_csv: Annotated[Path, typer.Option(help="CSV: image, product_id, optional id, box and others")],
    query_csv: Annotated[Path, typer.Option(help="CSV: image, product_id, box")],
    *,
    images: Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the CSV's")] = None,
    model: Annotated[str | None, typer.Option(help="model name or folder; default: the shipped one")] = None,
    detector: Annotated[str, typer.Option(help="folder of a detector; default: the one without weights")] = "",
    queries: Annotated[int, typer.Option(min=2, help="queries to search, three times each")] = 100,
    gallery_items: Annotated[int, typer.Option(min=2, help="gallery images to search in")] = 300,
    seed: Annotated[int, typer.Option(help="of the draw")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Compare the boxes a detector proposes with the true ones, and what each of them finds."""
    from rich.console import Console

    from threadmatch.model.data.pairs import read_labelled, with_photos
    from threadmatch.model.descriptions import DEFAULT_MODEL
    from threadmatch.model.detection.torchvision_weights import load_detector
    from threadmatch.model.errors import ModelError
    from threadmatch.model.evaluate.boxes import markdown, measure_boxes
    from threadmatch.model.inference import load_model

    console = Console(stderr=True)
    try:
        with Shown(console) as show:
            result = measure_boxes(
                load_model(model or DEFAULT_MODEL, device=device),
                load_detector(detector, device=device),
                with_photos(read_labelled(gallery_csv, images=images)),
                with_photos(read_labelled(query_csv, images=images)),
                most=(queries, gallery_items),
                seed=seed,
                progress=lambda done, total: show("searching", done, total),
            )
    except (ModelError, OSError) as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        head = f"{result['detector']}: {result['queries']} queries, {result['gallery']} gallery images"
        sys.stdout.write(f"{head}\n\n{markdown(result)}")
