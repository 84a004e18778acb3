"""How well near-duplicates are told from look-alikes: `python -m threadmatch.service.bench.duplicate_pairs DATA`.

DATA holds `luma`, `venia` and `clothing` with an items.csv each. Photos are saved again, resized and cropped; beside
them stand colour variants of one garment in the same view, other views of one product, and the most alike pairs of
different garments. The colour column, which settles colour variants beforehand in a gallery, is not used here.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.indexer.store.looking import MIN_COSINE
from threadmatch.model.features import EMBEDDING
from threadmatch.model.images import display_photo, load_image
from threadmatch.model.inference import Model, load_model
from threadmatch.model.same_photo import Lab, is_same_photo, lab_square

SEED = 7
CLOTHING = 100  # photos of people's own garments, beside all of the two shops'
CHANGED = 80  # photos that are changed
BATCH = 32
OTHERS = 1000  # pairs of different garments, the most alike ones


def changes(photo: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """The same photo as shops have it a second time, with a name for what was done to it."""
    picture = Image.open(io.BytesIO(photo)).convert("RGB")
    width, height = picture.size
    half = (width // 2, height // 2)
    yield "JPEG, quality 75", _saved(picture, 75)
    yield "JPEG, quality 40", _saved(picture, 40)
    yield "half the size", _saved(picture.resize(half, Image.Resampling.LANCZOS), 85)
    larger = picture.resize((int(width * 1.4), int(height * 1.4)), Image.Resampling.BICUBIC)
    yield "1.4 times the size, WebP 70", _saved(larger, 70, "WEBP")
    for most in (0.02, 0.04):
        yield f"cropped up to {most:.0%} a side", _saved(_cropped(picture, most, rng), 80)
    small = _cropped(picture, 0.03, rng).resize(half)
    yield "cropped up to 3%, half the size, quality 50", _saved(small, 50)


def _cropped(picture: Image.Image, most: float, rng: np.random.Generator) -> Image.Image:
    left, top, right, bottom = rng.uniform(0, most, 4)
    width, height = picture.size
    edges = (left * width, top * height, width - right * width, height - bottom * height)
    return picture.crop(tuple(int(edge) for edge in edges))  # type: ignore[arg-type]


def _saved(picture: Image.Image, quality: int, kind: str = "JPEG") -> bytes:
    with io.BytesIO() as file:
        picture.save(file, kind, quality=quality)
        return file.getvalue()


class Photos:
    """Photos with their embeddings and squares.

    Args:
        model: encodes.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._pixels: list[NDArray[np.uint8]] = []
        self.squares: list[Lab] = []
        self.embeddings: NDArray[np.float32] = np.empty((0, model.feature(EMBEDDING).shape[0]), np.float32)

    def add(self, photo: bytes) -> int:
        """Take one in; its number."""
        prepared, decoded = load_image(photo, image_px=self._model.image_px, framing=self._model.framing)
        self._pixels.append(prepared.pixels)
        self.squares.append(lab_square(display_photo(decoded)))
        return len(self.squares) - 1

    def encode(self) -> None:
        """Embed all that were added."""
        starts = range(0, len(self._pixels), BATCH)
        parts = [self._model.encode(np.stack(self._pixels[start : start + BATCH]))[EMBEDDING] for start in starts]
        self.embeddings = np.concatenate(parts)

    def same(self, first: int, second: int) -> bool:
        """The decision of a search, without the catalogue's colours."""
        near = float(self.embeddings[first] @ self.embeddings[second]) >= MIN_COSINE
        return near and is_same_photo(self.squares[first], self.squares[second])


def _rows(data: Path, rng: np.random.Generator) -> list[dict[str, str]]:
    rows = []
    for name in ("luma", "venia", "clothing"):
        with (data / name / "items.csv").open(newline="", encoding="utf-8") as file:
            found = [{**row, "path": str(data / name / row["image"])} for row in csv.DictReader(file)]
        if name == "clothing":
            found = [found[place] for place in rng.permutation(len(found))[:CLOTHING]]
        rows += [{**row, "sku": row.get("sku") or row["id"], "view": row.get("view") or ""} for row in found]
    return rows


def main() -> None:
    """Print a table: each kind of pair, how many, how many were called the same photo."""
    rng = np.random.default_rng(SEED)
    photos = Photos(load_model(device="cpu"))
    rows = _rows(Path(sys.argv[1]), rng)
    pairs: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        photos.add(Path(row["path"]).read_bytes())
    for place in rng.permutation(len(rows))[:CHANGED].tolist():
        for name, changed in changes(Path(rows[place]["path"]).read_bytes(), rng):
            pairs[name].append((place, photos.add(changed)))
    photos.encode()
    cosines = photos.embeddings[: len(rows)] @ photos.embeddings[: len(rows)].T
    others = []
    for first, one in enumerate(rows):
        for second in range(first + 1, len(rows)):
            other = rows[second]
            if one["sku"] != other["sku"]:
                others.append((float(cosines[first, second]), first, second))
            elif one.get("product_id") == other.get("product_id"):
                pairs["other view of the product"].append((first, second))
            elif one["view"] == other["view"]:
                pairs["colour variant, same view"].append((first, second))
    pairs[f"different garments, the {OTHERS} most alike pairs"] = [
        (first, second) for _, first, second in sorted(others, reverse=True)[:OTHERS]
    ]
    print("| pair | n | called the same photo |\n|---|---|---|")
    for name, listed in pairs.items():
        same = [pair for pair in listed if photos.same(*pair)]
        print(f"| {name} | {len(listed)} | {len(same)} ({len(same) / len(listed):.1%}) |")
        if "size" not in name and "JPEG" not in name and "crop" not in name:
            print(*(f"  {rows[first]['id']} {rows[second]['id']}" for first, second in same), file=sys.stderr)


if __name__ == "__main__":
    main()
