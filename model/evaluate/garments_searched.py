"""What finding the garment is worth: `python -m threadmatch.model.evaluate.garments_searched ROOT --out OUT.json`.

worn     whole street photos of street/ val; the gallery holds each of their garments cut out by its true mask, on
         white, and as distractors the photos of clothing/ val and the shops' main views. A query is answered where
         the first item is any garment of its photo. Flattered: both sides come from one photo.
boxes    queries with their own boxes (a folder of `threadmatch data streetify`, and back views of the shops),
         searched as they are and with the background quieted: nothing may be lost.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.detector import ParserDetector, Parsing, load_parser_detector
from threadmatch.model.detection.parsing.garments import Garment, choose, soft_mask
from threadmatch.model.detection.parsing.quieting import garment_of_box, quiet, searched_box
from threadmatch.model.detection.proposals import Detector, GrabCutDetector
from threadmatch.model.evaluate.garments_found import TrueGarment, TruePhoto, true_photos
from threadmatch.model.features import EMBEDDING, Features
from threadmatch.model.images import Box, DecodedImage, PreparedImage, decode_image, prepare_for
from threadmatch.model.inference import Model, load_model
from threadmatch.model.matching import Photo
from threadmatch.model.synthetic.street.street_set import SourcePhoto, read_sources

BATCH: Final = 16
CELLS: Final = "7x7"
PHOTO_PX: Final = 512
DISTRACTORS: Final = 800
"""Items of the gallery that no query shows, the first by the hash of their ids."""
MARGIN: Final = 0.05
"""Of white around a garment cut out for the gallery, share of its box."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """(n, E) embeddings, (n, R, C) regions of the model's own scales, (n, cells, C) of the whole map."""

    embeddings: Floats
    regions: Floats
    cells: Floats


class Matching:
    """A model's ways to compare that need no head: stage one, greedy and dense."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._known: dict[bytes, Photo] = {}

    def encode(self, images: Sequence[PreparedImage]) -> Features:
        """Encode prepared photos, each once however often it is asked for: (n, *shape) of each feature."""
        names = [hashlib.sha256(one.pixels.tobytes()).digest() for one in images]
        new = {name: one.pixels for name, one in zip(names, images, strict=True) if name not in self._known}
        todo = list(new.items())
        for n in range(0, len(todo), BATCH):
            made = self.model.encode(np.stack([pixels for _, pixels in todo[n : n + BATCH]]))
            for place, (name, _) in enumerate(todo[n : n + BATCH]):
                self._known[name] = {feature: np.asarray(values[place], np.float32) for feature, values in made.items()}
        return {
            spec.name: np.stack([np.asarray(self._known[name][spec.name], np.float32) for name in names])
            for spec in self.model.features
        }

    def first(self, queries: Features, gallery: Features) -> dict[str, NDArray[np.int64]]:
        """Of each way the first item of every query, (n,)."""
        found = {"global": (queries[EMBEDDING] @ gallery[EMBEDDING].T).argmax(axis=1)}
        for name in ("greedy", "dense"):
            if name in self.model.matchers:
                matcher = self.model.matchers[name]
                items = {feature: gallery[feature] for feature in matcher.needs}
                count = len(queries[EMBEDDING])
                photos = [{feature: queries[feature][n] for feature in matcher.needs} for n in range(count)]
                found[name] = np.array([matcher.score_many([photo], [items])[0].argmax() for photo in photos])
        return found


def evaluate_worn(
    matching: Matching, parser: ParserDetector, root: Path, *, limit: int | None = None
) -> dict[str, Any]:
    """See the module. Returns top-1 by condition and way, and how many queries and items there were."""
    photos = [photo for photo in true_photos(root / "street") if photo.garments][:limit]
    model = matching.model
    owners = [n for n, photo in enumerate(photos) for _ in photo.garments]
    shown = [on_white(photo, garment) for photo in photos for garment in photo.garments]
    others = _distractors(root)
    shown += others
    owners += [-1] * len(others)
    plain = matching.encode([prepare_for(model, image) for image in shown])
    quieted = matching.encode([_found(image, parser.parse(image.pixels), model) for image in shown])
    of_photo = np.array(owners)
    results = {}
    parsed = {photo.id: parser.parse(photo.pixels) for photo in photos}
    for name, (make, gallery) in _conditions(parsed, model).items():
        queries = matching.encode([make(photo) for photo in photos])
        first = matching.first(queries, quieted if gallery == "quiet" else plain)
        results[name] = {way: float((of_photo[at] == np.arange(len(photos))).mean()) for way, at in first.items()}
        print(name, results[name], flush=True)
    return {"queries": len(photos), "items": len(shown), "top1": results}


def _conditions(
    parsed: dict[str, Parsing], model: Model
) -> dict[str, tuple[Callable[[TruePhoto], PreparedImage], str]]:
    """How a street photo is searched, and in which gallery."""
    grabcut = GrabCutDetector()

    def found(photo: TruePhoto, *, quieted: bool) -> PreparedImage:
        return _found(_image(photo.pixels), parsed[photo.id], model, quieted=quieted)

    def true(photo: TruePhoto, *, mask: str) -> PreparedImage:
        main = choose([_as_found(garment) for garment in photo.garments], 1.0).garment
        assert main is not None
        image = _image(photo.pixels)
        box = _scaled(main.box, image)
        prepared = prepare_for(model, image, box)
        own = garment_of_box(parsed[photo.id].garments, main.box) if mask == "parser" else main
        if mask == "none" or own is None:
            return prepared
        return quiet(prepared, parsed[photo.id].kept if mask == "parser" else own.mask)

    return {
        "whole photo": (lambda photo: prepare_for(model, _image(photo.pixels)), "plain"),
        "grabcut box": (lambda photo: _of_detector(grabcut, photo, model), "plain"),
        "parser box": (lambda photo: found(photo, quieted=False), "plain"),
        "parser box, quiet query": (lambda photo: found(photo, quieted=True), "plain"),
        "parser box, quiet both": (lambda photo: found(photo, quieted=True), "quiet"),
        "true box": (lambda photo: true(photo, mask="none"), "plain"),
        "true box, quiet query": (lambda photo: true(photo, mask="parser"), "plain"),
        "true box, quiet by the true mask": (lambda photo: true(photo, mask="true"), "plain"),
    }


def evaluate_boxes(
    matching: Matching, parser: ParserDetector, folder: Path, *, limit: int | None = None
) -> dict[str, Any]:
    """Queries with right boxes, of a folder with gallery.csv and queries.csv; see the module."""
    with (folder / "gallery.csv").open(newline="") as file:
        items = list(csv.DictReader(file))
    with (folder / "queries.csv").open(newline="") as file:
        queries = list(csv.DictReader(file))[:limit]
    images = [(_read(folder / row["image"]), _box(row.get("box", ""))) for row in queries]
    shown = [_read(folder / row["image"]) for row in items]
    return _with_and_without(
        matching,
        parser,
        queries=images,
        wanted=[row["product_id"] for row in queries],
        shown=shown,
        products=[row["product_id"] for row in items],
    )


def evaluate_shops(
    matching: Matching, parser: ParserDetector, root: Path, *, limit: int | None = None
) -> dict[str, Any]:
    """Back views of luma and venia that trained nothing, against main views; whole frames."""
    photos = [one for one in read_sources(root, ["luma", "venia"]) if one.split == "test"]
    backs, mains = ([one for one in photos if one.view == view][:limit] for view in ("back", "main"))
    return _with_and_without(
        matching,
        parser,
        queries=[(_read(one.path), None) for one in backs],
        wanted=[one.product_id for one in backs],
        shown=[_read(one.path) for one in mains],
        products=[one.product_id for one in mains],
    )


def _with_and_without(
    matching: Matching,
    parser: ParserDetector,
    *,
    queries: Sequence[tuple[DecodedImage, Box | None]],
    wanted: Sequence[str],
    shown: Sequence[DecodedImage],
    products: Sequence[str],
) -> dict[str, Any]:
    """Top-1 as it is, with queries quieted, with both sides quieted; and which share of the queries was touched."""
    model = matching.model
    plain = [prepare_for(model, image, box) for image, box in queries]
    parsed = [parser.parse(image.pixels) for image, _ in queries]
    quieted = [_boxed(image, box, parsing, model) for (image, box), parsing in zip(queries, parsed, strict=True)]
    of_items = [parser.parse(image.pixels) for image in shown]
    items = matching.encode([prepare_for(model, image) for image in shown])
    quiet_items = matching.encode(
        [_boxed(image, None, parsing, model) for image, parsing in zip(shown, of_items, strict=True)]
    )
    of_plain, of_quiet = matching.encode(plain), matching.encode(quieted)
    conditions = [
        ("as it is", of_plain, items),
        ("quiet query", of_quiet, items),
        ("quiet items", of_plain, quiet_items),
        ("quiet both", of_quiet, quiet_items),
    ]
    if all(box is None for _, box in queries):
        found = [_found(image, parsing, model) for (image, _), parsing in zip(queries, parsed, strict=True)]
        found_items = [_found(image, parsing, model) for image, parsing in zip(shown, of_items, strict=True)]
        conditions.append(("found and quiet both", matching.encode(found), matching.encode(found_items)))
    right = np.array(products)[None] == np.array(wanted)[:, None]  # (queries, items)
    results = {}
    for name, asked, gallery in conditions:
        first = matching.first(asked, gallery)
        results[name] = {way: float(right[np.arange(len(wanted)), at].mean()) for way, at in first.items()}
        print(name, results[name], flush=True)
    touched = np.mean([not np.array_equal(a.pixels, b.pixels) for a, b in zip(plain, quieted, strict=True)])
    return {"queries": len(queries), "items": len(shown), "touched": float(touched), "top1": results}


def _found(image: DecodedImage, parsing: Parsing, model: Model, *, quieted: bool = True) -> PreparedImage:
    """The main garment's box, its background quieted where it is sure."""
    choice = parsing.choice
    box = searched_box(choice, image.width, image.height)
    prepared = prepare_for(model, image, box)
    return quiet(prepared, parsing.kept) if quieted and choice.reason == "garment" else prepared


def _boxed(image: DecodedImage, box: Box | None, parsing: Parsing, model: Model) -> PreparedImage:
    """Somebody's own box or the whole photo, quiet around the garment that the parser sees there."""
    prepared = prepare_for(model, image, box)
    garment = parsing.choice.garment
    if not parsing.shows_person:
        return prepared
    if box is not None:
        shares = Box(box.x0 / image.width, box.y0 / image.height, box.x1 / image.width, box.y1 / image.height)
        garment = garment_of_box(parsing.garments, shares)
    return prepared if garment is None else quiet(prepared, parsing.kept)


def on_white(photo: TruePhoto, garment: TrueGarment) -> DecodedImage:
    """A garment cut out by its true mask, as a shop shows it."""
    height, width = garment.mask.shape
    white = np.where(garment.mask[..., None], photo.pixels, 255).astype(np.uint8)
    box = garment.box
    across, down = MARGIN * box.width * width, MARGIN * box.height * height
    x0, y0 = max(0, int(box.x0 * width - across)), max(0, int(box.y0 * height - down))
    x1, y1 = min(width, int(box.x1 * width + across) + 1), min(height, int(box.y1 * height + down) + 1)
    return _image(white[y0:y1, x0:x1])


def _as_found(garment: TrueGarment) -> Garment:
    mask = soft_mask(garment.mask.astype(np.uint8))
    return Garment(garment.kind, garment.box, 1.0, 1.0, garment.area, mask)


def _of_detector(detector: Detector, photo: TruePhoto, model: Model) -> PreparedImage:
    image = _image(photo.pixels)
    proposals = detector.detect(photo.pixels)
    return prepare_for(model, image, _scaled(proposals[0].box, image) if proposals else None)


def _distractors(root: Path) -> list[DecodedImage]:
    photos: list[SourcePhoto] = [one for one in read_sources(root, ["clothing"]) if one.split != "train"]
    photos += [one for one in read_sources(root, ["luma", "venia"]) if one.view == "main"]
    photos.sort(key=lambda one: hashlib.sha256(one.id.encode()).digest())
    return [_read(one.path) for one in photos[:DISTRACTORS]]


def _read(path: Path) -> DecodedImage:
    return decode_image(path.read_bytes(), long_side_hint_px=PHOTO_PX)


def _image(pixels: NDArray[np.uint8]) -> DecodedImage:
    return DecodedImage(Image.fromarray(pixels), pixels.shape[1], pixels.shape[0])


def _scaled(box: Box, image: DecodedImage) -> Box:
    return Box(box.x0 * image.width, box.y0 * image.height, box.x1 * image.width, box.y1 * image.height)


def _box(text: str) -> Box | None:
    return Box.parse(text) if text else None


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("root", type=Path, help="folder of street/, clothing/, luma/ and venia/")
    options.add_argument("--parser", default=DEFAULT_PARSER, help="name or folder")
    options.add_argument("--model", default="", help="name or folder; the shipped one without")
    options.add_argument("--boxes", type=Path, nargs="*", default=[], help="folders of `threadmatch data streetify`")
    options.add_argument("--limit", type=int, help="queries at most of each set")
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    matching = Matching(load_model(given.model, device="cpu") if given.model else load_model(device="cpu"))
    parser = load_parser_detector(given.parser)
    results = {"worn": evaluate_worn(matching, parser, given.root, limit=given.limit)}
    results["shops"] = evaluate_shops(matching, parser, given.root)
    for folder in given.boxes:
        results[folder.name] = evaluate_boxes(matching, parser, folder, limit=given.limit)
    given.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
