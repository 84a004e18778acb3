"""How a catalogue was understood, column by column, before anything of it is encoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from threadmatch.indexer.catalogue.rows import Catalogue, CatalogueRow
from threadmatch.indexer.catalogue.values import kind_of

EXAMPLES: Final = 3
REJECTS_SHOWN: Final = 5


def understand(path: Path, mapped: dict[str, str] | None = None, preset: str = "") -> dict[str, Any]:
    """Read a catalogue through as an ingestion would; no photo is opened.

    Args:
        path, mapped, preset: see `Catalogue.open`.

    Returns:
        Plain JSON types: catalogue, rows, usable (rows), products, columns (by name: kinds with how many cells are of
        each, examples), warnings, rejects (the first few: row, reason, message), ok.

    Raises:
        CatalogueError: it cannot be read as a catalogue at all.
    """
    catalogue = Catalogue.open(path, mapped, preset)
    columns: dict[str, dict[str, Any]] = {}
    rejects: list[dict[str, Any]] = []
    products: set[str] = set()
    usable = rejected = 0
    for row in catalogue:
        if not isinstance(row, CatalogueRow):
            rejected += 1
            if len(rejects) < REJECTS_SHOWN:
                rejects.append({"row": row.row, "reason": row.reason, "message": row.message})
            continue
        usable += 1
        products.add(row.product_id or row.id)
        own = {"id": row.id, "image": row.image, "product_id": row.product_id, "box": row.box or None}
        for name, value in (own | json.loads(row.metadata)).items():
            _add(columns.setdefault(name, {"kinds": {}, "examples": []}), value)
    warnings = [*catalogue.warnings, *filter(None, (_mixed(name, column) for name, column in columns.items()))]
    return {
        "ok": not rejected,
        "catalogue": str(path),
        "rows": catalogue.rows,
        "usable": usable,
        "rejected": rejected,
        "products": len(products),
        "columns": columns,
        "warnings": warnings,
        "rejects": rejects,
    }


def _add(column: dict[str, Any], value: Any) -> None:
    kind = kind_of(value)
    column["kinds"][kind] = column["kinds"].get(kind, 0) + 1
    shown = value if not isinstance(value, str) else value[:60]
    if value is not None and len(column["examples"]) < EXAMPLES and shown not in column["examples"]:
        column["examples"].append(shown)


def _mixed(name: str, column: dict[str, Any]) -> str:
    kinds = {kind: count for kind, count in column["kinds"].items() if kind != "empty"}
    if len(kinds) < 2 or kinds.keys() == {"integer", "number"}:
        return ""
    told = " and ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    return f"column {name!r} holds {told}: a filter finds those alone that are of its constant's kind"
