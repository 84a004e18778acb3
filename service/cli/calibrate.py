"""`threadmatch calibrate`: fit probabilities and the "no match" threshold to a shop's own pairs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.progress import Shown


def calibrate(
    gallery_csv: Annotated[Path, typer.Option(help="CSV: image, product_id, optional box")],
    query_csv: Annotated[Path, typer.Option(help="CSV: image, product_id, optional box; none that it was trained on")],
    out: Annotated[Path, typer.Option(help="folder for the calibrated checkpoint and calibration.json")],
    *,
    model: Annotated[str | None, typer.Option(help="model name or folder; default: the one that ships")] = None,
    images: Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the CSV's")] = None,
    candidates: Annotated[int, typer.Option(min=10, help="items the first stage hands to the matchers")] = 200,
    max_false_reject: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="most searches with an answer that 'no match' may be said of; default: weigh both"
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="folder to keep features in, for the next time")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON on stdout")] = False,
) -> None:
    """Make a model's probabilities hold for your photos. Galleries stay valid: embeddings and regions don't change."""
    from rich.console import Console

    from threadmatch.model.data.pairs import read_labelled, with_photos
    from threadmatch.model.descriptions import DEFAULT_MODEL
    from threadmatch.model.errors import ModelError
    from threadmatch.model.evaluate.recalibrate import recalibrate

    console = Console(stderr=True)
    try:
        gallery, queries = (with_photos(read_labelled(table, images=images)) for table in (gallery_csv, query_csv))
        with Shown(console) as show:
            report = recalibrate(
                model or DEFAULT_MODEL,
                gallery,
                queries,
                out=out,
                candidates=candidates,
                max_false_reject=max_false_reject,
                device=device,
                cache=cache,
                progress=show,
            )
    except (ModelError, OSError) as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return
    before, after = report["before"], report["after"]
    stated = "no probabilities" if before is None else f"{before['ece']:.3f}"
    typer.echo(f"expected calibration error {stated} before, {after['ece_held_out']:.3f} after (held-out folds)")
    typer.echo(
        f"no match below {after['no_match_below']:.3f}: said of {after['false_reject']:.1%} of the searches whose "
        f"product is there, not said of {after['false_accept']:.1%} of those whose product is not (held-out folds)"
    )
    typer.echo(f"--model {report['checkpoint']}")
