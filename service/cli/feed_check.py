"""The part of `threadmatch data check` that looks at a shop's catalogue: how each column was understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def is_manifest(path: Path) -> bool:
    """Whether a table has a column that manifests alone have; what cannot be read is left to who reads it."""
    from threadmatch.model.data.manifest.rows import COLUMNS
    from threadmatch.model.data.tables.naming import Naming
    from threadmatch.model.data.tables.opening import open_source
    from threadmatch.model.errors import ModelError

    try:
        columns = open_source(path, Naming(COLUMNS)).columns
    except (ModelError, OSError):
        return True
    return "domain" in columns or "split" in columns


def check_feed(path: Path, mapped: dict[str, str], preset: str, *, as_json: bool) -> None:
    """Say how a catalogue would be read. Exit 1 where it cannot be, or rows would be rejected."""
    from threadmatch.indexer.catalogue.understanding import understand
    from threadmatch.indexer.errors import CatalogueError

    try:
        result = understand(path, mapped, preset)
    except (CatalogueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else "\n".join(_lines(result)))
    if not result["ok"]:
        raise typer.Exit(1)


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{result['catalogue']}: a catalogue of {result['usable']:,} photos of {result['products']:,} products"]
    for name, column in result["columns"].items():
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in column["kinds"].items())
        examples = ", ".join(json.dumps(value, ensure_ascii=False) for value in column["examples"])
        lines.append(f"  {name}: {kinds}" + (f"; such as {examples}" if examples else ""))
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    lines += [f"rejected: row {one['row']}: {one['message']}" for one in result["rejects"]]
    if (more := result["rejected"] - len(result["rejects"])) > 0:
        lines.append(f"and {more:,} rejected rows more")
    return [*lines, "photos were not opened; `threadmatch ingest` does that"]
