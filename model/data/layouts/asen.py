"""FashionAI and DeepFashion's attributes as the authors of ASEN split them: manifest rows with a column an attribute.

    meta.json                 beside or in the data set's folder: {"FashionAI": {"ATTRIBUTES": [...],
                              "ATTRIBUTES_NUM": {...}, "ATTRIBUTES_VALUES": {"skirt_length": ["Invisible", ...]}}};
                              ATTRIBUTES_VALUES may lack, and one data set alone may stand in it by itself
    filenames_train.txt       an image a line, below this folder; filenames_valid.txt, filenames_test.txt likewise
    label_train.txt           number of an image, then an attribute's number and its value's, as often as there are some
    query_valid.txt           number of an image, an attribute's number, its value's: photos that ask;
                              candidate_valid.txt, query_test.txt, candidate_test.txt likewise

Papers  Ma et al., AAAI 2020 (ASEN), whose data AG-MAN takes; Zou et al., CVPR-W 2019 (FashionAI); Liu et al., CVPR 2016

A photo with several values of one attribute is one row with all of them, and asks for any; the authors list it once a
value. Queries are `customer` rows, candidates and photos to train on `shop` rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from threadmatch.model.data.attribute_labels import BETWEEN
from threadmatch.model.data.layouts.tree import Notes
from threadmatch.model.data.manifest.rows import Domain, ManifestRow, Split
from threadmatch.model.errors import DataError

META: Final = "meta.json"
_SPLITS: Final = {"train": Split.TRAIN, "valid": Split.VAL, "test": Split.TEST}
_SIDES: Final = (("candidate", Domain.SHOP), ("query", Domain.CUSTOMER))

_Labels = dict[int, dict[int, list[int]]]
"""Number of an image -> number of an attribute -> numbers of its values."""


@dataclass(frozen=True, slots=True)
class AsenMeta:
    """What the numbers mean: attributes by number, and the words of each one's values, () where none are known."""

    attributes: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]

    def value(self, attribute: int, value: int) -> str:
        """The word of a value, or its number as text."""
        known = self.words.get(self.attributes[attribute], ())
        return known[value] if 0 <= value < len(known) else str(value)


def read_meta(root: Path) -> AsenMeta:
    """The attributes of a data set.

    Args:
        root: its folder, such as data/FashionAI.

    Raises:
        DataError: no meta.json in it or beside it, or of another form.
    """
    places = [root / META, root.parent / META]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(f"{root} is not laid out as ASEN's data: neither {places[0]} nor {places[1]} is there")
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        own = found if "ATTRIBUTES" in found else found[root.resolve().name]
        names = [str(name).replace("-", "_").replace(" ", "_") for name in own["ATTRIBUTES"]]
        words = {
            name: tuple(str(word).replace(BETWEEN, "/") for word in own.get("ATTRIBUTES_VALUES", {}).get(raw, ()))
            for name, raw in zip(names, own["ATTRIBUTES"], strict=True)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path} is not of the form {{"{root.resolve().name}": {{"ATTRIBUTES": [...]}}}}: {error!r}'
        ) from error
    return AsenMeta(tuple(names), words)


def read_asen(root: Path, meta: AsenMeta, notes: Notes) -> Iterator[ManifestRow]:
    """Every photo of train, once, and of valid and test on each side that it stands on.

    Photos that are not there are left out and counted.

    Raises:
        DataError: the tree is not in this layout; what is missing or wrong is named.
    """
    for part, split in _SPLITS.items():
        names = _lines(root / f"filenames_{part}.txt")
        sides = [("label", Domain.SHOP)] if split is Split.TRAIN else _SIDES
        for table, domain in sides:
            labels = _labels(root / f"{table}_{part}.txt", len(names), meta, notes, pairs=table == "label")
            for number, values in labels.items():
                if (path := root / names[number]).is_file():
                    yield _row(path, names[number], values, meta, domain, split)
                else:
                    notes.add("photo missing", names[number])


def _row(
    path: Path, name: str, values: Mapping[int, Sequence[int]], meta: AsenMeta, domain: Domain, split: Split
) -> ManifestRow:
    others = tuple(
        (attribute, BETWEEN.join(dict.fromkeys(meta.value(n, value) for value in values.get(n, ()))))
        for n, attribute in enumerate(meta.attributes)
    )
    return ManifestRow(
        str(path), name, domain, split, id=f"{split}-{name}" if domain is Domain.SHOP else "", others=others
    )


def _labels(path: Path, photos: int, meta: AsenMeta, notes: Notes, *, pairs: bool) -> _Labels:
    """The values of each photo of a table; `pairs` may follow one another in a line."""
    labels: _Labels = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            photo, *rest = map(int, line.split())
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {line[:80]!r}; expected whole numbers between blanks") from error
        if not rest or len(rest) % 2 or (len(rest) != 2 and not pairs):
            raise DataError(f"{path}, line {number}: {line[:80]!r}; expected a photo, an attribute and a value")
        if not 0 <= photo < photos:
            raise DataError(f"{path}, line {number}: photo {photo}, but there are {photos} names, from 0")
        for attribute, value in zip(rest[::2], rest[1::2], strict=True):
            if not 0 <= attribute < len(meta.attributes):
                raise DataError(f"{path}, line {number}: attribute {attribute}, {META} has {len(meta.attributes)}")
            words = meta.words.get(meta.attributes[attribute], ())
            if words and not 0 <= value < len(words):
                notes.add("value without a word", f"{meta.attributes[attribute]} {value} in {path.name}")
            labels.setdefault(photo, {}).setdefault(attribute, []).append(value)
    return labels


def _lines(path: Path) -> list[str]:
    """The lines of a file that hold something."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise DataError(f"{path.parent} is not laid out as ASEN's data: {path.name} is missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
