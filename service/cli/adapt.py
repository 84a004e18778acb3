"""`threadmatch adapt`: an encoder that somebody else trained, made a model of one's own without labels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from threadmatch.service.cli.progress import Shown


def adapt(
    encoder: Annotated[
        str,
        typer.Argument(help="timm:, open_clip: or hf: with a name or a folder; or efficientnet_lite0"),
    ],
    photos: Annotated[Path, typer.Option(help="folder of your own photos, with all below it; no labels are needed")],
    out: Annotated[Path, typer.Option(help="folder for the model, which --model then takes everywhere")],
    *,
    image_px: Annotated[
        int, typer.Option(min=0, help="side of the square that it sees, in pixels; 0: as it was trained")
    ] = 0,
    fit: Annotated[
        Literal["own", "squash", "crop", "pad"], typer.Option(help="how it becomes that square; own: as it was trained")
    ] = "own",
    grid: Annotated[str | None, typer.Option(help="rows and columns of cells kept of a photo, such as 7x7")] = None,
    components: Annotated[
        int | None, typer.Option(min=2, help="numbers a cell; default: as many as fit into 6500 bytes an item")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="file of its weights, in place of the hub's")] = None,
    most_photos: Annotated[int, typer.Option(min=8, help="photos looked at, evenly spaced over all")] = 1000,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="compute in it where the processor can: faster, a hundredth off")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="store float16: half the disk, a thousandth off")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON on stdout")] = False,
) -> None:
    """Take over a trained encoder (CLIP, SigLIP, DINOv2, any timm network): minutes, no labels, no training."""
    from rich.console import Console

    from threadmatch.model.adapting.adapt import AdaptSettings
    from threadmatch.model.adapting.adapt import adapt as make
    from threadmatch.model.errors import ModelError
    from threadmatch.model.inference import chosen_device

    console = Console(stderr=True)
    try:
        settings = AdaptSettings(
            image_px=image_px,
            fit=None if fit == "own" else fit,
            grid=_grid(grid),
            components=components,
            weights=weights,
            photos_most=most_photos,
            bfloat16=bfloat16,
            half=half,
            device=chosen_device(device),
        )
        with Shown(console) as show:
            report = make(encoder, photos, out, settings=settings, progress=show)
    except (ModelError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else _told(report))


def _grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    rows, times, columns = text.partition("x")
    if not (times and rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise typer.BadParameter(f"--grid {text!r} is not ROWSxCOLUMNS, such as 7x7")
    return int(rows), int(columns)


def _told(report: dict[str, Any]) -> str:
    rows, columns = report["grid"]
    framing = report["framing"]
    own = "x".join(map(str, report["own_grid"]))
    lines = [
        f"{report['encoder']}: photos of {report['image_px']} pixels, fit by {framing['fit']}, {own} tokens or cells",
        f"stage one: {report['embedding']} numbers, {report['embedding_is']}",
        f"stage two: {rows}x{columns} cells of {report['components']} components, which hold "
        f"{report['components_hold']:.0%} of what {report['photos']} photos show",
        f"{report['item_bytes']} bytes an item; {report['seconds']:.0f} s",
    ]
    if skipped := report["skipped"]:
        lines.append(f"{len(skipped)} photos could not be read, the first: {skipped[0]}")
    return "\n".join([*lines, f"--model {report['checkpoint']}", ""])
