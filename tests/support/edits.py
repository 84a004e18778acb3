"""Edits of a shop's gallery, made as the service makes them."""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.shop import PixelEncoder, photo
from threadmatch.indexer.catalogue.sources import normal_box
from threadmatch.indexer.catalogue.values import metadata_json
from threadmatch.indexer.edits.live_writes import Delete, Edit, Edited, Editor, Put
from threadmatch.indexer.errors import EditError
from threadmatch.indexer.store.contents import Content, content_of
from threadmatch.indexer.store.versions import Version
from threadmatch.model.images import Box, display_photo, load_image

MODEL = PixelEncoder()


def content(seed: int, box: str = "") -> Content:
    """What photo(seed) becomes."""
    asked = normal_box(box)
    data = photo(seed)
    prepared, decoded = load_image(data, image_px=MODEL.image_px, box=Box.parse(asked) if asked else None)
    made = MODEL.encode(prepared.pixels[None])
    return content_of(
        {name: values[0] for name, values in made.items()},
        MODEL.features,
        sha256=hashlib.sha256(data).hexdigest(),
        asked_box=asked,
        size=(prepared.width, prepared.height),
        box=(prepared.box.x0, prepared.box.y0, prepared.box.x1, prepared.box.y1),
        photo=display_photo(decoded),
    )


def feature(seed: int, name: str) -> NDArray[Any]:
    """A feature of photo(seed), as the gallery gives it."""
    spec = next(spec for spec in MODEL.features if spec.name == name)
    return np.asarray(spec.unpack([content(seed).features[name]])[0])


def editor(folder: Path, **options: Any) -> Editor:
    return Editor(folder, features_fingerprint=MODEL.features_fingerprint, **options)


def put_edit(item_id: str, seed: int, *, box: str = "", **metadata: Any) -> Put:
    return Put(Version(item_id, None, metadata_json(metadata), "", 0), content(seed, box))


def apply(folder: Path, edit: Edit) -> Edited:
    """One edit by a writer of its own, as another process would."""
    writer = editor(folder)
    outcome = writer.apply([edit])[0]
    writer.close()
    if isinstance(outcome, EditError):
        raise outcome
    return outcome


def put(folder: Path, item_id: str, seed: int, *, box: str = "", **metadata: Any) -> Edited:
    """Put an item that shows photo(seed)."""
    return apply(folder, put_edit(item_id, seed, box=box, **metadata))


def delete(folder: Path, item_id: str) -> Edited:
    return apply(folder, Delete(item_id))


def main() -> None:
    """Arguments: gallery, first number. Puts item after item until it is killed; a line for each that is durable."""
    folder, first = Path(sys.argv[1]), int(sys.argv[2])
    writer = editor(folder)
    for number in itertools.count(first):
        edit = put_edit(f"w-{number}", number, name=f"w-{number}")
        assert writer.apply([edit]) == [Edited(existed=False, changed=True)]
        print(f"w-{number}", flush=True)
