"""`threadmatch train`: a recipe file in, a checkpoint out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from threadmatch.service.cli.progress import Shown, log_to_stderr


def train(
    config: Annotated[Path, typer.Argument(help="recipe, a TOML file; see docs/training.md")],
    *,
    run: Annotated[Path, typer.Option(help="folder of the run; an unfinished one goes on")] = Path("runs/latest"),
    force: Annotated[
        bool, typer.Option(help="with `start` in the recipe: make a checkpoint even if val is ranked worse than before")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Train on your own pairs: the backbone if the recipe says so, and GRNet's head."""
    from threadmatch.model.errors import ModelError
    from threadmatch.model.train.loop.precision import keep_freed_memory
    from threadmatch.model.train.recipe import read_recipe
    from threadmatch.model.train.recipe import train as train_recipe

    keep_freed_memory()
    try:
        with Shown() as show:
            log_to_stderr()
            result = train_recipe(read_recipe(config), run, progress=show, force=force)
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if result is None:
        return
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        ways = ("global", "greedy", "grnet")  # the last only where the head was trained
        top1 = {name: result["val"][f"{name}_top1"] for name in ways if f"{name}_top1" in result["val"]}
        typer.echo(f"val top-1 {top1}; checkpoint in {result['checkpoint']}")
    if "compared_with_start" in result:
        typer.echo(_beside_start(result["compared_with_start"], forced=force), err=True)


def _beside_start(found: dict[str, Any], *, forced: bool) -> str:
    """One sentence for the person who decides whether to serve it."""
    gain, before, after = (found[name] for name in ("gain", "before", "after"))
    mean, low, high = (100 * gain["top1"][end] for end in ("mean", "low", "high"))
    said = (
        f"the right item first for {100 * after['top1']:.1f} % of val, for {100 * before['top1']:.1f} % with "
        f"{found['start']}, which was begun with ({mean:+.1f} [{low:+.1f}, {high:+.1f}])"
    )
    if not found["worse"]:
        return said
    if forced:
        return f"{said}; worse than before, and a checkpoint all the same (--force)"
    return f"{said}; worse than before: kept beside, not as a checkpoint. Serve {found['start']}, or give --force"
