"""One form for every labelled set of photos: a manifest, CSV or Parquet, a row for each garment in each image.

    image        path below the images' root (else the manifest's own folder), or absolute
    product_id   the garment; a query is answered by a shop image with its product_id
    domain       customer (asks) or shop (answers)
    split        train, val or test
    id           optional, unique among the shop's rows; else the image's path
    box          optional, x0,y0,x1,y1 in pixels of the upright image
    category     optional
    setup        optional: easy, hard_cropping, hard_occlusion, hard_view; several hard ones joined with "+"

Further columns are kept. Rows are read one at a time; nothing here holds a whole manifest.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from threadmatch.model.data.pairs import LabelledImage, read_labelled, refuse_or_skip
from threadmatch.model.data.setups import Setup
from threadmatch.model.data.tables.labelled import Cells, open_table
from threadmatch.model.data.tables.opening import SUFFIXES, part_files
from threadmatch.model.data.tables.photo_files import find_photo
from threadmatch.model.data.tables.writing import write_table
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import Box


class Domain(StrEnum):
    """Which side of the search a row stands on."""

    CUSTOMER = "customer"
    SHOP = "shop"


class Split(StrEnum):
    """What a row may be used for; no product stands in two."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


REQUIRED: Final = ("image", "product_id", "domain", "split")
OPTIONAL: Final = ("id", "box", "category", "setup")
COLUMNS: Final = (*REQUIRED, *OPTIONAL)
AND: Final = "+"
"""Joins the setups of a query that is hard in more than one way."""

_ALSO_CALLED: Final = {
    "consumer": "customer", "street": "customer", "user": "customer", "query": "customer", "wild": "customer",
    "gallery": "shop", "catalogue": "shop", "catalog": "shop", "store": "shop", "online": "shop",
    "training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test", "eval": "test",
    "normal": "easy", "cropping": "hard_cropping", "cropped": "hard_cropping", "crop": "hard_cropping",
    "occlusion": "hard_occlusion", "occluded": "hard_occlusion", "view": "hard_view", "side": "hard_view",
    "back": "hard_view",
    "product": "product_id", "item_id": "product_id", "item": "product_id", "sku": "product_id", "label": "category",
    "path": "image", "file": "image", "filename": "image", "image_path": "image", "image_name": "image",
    "bbox": "box", "source": "domain", "source_type": "domain", "status": "split", "evaluation_status": "split",
    "set": "split", "partition": "split",
}  # fmt: skip
"""What other data sets call it; only ever offered, never taken."""


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One garment in one image. `others` are the further columns, name and text."""

    image: str
    product_id: str
    domain: Domain
    split: Split
    id: str = ""
    box: Box | None = None
    category: str = ""
    setup: str = ""
    others: tuple[tuple[str, str], ...] = ()

    def cells(self) -> dict[str, str]:
        """The row as it is written."""
        own = (self.image, self.product_id, self.domain.value, self.split.value, self.id)
        return dict(zip(COLUMNS, (*own, str(self.box or ""), self.category, self.setup), strict=True)) | dict(
            self.others
        )


@dataclass(frozen=True, slots=True)
class RowFault:
    """One thing wrong with one row: a short stable code, and what to do in words."""

    kind: str
    message: str


def nearest(text: str, known: Collection[str]) -> str:
    """The known word that was most likely meant, or "" where none is near."""
    plain = text.strip().casefold()
    if (other := _ALSO_CALLED.get(plain)) in known:
        return str(other)
    return next(iter(difflib.get_close_matches(plain, list(known), n=1, cutoff=0.6)), "")


def parse_row(cells: Mapping[str, str]) -> tuple[ManifestRow | None, list[RowFault]]:
    """Check one row's cells.

    Returns:
        The row, or None where it cannot be used, and everything wrong with it.
    """
    faults = [
        RowFault("empty_field", f"{name} is empty; every row needs {', '.join(REQUIRED)}")
        for name in REQUIRED
        if not cells.get(name)
    ]
    domain, split = (_word(cells, name, words, faults) for name, words in (("domain", Domain), ("split", Split)))
    setups = [_word({"setup": part}, "setup", Setup, faults) for part in cells.get("setup", "").split(AND) if part]
    if len(setups) > 1 and Setup.EASY in setups:
        faults.append(RowFault("bad_setup", f"setup {cells['setup']!r} is easy and hard at once; keep one of them"))
    box = None
    if text := cells.get("box", ""):
        try:
            box = Box.parse(text)
        except InvalidImageError as error:
            faults.append(RowFault("bad_box", str(error)))
    if faults:
        return None, faults
    assert domain is not None, "a word that is missing is a fault"
    assert split is not None, "a word that is missing is a fault"
    row = ManifestRow(
        image=cells["image"],
        product_id=cells["product_id"],
        domain=Domain(domain),
        split=Split(split),
        id=cells.get("id", ""),
        box=box,
        category=cells.get("category", ""),
        setup=AND.join(str(setup) for setup in setups),
        others=tuple((name, text) for name, text in cells.items() if name not in COLUMNS),
    )
    return row, []


def _word(cells: Mapping[str, str], name: str, words: type[StrEnum], faults: list[RowFault]) -> StrEnum | None:
    text = cells.get(name, "").strip()
    if not text:
        return None
    try:
        return words(text.casefold())
    except ValueError:
        known = [word.value for word in words]
        hint = f"; did you mean {near!r}?" if (near := nearest(text, known)) else ""
        faults.append(RowFault(f"bad_{name}", f"{name} is {text[:80]!r}, expected one of {', '.join(known)}{hint}"))
        return None


class Manifest:
    """A manifest file. Each iteration reads it anew: (number, cells), or (number, what is wrong with that row).

    Fields:
        path: of the file.
        place: "line" (of a text file, the header is line 1) or "row" (of a Parquet file, from 1): what numbers count.
        doubts: columns that look like a misspelt optional one, in words.

    Raises:
        DataError: missing, unreadable, of an unknown kind, or without a column that every manifest has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = open_table(path, COLUMNS)
        self.place = self._table.place
        columns = self._table.columns
        if missing := [name for name in REQUIRED if name not in columns]:
            raise DataError(f"{path} has no column {_columns_wanted(missing, columns)}; found {', '.join(columns)}")
        self.doubts = [
            f"column {name!r} is not read; did you mean {near!r}?"
            for name in columns
            if name not in COLUMNS and (near := nearest(name, OPTIONAL)) and near not in columns
        ]

    def __iter__(self) -> Iterator[tuple[int, Cells | str]]:
        return iter(self._table)

    @property
    def notes(self) -> list[str]:
        """What was odd about the file and taken all the same."""
        return self._table.notes

    def rows(self, faults: list[str] | None = None) -> Iterator[tuple[int, ManifestRow]]:
        """Every row that can be used with its number.

        Args:
            faults: what is wrong with each other row is added to it, its place in front; None raises at the first.

        Raises:
            DataError: without `faults`, at the first row that cannot be used; the row is named.
        """
        for number, cells in self:
            row, found = (None, [RowFault("bad_row", cells)]) if isinstance(cells, str) else parse_row(cells)
            if row is not None:
                yield number, row
                continue
            said = f"{self.place} {number}: {'; '.join(fault.message for fault in found)}"
            if faults is None:
                raise DataError(f"{self.path}, {said}. `threadmatch data check` lists all such rows")
            faults.append(said)


def _columns_wanted(missing: Sequence[str], columns: Sequence[str]) -> str:
    free = [name for name in columns if name not in COLUMNS]
    by_meaning = {near: name for name in free if (near := nearest(name, missing))}
    return ", ".join(f"{m!r}" + (f" (rename {by_meaning[m]!r}?)" if m in by_meaning else "") for m in missing)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a manifest to take.

    Fields:
        split: of the queries.
        gallery_splits: of the shop's images; empty takes `split` alone. Protocols differ here: see docs/data.md.
        categories: only these; empty takes all.
        images: root of the image paths; None takes the manifest's folder.
    """

    split: Split
    gallery_splits: tuple[Split, ...] = ()
    categories: tuple[str, ...] = ()
    images: Path | None = None


def read_manifest(
    path: Path, selection: Selection, *, skip_bad: bool = False
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The gallery and the queries of one split; rows of others are checked, not kept.

    Args:
        path: of the manifest.
        selection: what to take.
        skip_bad: leave out rows that cannot be used, with a warning, in place of refusing the manifest.

    Raises:
        DataError: as `Manifest`; rows that cannot be used, all of them listed; no gallery or no queries of that split.
    """
    root = selection.images or (path if path.is_dir() else path.parent)
    wanted = {Domain.CUSTOMER: {selection.split}, Domain.SHOP: set(selection.gallery_splits or (selection.split,))}
    taken: dict[Domain, list[LabelledImage]] = {Domain.SHOP: [], Domain.CUSTOMER: []}
    seen: dict[str, int] = {}
    manifest = Manifest(path)
    faults: list[str] = []
    for number, row in manifest.rows(faults):
        seen[f"{row.split} {row.domain}"] = seen.get(f"{row.split} {row.domain}", 0) + 1
        if row.split in wanted[row.domain] and (not selection.categories or row.category in selection.categories):
            taken[row.domain].append(labelled(row, root, f"{path}, {manifest.place} {number}"))
    if faults:
        advice = "`threadmatch data check` says more"
        refuse_or_skip(f"{len(faults)} rows of {path} cannot be used ({advice})", faults, skip=skip_bad)
    if empty := [domain.value for domain, images in taken.items() if not images]:
        of = f" of {', '.join(selection.categories)}" if selection.categories else ""
        found = ", ".join(f"{count} {name}" for name, count in sorted(seen.items())) or "no rows"
        raise DataError(f"{path} has no {' and no '.join(empty)} rows in split {selection.split}{of}; found {found}")
    return taken[Domain.SHOP], taken[Domain.CUSTOMER]


def labelled(row: ManifestRow, root: Path, where: str = "") -> LabelledImage:
    """A row as training and evaluation take it."""
    return LabelledImage(
        path=find_photo(root, row.image),
        id=row.id or row.image,
        product_id=row.product_id,
        box=row.box,
        setup=row.setup,
        category=row.category,
        where=where,
    )


def write_manifest(path: Path, rows: Iterable[ManifestRow], *, others: Sequence[str] = ()) -> int:
    """Write rows one at a time; the ending of `path` says whether as CSV or Parquet.

    Args:
        rows: in this order.
        others: further columns to write, of those in `ManifestRow.others`.

    Returns:
        Rows written.
    """
    return write_table(path, (*COLUMNS, *others), (row.cells() for row in rows))


def image_cell(image: Path, manifest: Path) -> str:
    """How a manifest names an image: below its own folder where it is, so that both can be moved; else absolute."""
    absolute, folder = image.absolute(), manifest.absolute().parent
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else absolute.as_posix()


def read_pairs(place: Path, split: Split, *, skip_bad: bool = False) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The gallery and the queries of a set, in either form.

    Args:
        place: a manifest, or a folder with a gallery (or catalogue, as drawn shops have it) and queries, each any table
            that `threadmatch ingest` reads. A folder without them is a manifest in parts.
        split: which part of a manifest; a folder is one part.
        skip_bad: leave out rows that cannot be used, in place of refusing them.

    Raises:
        DataError: neither, or not readable.
    """
    queries = table_named(place, "queries") if place.is_dir() else None
    if queries is None and (not place.is_dir() or _holds_parts(place)):
        return read_manifest(place, Selection(split), skip_bad=skip_bad)
    gallery = table_named(place, "gallery") or table_named(place, "catalogue") or place / "gallery.csv"
    return read_labelled(gallery, skip_bad=skip_bad), read_labelled(queries or place / "queries.csv", skip_bad=skip_bad)


def table_named(folder: Path, stem: str) -> Path | None:
    """The table of a name, whatever its kind: the first of STEM.csv, .csv.gz, .jsonl, ... that is there."""
    names = [f"{stem}{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _holds_parts(folder: Path) -> bool:
    try:
        return bool(part_files(folder))
    except DataError:
        return False
