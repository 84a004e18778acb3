"""`threadmatch train-attributes` and `evaluate-attributes`: one embedding an attribute, made and measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from threadmatch.service.cli.evaluate import Part
from threadmatch.service.cli.progress import Shown, log_to_stderr


def train_attributes(
    config: Annotated[Path, typer.Argument(help="recipe, a TOML file; see docs/attributes.md")],
    *,
    run: Annotated[Path, typer.Option(help="folder of the run; an unfinished one goes on")] = Path("runs/attributes"),
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Train attributes on photos labelled with them, on top of a model that stays as it is."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.train.attributes.attribute_recipe import read_attribute_recipe, train_attribute_recipe
    from threadmatch.model.train.loop.precision import keep_freed_memory

    keep_freed_memory()
    try:
        with Shown() as show:
            log_to_stderr()
            result = train_attribute_recipe(read_attribute_recipe(config), run, progress=show)
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    where = result.get("checkpoint") or result["network"]
    typer.echo(f"MAP on val {100 * result['val']['map_mean']:.1f} %, each attribute alike; in {where}")


def evaluate_attributes(
    out: Annotated[Path, typer.Option(help="JSON file to write; a .md table stands beside it")],
    *,
    manifest: Annotated[list[Path], typer.Option(help="with a column an attribute; again for more")],
    split: Annotated[Part, typer.Option(help="of the manifests")] = Part.TEST,
    attribute: Annotated[list[str] | None, typer.Option(help="only this one; again for more")] = None,
    model: Annotated[list[str] | None, typer.Option(help="name or folder; again for others beside the first")] = None,
    triplets: Annotated[Path | None, typer.Option(help="table of judged triplets, as on Zappos50k")] = None,
    images: Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the file's")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder that keeps encoded photos")] = None,
) -> None:
    """MAP of each attribute, beside the plain embedding and other models; own garments left out."""
    from threadmatch.model.data.attribute_labels import joined, read_attributes
    from threadmatch.model.data.manifest.rows import Split
    from threadmatch.model.data.triplet_table import read_triplets
    from threadmatch.model.descriptions import DEFAULT_MODEL
    from threadmatch.model.errors import DataError, ModelError
    from threadmatch.model.evaluate.attribute_evaluation import evaluate_attributes as measure
    from threadmatch.model.evaluate.attribute_evaluation import report_lines
    from threadmatch.model.inference import load_model

    splits = [Split(split.value)] if split is not Part.ALL else list(Split)
    try:
        parts = []
        for part in splits:
            try:
                parts.append(read_attributes(manifest, part, attribute or (), images=images))
            except DataError:
                if len(splits) == 1:
                    raise
        if not parts:
            raise DataError(f"no row of {', '.join(map(str, manifest))} has an attribute")
        photos = joined(parts)
        places = {image.id: n for n, image in enumerate(photos.images)}
        judged = None if triplets is None else read_triplets(triplets, splits[-1], places)
        with Shown() as show:
            models = {name: load_model(name) for name in model or [DEFAULT_MODEL]}
            report = measure(models, photos, cache=cache, triplets=judged, progress=show)
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    out.write_text(json.dumps(report, indent=2) + "\n")
    out.with_suffix(".md").write_text("\n".join(report_lines(report)) + "\n")
    typer.echo("\n".join(report_lines(report)))
