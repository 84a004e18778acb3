"""Verdicts to a labelled set: what people confirmed becomes pairs, what they refused becomes hard negatives.

OUT/queries.csv      image, product_id      a search and the product that was confirmed
OUT/gallery.csv      image, product_id, id, box    all items of those products, and those refused
OUT/negatives.csv    image, product_id, id  a search and an item that was shown and refused
OUT/images/          the searched parts and the items' display photos
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from threadmatch.indexer.errors import DamagedItemError, ItemNotFoundError
from threadmatch.indexer.reading.gallery import Item
from threadmatch.indexer.reading.opened import OpenGallery, OpenSnapshot
from threadmatch.model.data.pairs import NEGATIVES_FILE
from threadmatch.service.errors import StartError
from threadmatch.service.feedback.verdicts import FeedbackReader, Verdict

GONE = "item no longer in the gallery"
DAMAGED = "item's photo is damaged"
SEVERAL = "search confirmed for several products"
CONTRADICTED = "item refused, its product confirmed"


@dataclass(slots=True)
class SetCounts:
    """What was made, and what was left out and why.

    Fields:
        verdicts: that count; history: all, replaced ones included.
        queries, items, negatives: rows written.
        left_out: verdicts, by reason.
    """

    verdicts: int = 0
    history: int = 0
    queries: int = 0
    items: int = 0
    negatives: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, int | dict[str, int]]:
        """Plain JSON types; reasons that left nothing out are not named."""
        counts = {name: getattr(self, name) for name in ("verdicts", "history", "queries", "items", "negatives")}
        return {**counts, "left_out": {reason: count for reason, count in self.left_out.items() if count}}


def build_set(folder: Path, gallery: OpenGallery, out: Path, *, gallery_name: str) -> SetCounts:
    """Make the set.

    Args:
        folder: of the feedback.
        gallery: that the searches were in.
        out: a folder that is empty or not there yet.
        gallery_name: by which the service calls the gallery.

    Raises:
        StartError: no feedback of this gallery, or `out` holds something.
    """
    reader = FeedbackReader(folder)
    if gallery_name not in (known := reader.galleries()):
        raise StartError(f"no feedback for gallery {gallery_name!r} in {folder}; found: {', '.join(known) or 'none'}")
    if out.exists() and any(out.iterdir()):
        raise StartError(f"{out} is not empty; give a new folder")
    return _Builder(reader, gallery.current, out, gallery_name).build()


class _Builder:
    def __init__(self, reader: FeedbackReader, snapshot: OpenSnapshot, out: Path, gallery_name: str) -> None:
        self._reader, self._snapshot, self._out, self._name = reader, snapshot, out, gallery_name
        self._items: dict[str, Item | None] = {}
        self._saved: dict[str, bool] = {}  # item id -> whether its photo could be written
        self._counts = SetCounts(history=reader.history)
        self._queries: list[tuple[str, str]] = []
        self._gallery: list[tuple[str, str, str, str]] = []
        self._negatives: list[tuple[str, str, str]] = []

    def build(self) -> SetCounts:
        """Write everything; the tables come last, so that a set that was cut off has none."""
        (self._out / "images").mkdir(parents=True, exist_ok=True)
        searches: defaultdict[str, list[Verdict]] = defaultdict(list)
        for verdict in self._reader.verdicts(self._name):
            searches[verdict.request_id].append(verdict)
        self._counts.verdicts = sum(map(len, searches.values()))
        products: set[str] = set()
        for number, (request_id, verdicts) in enumerate(searches.items(), 1):
            confirmed = self._search(f"images/query-{number:06}.jpg", request_id, verdicts)
            products |= {confirmed} if confirmed is not None else set()
        for stored in self._snapshot.stored_items():
            if (stored.product_id or stored.id) in products:
                self._save(self._snapshot.item(stored.id))
        self._write("gallery.csv", ("image", "product_id", "id", "box"), self._gallery)
        self._write("queries.csv", ("image", "product_id"), self._queries)
        self._write(NEGATIVES_FILE, ("image", "product_id", "id"), self._negatives)
        self._counts.queries, self._counts.items = len(self._queries), len(self._gallery)
        self._counts.negatives = len(self._negatives)
        return self._counts

    def _search(self, image: str, request_id: str, verdicts: Sequence[Verdict]) -> str | None:
        """One search's rows; the product that was confirmed, if one was."""
        usable = [(verdict, item) for verdict in verdicts if (item := self._item(verdict.item_id)) is not None]
        confirmed = {_product(item) for verdict, item in usable if verdict.decision == "match"}
        if len(confirmed) > 1:
            self._counts.left_out[SEVERAL] += len(usable)
            return None
        refused = [item for verdict, item in usable if verdict.decision == "no_match"]
        wrong = [item for item in refused if _product(item) not in confirmed]
        self._counts.left_out[CONTRADICTED] += len(refused) - len(wrong)
        wrong = [item for item in wrong if self._save(item)]
        if not confirmed and not wrong:
            return None
        (self._out / image).write_bytes(self._reader.crop(self._name, request_id))
        self._queries += [(image, product) for product in confirmed]
        self._negatives += [(image, _product(item), item.id) for item in wrong]
        return next(iter(confirmed), None)

    def _item(self, item_id: str) -> Item | None:
        if item_id not in self._items:
            try:
                self._items[item_id] = self._snapshot.item(item_id)
            except ItemNotFoundError:
                self._items[item_id] = None
        if self._items[item_id] is None:
            self._counts.left_out[GONE] += 1
        return self._items[item_id]

    def _save(self, item: Item) -> bool:
        """Write an item's photo and row, once."""
        if item.id not in self._saved:
            image = f"images/item-{len(self._saved) + 1:06}.jpg"
            try:
                photo = self._snapshot.photo(item.id)
            except DamagedItemError:
                self._saved[item.id] = False
                self._counts.left_out[DAMAGED] += 1
                return False
            (self._out / image).write_bytes(photo)
            self._gallery.append((image, _product(item), item.id, _box(item, photo)))
            self._saved[item.id] = True
        return self._saved[item.id]

    def _write(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        with (self._out / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)


def _product(item: Item) -> str:
    return item.product_id or item.id  # an item without a product stands for itself


def _box(item: Item, photo: bytes) -> str:
    """The item's box in pixels of its display photo; "" for all of it."""
    with Image.open(io.BytesIO(photo)) as picture:
        across, down = picture.width / item.width, picture.height / item.height
    box = item.box
    if (box.x0, box.y0, box.x1, box.y1) == (0, 0, item.width, item.height):
        return ""
    return ",".join(f"{edge:g}" for edge in (box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down))
