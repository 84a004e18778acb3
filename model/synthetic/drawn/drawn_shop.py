"""A folder of drawn shop images and street queries, of any size, in parallel and resumable.

    OUT/catalogue.csv           id, image, product_id, name, category, color, ... family, differs_in
    OUT/queries.csv             image, product_id, box, setup, cropped_fraction, occluded_fraction, category
    OUT/manifest.csv            both, shared out over train, val and test
    OUT/images/000000/*.jpg     a thousand a folder
    OUT/queries/000000/*.jpg
    OUT/drawn.json              what the folder was drawn from
    OUT/.parts/*.csv            receipts

Work is cut into parts of `PART`. A part's receipt holds its rows and is written last, so a part with a receipt is done
and a part without one is drawn again; the two tables are the receipts joined. Every picture is a pure function of its
name and the seed, so neither the number of workers nor an interruption can change a byte.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.manifest.join import MANIFEST, write_joined_manifest
from threadmatch.model.data.setups import Setup
from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_query
from threadmatch.model.synthetic.drawn.shop_image import SHOP_IMAGE_PX, draw_shop_image
from threadmatch.model.synthetic.garments.dyes import Dice
from threadmatch.model.synthetic.garments.garment import garment

DRAWING_VERSION: Final = 1
"""Grows when the same seed would give other pixels, so that one folder never mixes two drawings."""

PART: Final = 100
PER_FOLDER: Final = 1000
_QUERY_COLUMNS: Final = ("image", "product_id", "box", "setup", "cropped_fraction", "occluded_fraction", "category")
_ITEM_COLUMNS: Final = (
    "id", "image", "product_id", "name", "category", "color", "price", "family", "differs_in", "pattern",
    "pattern_scale", "second_color", "neckline", "sleeves", "length", "fit", "fabric", "collar", "closure",
    "button_color", "pocket", "pocket_color", "trim", "trim_color", "logo", "logo_place", "logo_color",
)  # fmt: skip
_JPEG_QUALITY: Final = 92
_CHOICE = 23  # random stream that picks which garments are asked for

Progress = Callable[[int, int], None]
"""Called with the pictures done so far and the pictures wanted."""


@dataclass(frozen=True, slots=True)
class DrawnShop:
    """What a folder is to hold.

    Fields:
        items: shop images, of garments first .. first + items - 1; at least 1.
        queries: street queries; each garment is asked for once before one is asked for twice, setups take turns.
        seed: which shop, 0 or more.
        first: index of the first garment, for drawing a large shop on several machines.
    """

    items: int
    queries: int
    seed: int
    first: int = 0

    def __post_init__(self) -> None:
        if self.items < 1 or self.queries < 0 or self.seed < 0 or self.first < 0:
            raise DataError(f"a drawn shop needs items >= 1 and queries, seed and first >= 0; got {self}")


@dataclass(frozen=True, slots=True)
class DrawnCounts:
    """What was done; drawn and kept count pictures of both kinds, kept ones were there already."""

    items: int
    queries: int
    drawn: int
    kept: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Part:
    """One unit of work: pictures first .. last - 1 of a kind ("items" or "queries")."""

    out_dir: Path
    shop: DrawnShop
    kind: str
    first: int
    last: int

    @property
    def receipt(self) -> Path:
        # Which garments are asked for depends on how many there are.
        of = "" if self.kind == "items" else f"-of-{self.shop.first}+{self.shop.items}"
        return self.out_dir / ".parts" / f"{self.kind}{of}-{self.first:08d}-{self.last:08d}.csv"


def write_drawn_set(out_dir: Path, *, items: int, queries: int, seed: int, workers: int, first: int = 0) -> DrawnCounts:
    """Draw a shop and questions about it into a folder; see `DrawnShop` and `draw_shop`."""
    return draw_shop(out_dir, DrawnShop(items=items, queries=queries, seed=seed, first=first), workers=workers)


def draw_shop(out_dir: Path, shop: DrawnShop, *, workers: int, progress: Progress | None = None) -> DrawnCounts:
    """Draw what is missing of a shop; what is there already is kept.

    Args:
        out_dir: made if missing.
        workers: processes; 1 draws in this one.
        progress: told after each part.

    Raises:
        DataError: no worker, or a folder that holds another seed's or version's drawings.
    """
    if workers < 1:
        raise DataError(f"drawing needs at least one worker, got {workers}")
    started = time.monotonic()
    _claim(out_dir, shop.seed)
    parts = [_Part(out_dir, shop, "items", a, b) for a, b in _ranges(shop.first, shop.first + shop.items)]
    parts += [_Part(out_dir, shop, "queries", a, b) for a, b in _ranges(0, shop.queries)]
    done = drawn = 0
    for part, fresh in _run(parts, workers):
        done += part.last - part.first
        drawn += part.last - part.first if fresh else 0
        if progress is not None:
            progress(done, shop.items + shop.queries)
    _join(out_dir / "catalogue.csv", _ITEM_COLUMNS, [part.receipt for part in parts if part.kind == "items"])
    _join(out_dir / "queries.csv", _QUERY_COLUMNS, [part.receipt for part in parts if part.kind == "queries"])
    write_joined_manifest(out_dir / "catalogue.csv", out_dir / "queries.csv", out_dir / MANIFEST)
    return DrawnCounts(shop.items, shop.queries, drawn, done - drawn, round(time.monotonic() - started, 3))


def _claim(out_dir: Path, seed: int) -> None:
    """Make the folder this seed's, or find that it is."""
    wanted = {"version": DRAWING_VERSION, "seed": seed, "shop_image_px": list(SHOP_IMAGE_PX)}
    (out_dir / ".parts").mkdir(parents=True, exist_ok=True)
    note = out_dir / "drawn.json"
    if not note.exists():
        _write(note, (json.dumps(wanted) + "\n").encode())
        return
    try:
        found = json.loads(note.read_text())
    except ValueError as error:
        raise DataError(f"{note} is not JSON; draw into an empty folder") from error
    if found != wanted:
        raise DataError(f"{out_dir} holds drawings of {found}, asked for {wanted}; draw into an empty folder")


def _ranges(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Parts that lie on multiples of PART, so that a larger set later reuses all but the last."""
    while start < stop:
        end = min((start // PART + 1) * PART, stop)
        yield start, end
        start = end


def _run(parts: list[_Part], workers: int) -> Iterator[tuple[_Part, bool]]:
    if workers == 1:
        yield from map(_draw_part, parts)
        return
    # Spawned, not forked: the caller may hold threads. Unlike multiprocessing.Pool, this one notices a killed worker.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        try:
            yield from pool.map(_draw_part, parts)
        except BrokenProcessPool as error:
            raise DataError("a drawing process was killed, out of memory perhaps; the same command goes on") from error


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _draw_part(part: _Part) -> tuple[_Part, bool]:
    """Draw a part unless it is done; says whether it was drawn."""
    if part.receipt.exists() and _pictures_exist(part):
        return part, False
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for index in range(part.first, part.last):
        writer.writerow(_draw_item(part, index) if part.kind == "items" else _draw_query(part, index))
    _write(part.receipt, text.getvalue().encode())
    return part, True


def _pictures_exist(part: _Part) -> bool:
    column = (_ITEM_COLUMNS if part.kind == "items" else _QUERY_COLUMNS).index("image")
    with part.receipt.open(newline="") as file:
        return all((part.out_dir / row[column]).exists() for row in csv.reader(file))


def _draw_item(part: _Part, index: int) -> list[str]:
    item = garment(part.shop.seed, index)
    image = f"images/{index // PER_FOLDER:06d}/{item.id}.jpg"
    _write_jpeg(part.out_dir / image, draw_shop_image(item))
    values = item.attributes | {
        "id": item.id,
        "image": image,
        "product_id": item.id,
        "name": item.name,
        "category": item.category,
        "color": item.color,
        "price": f"{item.price:.2f}",
        "family": item.family or "",
        "differs_in": item.differs_in or "",
    }
    return [values[column] for column in _ITEM_COLUMNS]


def _draw_query(part: _Part, number: int) -> list[str]:
    item = garment(part.shop.seed, _asked_for(part.shop, number))
    setups = list(Setup)
    setup = setups[number % len(setups)]
    query = draw_street_query(item, setup=setup, seed=number)
    image = f"queries/{number // PER_FOLDER:06d}/query-{number:06d}-{item.id}.jpg"
    _write_jpeg(part.out_dir / image, query.image)
    box = query.box
    return [
        image,
        item.id,
        f"{box.x0:g},{box.y0:g},{box.x1:g},{box.y1:g}",
        str(setup),
        f"{query.cropped_fraction:.4f}",
        f"{query.occluded_fraction:.4f}",
        item.category,
    ]


def _asked_for(shop: DrawnShop, number: int) -> int:
    """Garment that query `number` asks for: a full cycle through the shop in a scattered order."""
    dice = Dice(shop.seed, _CHOICE, shop.items)
    step = 1 + dice.below(shop.items)
    while math.gcd(step, shop.items) != 1:
        step += 1
    return shop.first + (dice.below(shop.items) + number * step) % shop.items


def _write_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    assert done, "OpenCV writes JPEG"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, data.tobytes())


def _write(path: Path, data: bytes) -> None:
    """Write aside, then rename: a file that exists is whole."""
    staging = path.with_name(f".{path.name}.partial")
    staging.write_bytes(data)
    staging.replace(path)


def _join(table: Path, columns: tuple[str, ...], receipts: list[Path]) -> None:
    staging = table.with_name(f".{table.name}.partial")
    with staging.open("w", newline="") as file:
        file.write(",".join(columns) + "\n")
        for receipt in receipts:
            file.write(receipt.read_text())
    staging.replace(table)
