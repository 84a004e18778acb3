"""`threadmatch data import-...`: a data set in its official layout to a manifest, one command a layout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from threadmatch.service.cli.progress import Shown

if TYPE_CHECKING:
    from threadmatch.model.data.layouts.importing import Layout

Root = Annotated[Path, typer.Argument(help="folder of the data set, as its archives unpack; see docs/data.md")]
Out = Annotated[Path, typer.Option(help="manifest to write, .csv or .parquet")]
ValShare = Annotated[
    float,
    typer.Option(min=0, max=0.9, help="share of the train products that become val; the set has no val of its own"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
VAL_SHARE = 0.1


def import_deepfashion(root: Root, *, out: Out, val_share: ValShare = VAL_SHARE, as_json: AsJson = False) -> None:
    """DeepFashion, Consumer-to-Shop or In-shop, whichever the folder holds."""
    _run(None, root, out, as_json=as_json, val_share=val_share)


def import_deepfashion_c2s(root: Root, *, out: Out, as_json: AsJson = False) -> None:
    """DeepFashion Consumer-to-Shop: official splits and boxes."""
    _run("deepfashion-c2s", root, out, as_json=as_json)


def import_deepfashion_inshop(
    root: Root, *, out: Out, val_share: ValShare = VAL_SHARE, as_json: AsJson = False
) -> None:
    """DeepFashion In-shop: query against gallery as `test`."""
    _run("deepfashion-inshop", root, out, as_json=as_json, val_share=val_share)


def import_street2shop(root: Root, *, out: Out, val_share: ValShare = VAL_SHARE, as_json: AsJson = False) -> None:
    """Street2Shop: the photos that you fetched, with the official pairs and boxes."""
    _run("street2shop", root, out, as_json=as_json, val_share=val_share)


def import_findfashion(
    root: Root,
    *,
    out: Out,
    val_share: ValShare = VAL_SHARE,
    views: Annotated[str, typer.Option(help="what numbers in the view column mean: 0=front,1=side,2=back")] = "",
    as_json: AsJson = False,
) -> None:
    """FindFashion: its annotations over Consumer-to-Shop and Street2Shop, grouped into its four setups."""
    meanings = dict(part.strip().partition("=")[::2] for part in views.split(",") if part.strip())
    if wrong := sorted(set(meanings.values()) - {"front", "side", "back"}):
        raise typer.BadParameter(f"--views gives {wrong}, expected front, side or back: --views 0=front,1=side,2=back")
    _run("findfashion", root, out, as_json=as_json, val_share=val_share, views=meanings)


def import_attributes(root: Root, *, out: Out, as_json: AsJson = False) -> None:
    """FashionAI or DeepFashion's attributes with ASEN's meta files: a column an attribute."""
    _run("asen", root, out, as_json=as_json)


def import_zappos50k(root: Root, *, out: Out, as_json: AsJson = False) -> None:
    """Zappos50k with the triplets of Conditional Similarity Networks, which come into a table beside the manifest."""
    _run("zappos50k", root, out, as_json=as_json)


def import_items(
    root: Annotated[Path, typer.Argument(help="table of items: image, id and columns of what is known")],
    *,
    out: Out,
    words: Annotated[
        Path | None, typer.Option(help="table of column, value, attribute, word: what the values mean")
    ] = None,
    product: Annotated[str, typer.Option(help="column that tells garments apart")] = "product_id",
    most: Annotated[int, typer.Option(min=0, help="rows of each split at most, chosen by hash; 0: all")] = 0,
    as_json: AsJson = False,
) -> None:
    """A shop's own table of items: a column an attribute."""
    from threadmatch.model.data.layouts.items import ItemSettings

    _run("items", root, out, as_json=as_json, items=ItemSettings(words, product, most))


def _run(layout: Layout | None, root: Path, out: Path, *, as_json: bool, **settings: Any) -> None:
    from threadmatch.model.data.layouts.importing import ImportSettings, deepfashion_layout, import_layout
    from threadmatch.model.errors import ModelError

    try:
        with Shown() as show:
            result = import_layout(
                layout or deepfashion_layout(root),
                root,
                out,
                settings=ImportSettings(**settings),
                progress=lambda done: show("rows", done, 0),
            )
    except (ModelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for what, note in result["notes"].items():
        typer.echo(f"note: {what}, {note['count']:,} times, such as: {note['example']}", err=True)
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    for split, counts in result["counts"].items():
        typer.echo(f"{split}: {counts['customer']:,} customer and {counts['shop']:,} shop rows")
    if "triplets_file" in result:
        typer.echo(f"{result['triplets']:,} triplets in {result['triplets_file']}")
    typer.echo(f"threadmatch data check {out}")
