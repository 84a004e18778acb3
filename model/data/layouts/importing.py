"""A data set in its official layout to a manifest, in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from threadmatch.model.data.layouts import deepfashion, findfashion, zappos
from threadmatch.model.data.layouts.asen import read_asen, read_meta
from threadmatch.model.data.layouts.items import ItemSettings, item_attributes, read_items
from threadmatch.model.data.layouts.street2shop import read_street2shop
from threadmatch.model.data.layouts.tree import Notes
from threadmatch.model.data.manifest.rows import ManifestRow, image_cell, write_manifest
from threadmatch.model.data.triplet_table import write_triplets
from threadmatch.model.errors import DataError

Layout = Literal["deepfashion-c2s", "deepfashion-inshop", "street2shop", "findfashion", "asen", "zappos50k", "items"]
VAL_SHARE: Final = 0.1
"""Of the train products, where a set has no val part of its own."""
STEP: Final = 1000


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """What a layout leaves open.

    Fields:
        val_share: of the train products that become val, where there is no official val; 0 takes none.
        views: what numbers in FindFashion's view column mean.
        items: of a shop's own table.
    """

    val_share: float = VAL_SHARE
    views: Mapping[str, str] = field(default_factory=dict)
    items: ItemSettings = field(default_factory=ItemSettings)


def deepfashion_layout(root: Path) -> Layout:
    """Which of DeepFashion's two retrieval benchmarks a folder holds.

    Raises:
        DataError: neither, or both.
    """
    c2s = (root / deepfashion.C2S_BOXES).is_file()
    inshop = (root / deepfashion.INSHOP_BOXES).is_file() or (root / deepfashion.INSHOP_SEGMENTATION).is_dir()
    if c2s == inshop:
        raise DataError(
            f"{root} holds {'both' if c2s else 'neither'} {deepfashion.C2S_BOXES} (Consumer-to-Shop) "
            f"{'and' if c2s else 'nor'} {deepfashion.INSHOP_BOXES} (In-shop); give the folder of one benchmark, or say "
            "which: import-deepfashion-c2s or import-deepfashion-inshop"
        )
    return "deepfashion-c2s" if c2s else "deepfashion-inshop"


def official_manifest(path: Path, beside: Path) -> Path:
    """A manifest as it is; of a folder in DeepFashion's official layout the manifest of it, written now.

    Args:
        path: manifest, or the folder of one of the two retrieval benchmarks.
        beside: the file whose name the manifest of a folder begins with.

    Raises:
        DataError: the folder is broken, or the marks of both benchmarks are in it.
    """
    marks = (deepfashion.C2S_BOXES, deepfashion.INSHOP_BOXES, deepfashion.INSHOP_SEGMENTATION)
    if not any((path / mark).exists() for mark in marks):
        return path
    out = beside.with_name(f"{beside.stem}.manifest.csv")
    out.parent.mkdir(parents=True, exist_ok=True)
    import_layout(deepfashion_layout(path), path, out, settings=ImportSettings())
    return out


def import_layout(
    layout: Layout,
    root: Path,
    out: Path,
    *,
    settings: ImportSettings,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Read a data set in its official layout and write its manifest. Images stay where they are.

    Args:
        layout: which.
        root: folder of the data set.
        out: manifest to write, CSV or Parquet by its ending. Images below its folder are named from there, others by
            their absolute path.
        settings: what the layout leaves open.
        progress: told the rows read, now and then.

    Returns:
        Plain JSON types: manifest, rows, counts (split, then domain), notes (what was odd: count and an example); of
        Zappos50k also triplets_file, a table beside the manifest, and triplets, how many are in it.

    Raises:
        DataError: the tree is not in that layout, and why; an ending that is no manifest's.
    """
    notes = Notes()
    counts: dict[str, dict[str, int]] = {}
    rows, others = _reader(layout, root, notes, settings)

    def counted() -> Iterator[ManifestRow]:
        for number, row in enumerate(rows, start=1):
            of_split = counts.setdefault(row.split.value, {"customer": 0, "shop": 0})
            of_split[row.domain.value] += 1
            if progress is not None and number % STEP == 0:
                progress(number)
            yield replace(row, image=image_cell(Path(row.image), out))

    written = write_manifest(out, counted(), others=others)
    judged: dict[str, Any] = {}
    if layout == "zappos50k":
        table = out.with_name(f"{out.stem}.triplets{out.suffix}")
        judged = {
            "triplets_file": str(table),
            "triplets": write_triplets(table, zappos.read_zappos_triplets(root, notes)),
        }
    return {
        **judged,
        "manifest": str(out),
        "layout": layout,
        "rows": written,
        "counts": counts,
        "notes": {what: {"count": count, "example": notes.examples[what]} for what, count in notes.counts.items()},
    }


def _reader(
    layout: Layout, root: Path, notes: Notes, settings: ImportSettings
) -> tuple[Iterator[ManifestRow], tuple[str, ...]]:
    """The rows, and the further columns they have."""
    match layout:
        case "deepfashion-c2s":
            return deepfashion.read_c2s(root, notes), deepfashion.C2S_OTHERS
        case "deepfashion-inshop":
            return deepfashion.read_inshop(root, notes, val_share=settings.val_share), deepfashion.INSHOP_OTHERS
        case "street2shop":
            return read_street2shop(root, notes, val_share=settings.val_share), ()
        case "findfashion":
            rows = findfashion.read_findfashion(root, notes, val_share=settings.val_share, views=settings.views)
            return rows, findfashion.OTHERS
        case "asen":
            meta = read_meta(root)
            return read_asen(root, meta, notes), meta.attributes
        case "zappos50k":
            return zappos.read_zappos(root, notes), zappos.OTHERS
        case "items":
            attributes = item_attributes(root, settings.items)
            return read_items(root, settings.items, notes), tuple(name for name in attributes if name != "category")
