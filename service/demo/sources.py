"""What the demo searches: a folder that was named, real photos beside the checkout, those that ship, or drawn garments.

Each source becomes a catalogue for `threadmatch ingest` and a queries.csv with the right answers.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from threadmatch.indexer.catalogue.rows import Catalogue, CatalogueRow
from threadmatch.indexer.errors import CatalogueError
from threadmatch.model.data.photo_folder import IMAGE_SUFFIXES, photos_below
from threadmatch.model.data.tables.opening import SUFFIXES
from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.street.street_set import build_street_set, holds_garments
from threadmatch.model.synthetic.street.streetify import SourcePhoto, make_street_queries
from threadmatch.service.demo.errors import DemoError

SHIPPED_PHOTOS: Final = Path(__file__).parent / "photos"
"""A small gallery of people's own garments; its README says whose."""
DRAWN_SEED: Final = 7
KNOWN_TABLE: Final = "items.csv"
QUERIES_TABLE: Final = "queries.csv"
CATALOGUE_STEMS: Final = ("catalogue", "catalog", "gallery", "items", "products")
MOST_ROWS_LOOKED_AT: Final = 100_000
SEMI_SYNTHETIC: Final = (
    "semi-synthetic: each is a garment cut out of a photo, warped, relit, cropped or covered, and set before another "
    "background"
)

RunStep = Callable[[Sequence[str]], None]
"""Runs `threadmatch` with these arguments, after printing the command."""


@dataclass(frozen=True, slots=True)
class DemoSource:
    """What to ingest and what to ask.

    Fields:
        title: what the gallery holds, in words.
        catalogue: for `threadmatch ingest`.
        images: the folder its paths are below.
        queries: CSV: image, product_id, optional box and setup; paths are below its own folder.
        about_queries: how the queries came to be, in words.
        work: folder for the gallery.
    """

    title: str
    catalogue: Path
    images: Path
    queries: Path
    about_queries: str
    work: Path


def choose_source(
    data: Path | None,
    work: Path,
    *,
    queries: int,
    parts: Sequence[str] | None,
    drawn_items: int | None,
    run_step: RunStep,
) -> DemoSource:
    """Find or make the gallery of the demo.

    Args:
        data: the folder that was named, if one was.
        work: folder for what has to be made.
        queries: how many to make where there are none.
        parts: sub-folders of the real photos to take; None takes all.
        drawn_items: garments to draw in place of photos; None draws none.
        run_step: draws them.

    Raises:
        DemoError: the folder holds nothing to search.
    """
    if data is None:
        if drawn_items:
            return _drawn(work / "drawn", drawn_items, queries, run_step)
        return _known(real_photos() or SHIPPED_PHOTOS, work, queries, parts)
    if not data.is_dir():
        raise DemoError(f"no folder {data}; give a folder of images, with or without a catalogue in it")
    if _known_parts(data):
        try:
            return _known(data, work, queries, parts)
        except DataError:
            pass  # tables of that name, but other columns: an ordinary catalogue
    return _given(data, work, queries)


def real_photos() -> Path | None:
    """The folder of real photos that stands beside some checkouts."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.path.relpath(folder)) if folder.is_dir() and _known_parts(folder) else None


def _known_parts(root: Path) -> list[str]:
    """Sub-folders with an items.csv of garments; "." where the folder itself has one."""
    if (root / KNOWN_TABLE).is_file():
        return ["."] if holds_garments(root) else []
    return sorted(path.parent.name for path in root.glob(f"*/{KNOWN_TABLE}") if holds_garments(path.parent))


def _known(root: Path, work: Path, queries: int, parts: Sequence[str] | None) -> DemoSource:
    """Photos of which we know what no shipped model was trained on: the test split, one photo an item."""
    found = _known_parts(root)
    if found == ["."]:
        root, found = root.resolve().parent, [root.resolve().name]
    names = [name for name in found if parts is None or name in parts]
    chosen = len(names) < len(found) or len(names) == 1
    work = work / "-".join(["photos", *(names if chosen else [])])
    # Queries of a few of the gallery's products, by the same code that makes the sets which models are measured on.
    build_street_set(root, work / "asked", sources=names, per_item=1, limit=2 * queries)
    build_street_set(root, work, sources=names, per_item=0)
    with (work / "gallery.csv").open(newline="", encoding="utf-8") as file:
        counts = Counter(row["source"] for row in csv.DictReader(file))
    said = ", ".join(f"{count} of {name}" for name, count in sorted(counts.items()))
    title = f"{counts.total()} real photos that the model was not trained on ({said})"
    return DemoSource(title, work / "gallery.csv", root, work / "asked" / QUERIES_TABLE, SEMI_SYNTHETIC, work)


def _drawn(work: Path, items: int, queries: int, run_step: RunStep) -> DemoSource:
    size = ["--items", str(items), "--queries", str(queries), "--seed", str(DRAWN_SEED)]
    run_step(["data", "draw", "--out", str(work), *size])
    title = f"{items} drawn garments"
    about = "drawn: garments of the gallery, worn, turned, cropped or covered"
    return DemoSource(title, work / "catalogue.csv", work, work / QUERIES_TABLE, about, work)


def _given(data: Path, work: Path, queries: int) -> DemoSource:
    """A folder as it is: its catalogue if it has one, else every image in it."""
    work = work / f"given-{data.resolve().name}"
    work.mkdir(parents=True, exist_ok=True)
    catalogue = _catalogue_in(data)
    if catalogue is None:
        catalogue = work / "catalogue.csv"
        _list_images(data, catalogue)
        title = f"every image in {data}"
    else:
        title = f"the catalogue {catalogue}"
    if (data / QUERIES_TABLE).is_file():
        return DemoSource(title, catalogue, data, data / QUERIES_TABLE, f"the first of {data / QUERIES_TABLE}", work)
    _make_queries(_photos_of(catalogue, data), work, queries)
    return DemoSource(title, catalogue, data, work / QUERIES_TABLE, SEMI_SYNTHETIC, work)


def _catalogue_in(data: Path) -> Path | None:
    tables = [path for path in sorted(data.iterdir()) if path.suffix.lower() in SUFFIXES]
    tables = [path for path in tables if path.name != QUERIES_TABLE and path.is_file()]
    for stem in CATALOGUE_STEMS:
        for path in tables:
            if path.stem.lower() == stem:
                return path
    if len(tables) > 1:
        raise DemoError(
            f"{data} holds several tables ({', '.join(path.name for path in tables[:5])}); name the catalogue "
            f"{CATALOGUE_STEMS[0]}.csv, .jsonl or .parquet"
        )
    return tables[0] if tables else None


def _list_images(data: Path, catalogue: Path) -> None:
    """Write a catalogue of every image below a folder; what ingestion can't read it will say."""
    count = 0
    with catalogue.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "image", "name", "folder"))
        for path in photos_below(data):
            relative = path.relative_to(data)
            writer.writerow((relative.as_posix(), relative.as_posix(), path.stem, relative.parent.as_posix()))
            count += 1
    if not count:
        raise DemoError(f"no images in {data}, nor below it; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")


def _photos_of(catalogue: Path, images: Path) -> list[SourcePhoto]:
    """The catalogue's rows whose photos lie on this disk."""
    root = images.resolve()
    photos = []
    try:
        for row in itertools.islice(Catalogue.open(catalogue), MOST_ROWS_LOOKED_AT):
            if not isinstance(row, CatalogueRow):
                continue
            path = (root / row.image).resolve()
            if path.is_relative_to(root):
                product = row.product_id or row.id
                owner = str(json.loads(row.metadata).get("photographer") or product)
                photos.append(SourcePhoto(path, row.id, product, owner))
    except CatalogueError as error:
        raise DemoError(str(error)) from error
    return photos


def _make_queries(photos: Sequence[SourcePhoto], work: Path, count: int) -> None:
    if not make_street_queries(photos, work, count=count):
        raise DemoError(
            f"no street photo could be made: none of the {len(photos)} photos of the catalogue can be read; look at "
            f"the paths in it, or add a {QUERIES_TABLE} (image, product_id)"
        )
