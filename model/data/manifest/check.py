"""Checks a manifest: its rows one by one, the rows against each other, and the images they name.

Rows are compared in a private SQLite database on disk, so a million of them need little memory.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from threadmatch.model.data.manifest.findings import KINDS, Findings
from threadmatch.model.data.manifest.images_check import look_at_images
from threadmatch.model.data.manifest.rows import AND, Domain, Manifest, ManifestRow, Split, parse_row
from threadmatch.model.data.tables.photo_files import find_photo
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.images import Box

Progress = Callable[[str, int, int | None], None]
"""Called with the stage (rows, images), how many are done, and how many there are (None: not known)."""

SHOWN: Final = 5
CATEGORIES_SHOWN: Final = 50
STEP: Final = 1000
_EDGE_PX: Final = 1.5
"""Boxes that count pixels from one, or name the last pixel, reach this far past the edge and are as good."""
_ROWS: Final = "row INTEGER, file TEXT, product TEXT, domain TEXT, split TEXT, id TEXT, box TEXT, category TEXT"


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How to check.

    Fields:
        images: root of the image paths; None takes the manifest's folder.
        quick: do not open images, only see that they are there.
        shown: findings of a kind in the report.
        report: file for all findings; None writes none.
        workers: processes that open images; 0 takes all cores.
    """

    images: Path | None = None
    quick: bool = False
    shown: int = SHOWN
    report: Path | None = None
    workers: int = 0


def check_manifest(path: Path, settings: CheckSettings, *, progress: Progress | None = None) -> dict[str, Any]:
    """Check a manifest.

    Args:
        path: of the manifest.
        settings: how.
        progress: told now and then.

    Returns:
        Plain JSON types: ok, manifest, rows, usable_rows, errors, warnings, problems (by kind: severity, count, advice,
        examples), counts, images, report_file, seconds. `ok` where there is no error.

    Raises:
        DataError: the file cannot be read as a manifest at all. OSError: no room for the report or the database.
    """
    started = time.monotonic()
    manifest = Manifest(path)
    tell: Progress = progress or (lambda *_: None)
    found = Findings(shown=settings.shown, path=settings.report, place=manifest.place)
    with found, closing(sqlite3.connect("")) as rows:
        for line in ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "PRAGMA cache_size=-65536"):
            rows.execute(line)
        rows.execute(f"CREATE TABLE rows ({_ROWS})")
        rows.execute("CREATE TABLE images (file TEXT PRIMARY KEY, digest TEXT, width INTEGER, height INTEGER)")
        read, setups = _read(manifest, rows, settings.images or (path if path.is_dir() else path.parent), found, tell)
        _check_products(rows, found)
        _check_repeats(rows, found)
        opened = _check_images(rows, found, settings, tell)
        _check_boxes(rows, found)
        _check_same_images(rows, found)
        counts = _counts(rows, setups)
    return {
        "ok": found.count("error") == 0,
        "manifest": str(path),
        "place": manifest.place,
        "rows": read,
        "usable_rows": sum(counts["domain"].values()),
        "errors": found.count("error"),
        "warnings": found.count("warning"),
        "problems": _problems(found),
        "counts": counts,
        "images": {"files": opened, "opened": not settings.quick},
        "report_file": str(found.written) if found.written else None,
        "seconds": round(time.monotonic() - started, 3),
    }


def _problems(found: Findings) -> dict[str, Any]:
    return {
        kind: {
            "severity": KINDS[kind].severity,
            "count": found.by_kind[kind].count,
            "advice": KINDS[kind].advice,
            "examples": [{"row": row, "message": message} for row, message in found.by_kind[kind].examples],
        }
        for kind in KINDS
        if kind in found.by_kind
    }


def _read(
    manifest: Manifest, rows: sqlite3.Connection, root: Path, found: Findings, tell: Progress
) -> tuple[int, Counter[str]]:
    """Every row on its own; the usable ones go into the database. Rows read, and the setups of the usable ones."""
    for doubt in manifest.doubts:
        found.add("misspelt_column", doubt)
    setups: Counter[str] = Counter()
    read = 0

    def usable() -> Iterator[tuple[Any, ...]]:
        nonlocal read
        for number, cells in manifest:
            read += 1
            if read % STEP == 0:
                tell("rows", read, None)
            if isinstance(cells, str):
                found.add("bad_row", cells, number)
                continue
            row, faults = parse_row(cells)
            for fault in faults:
                found.add(fault.kind, fault.message, number)
            if row is not None:
                setups.update(part for part in row.setup.split(AND) if part)
                yield _values(number, row, root)

    rows.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", usable())
    for note in manifest.notes:
        found.add("odd_table", note)
    tell("rows", read, read)
    if not read:
        found.add("bad_row", "the manifest has a header and no rows")
    for split in Split:
        if read and not rows.execute("SELECT 1 FROM rows WHERE split = ? LIMIT 1", (split.value,)).fetchone():
            found.add("missing_split", f"no usable row is in split {split.value}")
    return read, setups


def _values(number: int, row: ManifestRow, root: Path) -> tuple[Any, ...]:
    file = os.path.normpath(find_photo(root, row.image))
    return number, file, row.product_id, row.domain.value, row.split.value, row.id, str(row.box or ""), row.category


def _check_products(rows: sqlite3.Connection, found: Findings) -> None:
    """Each product in one split, and each that is asked for there to be found."""
    query = "SELECT product, split, domain, MIN(row), COUNT(*) FROM rows GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    for product, group in groupby(rows.execute(query), key=lambda values: values[0]):
        groups = list(group)
        first = {split: min(row for _, s, _, row, _ in groups if s == split) for _, split, *_ in groups}
        if len(first) > 1:
            where = ", ".join(
                f"{split} ({found.place} {row})" for split, row in sorted(first.items(), key=lambda pair: pair[1])
            )
            found.add("product_in_two_splits", f"product {product!r} is in {where}", min(first.values()))
        sold = {split for _, split, domain, *_ in groups if domain == Domain.SHOP}
        for _, split, domain, row, count in groups:
            if domain == Domain.CUSTOMER and split not in sold:
                kind = "unused_query" if split == Split.TRAIN else "unanswerable_query"
                found.add(kind, f"product {product!r} has {count} customer and no shop images in {split}", row)


def _check_repeats(rows: sqlite3.Connection, found: Findings) -> None:
    query = "SELECT id, domain, MIN(row), MAX(row), COUNT(*) FROM rows WHERE id <> '' GROUP BY 1, 2 HAVING COUNT(*) > 1"
    for id_, domain, first, last, count in rows.execute(query):
        found.add(
            "duplicate_id",
            f"{count} {domain} rows have the id {id_!r}, {found.place} {first} and {last} among them",
            first,
        )
    query = (
        "SELECT file, MIN(row), MAX(row), COUNT(*) FROM rows GROUP BY file, product, domain, box HAVING COUNT(*) > 1"
    )
    for file, first, last, count in rows.execute(query):
        found.add(
            "duplicate_row",
            f"{file} is listed {count} times with the same product and box, last in {found.place} {last}",
            first,
        )


def _check_images(rows: sqlite3.Connection, found: Findings, settings: CheckSettings, tell: Progress) -> int:
    """Look at every image once; how many there are."""
    total = int(rows.execute("SELECT COUNT(DISTINCT file) FROM rows").fetchone()[0])
    named = rows.execute("SELECT file, MIN(row) AS first, COUNT(*) FROM rows GROUP BY file ORDER BY first")
    waiting: deque[tuple[int, int]] = deque()

    def files() -> Iterator[str]:
        for file, first, count in named:
            waiting.append((first, count))
            yield file

    workers = settings.workers or os.cpu_count() or 1
    done = 0
    for image in look_at_images(files(), quick=settings.quick, workers=workers):
        first, count = waiting.popleft()
        done += 1
        if done % (STEP if settings.quick else 50) == 0:
            tell("images", done, total)
        if image.fault:
            used = f" (used by {count} rows)" if count > 1 else ""
            found.add(image.fault, image.message + used, first)
        else:
            values = (image.file, image.digest, image.width, image.height)
            rows.execute("INSERT INTO images VALUES (?, ?, ?, ?)", values)
    tell("images", done, total)
    return total


def _check_boxes(rows: sqlite3.Connection, found: Findings) -> None:
    query = (
        "SELECT row, box, width, height FROM rows JOIN images USING (file) WHERE box <> '' AND width > 0 ORDER BY row"
    )
    for row, text, width, height in rows.execute(query):
        box = Box.parse(text)
        try:
            box.clipped(width, height)
        except InvalidImageError as error:
            found.add("box_outside", str(error), row)
            continue
        past = max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)
        if past > _EDGE_PX:
            message = f"the box {text} reaches {past:g} pixels past the image of {width} x {height}"
            found.add("box_past_edge", message, row)


def _check_same_images(rows: sqlite3.Connection, found: Findings) -> None:
    """The same bytes (or, where images were not opened, the same file) in places that exclude each other."""
    query = (
        "SELECT digest, split, product, domain, box, MIN(row), file FROM rows JOIN images USING (file) "
        "GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 6"
    )
    for _, group in groupby(rows.execute(query), key=lambda values: values[0]):
        uses = list(group)
        if len(uses) == 1:
            continue
        first = uses[0][5]
        where = ", ".join(
            f"{found.place} {row}: {split} {domain} {product!r}" for _, split, product, domain, _, row, _ in uses[:4]
        )
        if len({split for _, split, *_ in uses}) > 1:
            found.add("image_in_two_splits", f"the same image: {where}", first)
            continue
        by_box: dict[str, set[str]] = {}
        for _, _, product, _, box, _, _ in uses:
            by_box.setdefault(box, set()).add(product)
        if any(len(products) > 1 for products in by_box.values()):
            found.add("image_of_two_products", f"the same image, the same box: {where}", first)
        if len({domain for _, _, _, domain, *_ in uses}) > 1:
            found.add("query_is_shop_image", f"the same image: {where}", first)


def _counts(rows: sqlite3.Connection, setups: Counter[str]) -> dict[str, Any]:
    def by(column: str) -> dict[str, int]:
        query = f"SELECT {column}, COUNT(*) FROM rows WHERE {column} <> '' GROUP BY 1 ORDER BY 2 DESC LIMIT ?"  # noqa: S608
        return dict(rows.execute(query, (CATEGORIES_SHOWN,)).fetchall())

    splits: dict[str, dict[str, int]] = {}
    query = "SELECT split, domain, COUNT(*), COUNT(DISTINCT product) FROM rows GROUP BY 1, 2"
    for split, domain, count, products in rows.execute(query):
        splits.setdefault(split, {}).update({domain: count, f"{domain}_products": products})
    return {
        "domain": by("domain"),
        "split": {split.value: splits[split] for split in Split if split in splits},
        "category": by("category"),
        "setup": dict(setups.most_common()),
    }
