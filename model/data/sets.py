"""Several labelled sets as one: what training and tables read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from threadmatch.model.data.manifest.rows import Split, read_pairs
from threadmatch.model.data.pairs import NEGATIVES_FILE, LabelledImage, read_labelled
from threadmatch.model.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A gallery and its queries.

    Fields:
        refused: by position of a query the positions of gallery items that somebody said are not it.
    """

    gallery: list[LabelledImage] = field(default_factory=list)
    queries: list[LabelledImage] = field(default_factory=list)
    refused: dict[int, list[int]] = field(default_factory=dict)


def read_sets(places: Sequence[Path], split: Split) -> LabelledSet:
    """Read sets and join them.

    Args:
        places: manifests, of which the split is taken, or folders with gallery.csv, queries.csv and, where there are
            any, negatives.csv.
        split: which part.

    Raises:
        DataError: as `read_pairs` and `read_labelled` say.
    """
    joined = LabelledSet()
    for place in places:
        gallery, queries = read_pairs(place, split)
        if (place / NEGATIVES_FILE).exists():
            refused = read_labelled(place / NEGATIVES_FILE, may_be_empty=True)
            for n, items in _refused(gallery, queries, refused).items():
                joined.refused[len(joined.queries) + n] = [len(joined.gallery) + item for item in items]
        joined.gallery.extend(gallery)
        joined.queries.extend(queries)
    return joined


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
