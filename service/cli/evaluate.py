"""`threadmatch evaluate`: how good the two stages are on a gallery and queries with known answers."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from model.data.pairs import LabelledImage


class Part(StrEnum):
    """A split of a manifest, or all three."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    ALL = "all"


def evaluate(
    out: Annotated[Path, typer.Option(help="JSON file to write; a .md table and TREC files stand beside it")],
    *,
    gallery_csv: Annotated[
        Path | None, typer.Option(help="CSV: image, product_id, optional id, box and others")
    ] = None,
    query_csv: Annotated[Path | None, typer.Option(help="CSV: image, product_id, optional box and setup")] = None,
    manifest: Annotated[Path | None, typer.Option(help="in place of both: a manifest, see docs/data.md")] = None,
    split: Annotated[Part, typer.Option(help="of the manifest: whose queries")] = Part.TEST,
    gallery_split: Annotated[
        list[Part] | None, typer.Option(help="of the manifest: whose shop images; again for more; default: --split")
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="of the manifest: only this one; again for more")] = None,
    images: Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the file's")] = None,
    model: Annotated[list[str] | None, typer.Option(help="model name or folder; may be given again")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="items the first stage hands to GRNet")] = 200,
    exhaustive: Annotated[bool, typer.Option(help="also rerank the whole gallery, up to 2,000 items")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Measure top-1/5/20/50 and MRR of stage one, greedy matching and GRNet, with a paired interval of the gain."""
    from rich.console import Console
    from rich.progress import Progress

    from model.errors import ModelError
    from model.inference import DEFAULT_MODEL, load_model
    from model.train.evaluation import evaluate as measure
    from model.train.evaluation import write_trec

    console = Console(stderr=True)
    try:
        if manifest is None:
            gallery, queries = _read_tables(gallery_csv, query_csv, images, wrong=bool(category or gallery_split))
        else:
            which = (split, gallery_split or [split], category or [])
            gallery, queries = _read_manifest(manifest, which, images, wrong=bool(gallery_csv or query_csv))
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
    _write(results, out, as_json=as_json)


def _write(results: dict[str, dict[str, Any]], out: Path, *, as_json: bool) -> None:
    """The report of every model, for machines and for people."""
    from model.train.evaluation import markdown, write_json

    first = next(iter(results.values()))
    # One model is the contract's form; further ones stand beside it by name.
    whole = first if len(results) == 1 else {**first, "models": results}
    write_json(whole, out)
    out.with_suffix(".md").write_text("\n".join(f"## {name}\n\n{markdown(r)}" for name, r in results.items()))
    if as_json:
        json.dump(whole, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        for name, result in results.items():
            sys.stdout.write(f"{name}\n{markdown(result)}")


def _read_tables(
    gallery_csv: Path | None, query_csv: Path | None, images: Path | None, *, wrong: bool
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    from model.data.pairs import read_labelled

    if wrong:
        raise typer.BadParameter("--category and --gallery-split choose from a manifest; give --manifest")
    if gallery_csv is None or query_csv is None:
        raise typer.BadParameter("nothing to measure: give --manifest, or both --gallery-csv and --query-csv")
    return read_labelled(gallery_csv, images=images), read_labelled(query_csv, images=images)


def _read_manifest(
    manifest: Path, which: tuple[Part, list[Part], list[str]], images: Path | None, *, wrong: bool
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    from model.data.manifest import Selection, Split, read_manifest

    split, gallery_splits, categories = which
    if wrong:
        raise typer.BadParameter("give --manifest, or --gallery-csv with --query-csv, not both")
    if split is Part.ALL:
        raise typer.BadParameter("--split is one of train, val and test; only --gallery-split can be all")
    gallery = tuple(Split) if Part.ALL in gallery_splits else tuple(Split(part.value) for part in gallery_splits)
    return read_manifest(manifest, Selection(Split(split.value), gallery, tuple(categories), images))
