"""`threadmatch evaluate`: how good the two stages are on a gallery and queries with known answers."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from threadmatch.model.data.manifest.rows import Selection
    from threadmatch.model.evaluate.comparison import Compared
    from threadmatch.model.evaluate.ranking import Rankings


class Part(StrEnum):
    """A split of a manifest, or all three."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    ALL = "all"


GalleryTable = Annotated[
    Path | None, typer.Option(help="table as ingest reads them: image, product_id, optional id, box and others")
]
QueryTable = Annotated[
    Path | None, typer.Option(help="table as ingest reads them: image, product_id, optional box and setup")
]
GivenManifest = Annotated[
    Path | None,
    typer.Option(help="in place of both: a manifest, or DeepFashion's folder as its archives unpack; see docs/data.md"),
]
Methods = Annotated[
    str, typer.Option(help="of global, greedy, dense, sparse, mga, grnet (the chain), grnet_full, color, kpm; commas")
]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="leave out rows without a photo or product, not refuse the table")
]


def evaluate(
    out: Annotated[Path, typer.Option(help="JSON file to write; a .md table and TREC files stand beside it")],
    *,
    gallery_csv: GalleryTable = None,
    query_csv: QueryTable = None,
    manifest: GivenManifest = None,
    split: Annotated[Part, typer.Option(help="of the manifest: whose queries")] = Part.TEST,
    gallery_split: Annotated[
        list[Part] | None, typer.Option(help="of the manifest: whose shop images; again for more; default: --split")
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="of the manifest: only this one; again for more")] = None,
    images: Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the file's")] = None,
    skip_bad_rows: SkipBadRows = False,
    model: Annotated[list[str] | None, typer.Option(help="name or folder; given again, all stand in one table")] = None,
    methods: Methods = "global,greedy,grnet",
    kpm: Annotated[Path | None, typer.Option(help="folder of a matching head that `threadmatch table` trained")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="items the first stage hands to the matchers")] = 200,
    exhaustive: Annotated[
        bool | None, typer.Option(help="rerank the whole gallery too; default: where that is 200,000 pairs or fewer")
    ] = None,
    trec_depth: Annotated[int, typer.Option(min=0, help="items a query in the TREC run files; 0 writes none")] = 100,
    cache: Annotated[Path | None, typer.Option(help="folder to keep features in, for the next time")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    html: Annotated[Path | None, typer.Option(help="page to write, one file: verdict, curves, and what failed")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Measure top-1/5/20/50 and MRR of stage one and of matchers behind it, with paired intervals of the gain."""
    from rich.console import Console

    from threadmatch.model.data.layouts.importing import official_manifest
    from threadmatch.model.data.manifest.rows import read_manifest
    from threadmatch.model.data.pairs import read_labelled, unanswerable, with_photos
    from threadmatch.model.descriptions import DEFAULT_MODEL
    from threadmatch.model.errors import ModelError
    from threadmatch.model.evaluate.evaluation import EvaluationSettings
    from threadmatch.model.inference import load_model
    from threadmatch.service.cli.measuring import compared_models, measure_models

    console = Console(stderr=True)
    names = tuple(filter(None, (name.strip() for name in methods.split(","))))
    try:
        settings = EvaluationSettings(methods=names, candidates=candidates, exhaustive=exhaustive, kpm=kpm, cache=cache)
        if manifest is None:
            tables = _tables(gallery_csv, query_csv, wrong=bool(category or gallery_split))
            sides = tuple(read_labelled(table, images=images, skip_bad=skip_bad_rows) for table in tables)
        else:
            which = (split, gallery_split or [split], category or [])
            selection = _selection(which, images, wrong=bool(gallery_csv or query_csv))
            sides = read_manifest(official_manifest(manifest, out), selection, skip_bad=skip_bad_rows)
        gallery, queries = (with_photos(side, skip_missing=skip_bad_rows) for side in sides)
        if warning := unanswerable(gallery, queries):
            console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
        models = [load_model(name, device=device) for name in model or [DEFAULT_MODEL]]
        measured = measure_models(models, gallery, queries, settings, console)
        compared = compared_models(models, measured, queries, candidates=min(candidates, len(gallery)), page=html)
        _write(measured, compared, out, trec_depth, as_json=as_json)
    except (ModelError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _write(
    measured: dict[str, tuple[dict[str, Any], Rankings]],
    compared: list[Compared],
    out: Path,
    trec_depth: int,
    *,
    as_json: bool,
) -> None:
    """The report of every model, for machines and for people; the JSON file last: where it stands, the rest does."""
    from threadmatch.model.evaluate.comparison import comparison_table
    from threadmatch.model.evaluate.report import markdown, write_json
    from threadmatch.service.cli.measuring import joined, write_rankings

    out.parent.mkdir(parents=True, exist_ok=True)
    result = joined(measured, compared)
    write_rankings({name: rankings for name, (_, rankings) in measured.items()}, out.with_suffix(""), trec_depth)
    tables = "\n".join(f"## {name}\n\n{markdown(own)}" for name, (own, _) in measured.items())
    if compared:
        tables = f"{comparison_table(compared)}\n{tables}"
    out.with_suffix(".md").write_text(f"{tables}\n    {result['provenance']['command']}\n")
    write_json(result, out)
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if as_json else tables)


def _tables(gallery_csv: Path | None, query_csv: Path | None, *, wrong: bool) -> tuple[Path, Path]:
    if wrong:
        raise typer.BadParameter("--category and --gallery-split choose from a manifest; give --manifest")
    if gallery_csv is None or query_csv is None:
        raise typer.BadParameter("nothing to measure: give --manifest, or both --gallery-csv and --query-csv")
    return gallery_csv, query_csv


def _selection(which: tuple[Part, list[Part], list[str]], images: Path | None, *, wrong: bool) -> Selection:
    from threadmatch.model.data.manifest.rows import Selection, Split

    split, gallery_splits, categories = which
    if wrong:
        raise typer.BadParameter("give --manifest, or --gallery-csv with --query-csv, not both")
    if split is Part.ALL:
        raise typer.BadParameter("--split is one of train, val and test; only --gallery-split can be all")
    gallery = tuple(Split) if Part.ALL in gallery_splits else tuple(Split(part.value) for part in gallery_splits)
    return Selection(Split(split.value), gallery, tuple(categories), images)
