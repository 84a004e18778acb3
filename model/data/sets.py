"""Several labelled sets as one: what training and tables read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from threadmatch.model.data.manifest.rows import Split, read_pairs
from threadmatch.model.data.pairs import NEGATIVES_FILE, LabelledImage, read_labelled, with_photos
from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import DataError

LabelledSet = Sides[list[LabelledImage]]
"""Images on disk, with what people refused."""


def read_sets(places: Sequence[Path], split: Split, *, skip_bad: bool = False) -> LabelledSet:
    """Read sets and join them.

    Args:
        places: manifests, of which the split is taken, or folders with gallery.csv, queries.csv and, where there are
            any, negatives.csv.
        split: which part.
        skip_bad: leave out rows that cannot be used and photos that are missing, in place of refusing them.

    Raises:
        DataError: photos are missing; as `read_pairs` and `read_labelled` say.
    """
    gallery: list[LabelledImage] = []
    queries: list[LabelledImage] = []
    refused: dict[int, list[int]] = {}
    for place in places:
        both = read_pairs(place, split, skip_bad=skip_bad)
        items, photos = (with_photos(side, skip_missing=skip_bad) for side in both)
        if (place / NEGATIVES_FILE).exists():
            rows = read_labelled(place / NEGATIVES_FILE, may_be_empty=True)
            for n, own in _refused(items, photos, rows).items():
                refused[len(queries) + n] = [len(gallery) + item for item in own]
        gallery.extend(items)
        queries.extend(photos)
    return Sides(gallery, queries, refused)


def keep_apart(sets: Mapping[str, LabelledSet]) -> None:
    """Refuse sets that share products: figures on garments that were trained on say nothing.

    Args:
        sets: by the names that the error has.

    Raises:
        DataError: two of them share some.
    """
    for (one, first), (other, second) in combinations(sets.items(), 2):
        if shared := {image.product_id for image in first.queries} & {image.product_id for image in second.queries}:
            raise DataError(
                f"{len(shared)} products are in {one} and in {other}, such as {sorted(shared)[:3]}; keep them apart"
            )


def _refused(
    gallery: list[LabelledImage], queries: list[LabelledImage], refused: list[LabelledImage]
) -> dict[int, list[int]]:
    """Of a negatives.csv the rows whose photo is a query and whose item is in the gallery and not its match."""
    items = {image.id: n for n, image in enumerate(gallery)}
    by_photo: dict[Path, set[int]] = {}
    for row in refused:
        if row.id in items:
            by_photo.setdefault(row.path, set()).add(items[row.id])
    found = {
        n: sorted(item for item in by_photo.get(query.path, ()) if gallery[item].product_id != query.product_id)
        for n, query in enumerate(queries)
    }
    return {n: own for n, own in found.items() if own}
