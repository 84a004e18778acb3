"""`threadmatch data check`: what is wrong with a manifest, where, and what to do; how a catalogue is understood."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from threadmatch.service.cli.feed_check import check_feed, is_manifest
from threadmatch.service.cli.feed_options import Mapped, Preset, mapping
from threadmatch.service.cli.progress import Shown


def check(
    manifest: Annotated[Path, typer.Argument(help="a manifest, see docs/data.md, or a shop's catalogue")],
    *,
    images: Annotated[Path | None, typer.Option(help="folder that image paths are below; default: the file's")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="do not open images, only see that they are there")] = False,
    shown: Annotated[int, typer.Option(min=1, help="problems of a kind to print")] = 5,
    report: Annotated[
        Path | None, typer.Option(help="CSV file for all problems; default: MANIFEST.problems.csv, if there are any")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="processes that open images; 0 takes one a core")] = 0,
    mapped: Mapped = None,
    preset: Preset = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Check the rows, the rows against each other, and the images. Exit 0: no error; 1: errors; 2: wrong use.

    Of a shop's catalogue, which has no columns `domain` and `split`, it says how each column was understood.
    """
    from threadmatch.model.data.manifest.check import CheckSettings, check_manifest
    from threadmatch.model.errors import ModelError

    if preset or mapped or not is_manifest(manifest):
        check_feed(manifest, mapping(mapped or []), preset.value if preset else "", as_json=as_json)
        return
    if report is None and os.access(manifest.parent, os.W_OK):
        report = manifest.with_suffix(".problems.csv")
    settings = CheckSettings(images=images, quick=quick, shown=shown, report=report, workers=workers)
    try:
        with Shown() as show:
            result = check_manifest(
                manifest, settings, progress=lambda stage, done, total: show(stage, done, total or 0)
            )
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        typer.echo("\n".join(_lines(result)))
    if not result["ok"]:
        raise typer.Exit(1)


def _lines(result: dict[str, Any]) -> list[str]:
    """The result in words."""
    counts = result["counts"]
    lines = [f"{result['manifest']}: {result['rows']:,} rows, {result['images']['files']:,} images"]
    lines += [
        f"  {split}: {some.get('customer', 0):,} customer images of {some.get('customer_products', 0):,} products, "
        f"{some.get('shop', 0):,} shop images of {some.get('shop_products', 0):,}"
        for split, some in counts["split"].items()
    ]
    for name in ("setup", "category"):
        if counts[name]:
            lines.append(f"  {name}: " + ", ".join(f"{value} {count:,}" for value, count in counts[name].items()))
    for kind, problem in result["problems"].items():
        lines += ["", f"{problem['severity']}: {kind}, {problem['count']:,} times. {problem['advice']}"]
        for example in problem["examples"]:
            where = f"{result['place']} {example['row']}: " if example["row"] is not None else ""
            lines.append(f"  {where}{example['message']}")
        if (left := problem["count"] - len(problem["examples"])) > 0:
            lines.append(f"  and {left:,} more")
    lines.append("")
    if result["report_file"]:
        lines.append(f"all of them: {result['report_file']}")
    unopened = "" if result["images"]["opened"] else "; images were not opened (--quick)"
    lines.append(f"{result['errors']:,} errors, {result['warnings']:,} warnings{unopened}")
    return lines
