from __future__ import annotations

import csv
from pathlib import Path

import pytest

from threadmatch.model.detection.parsing.kinds import (
    ANYTHING,
    BACKGROUND,
    GARMENTS,
    KINDS,
    LAID_LABELS,
    STREET_LABELS,
    bits,
    kinds_named,
)


def test_every_label_means_known_kinds() -> None:
    for kinds in (*STREET_LABELS.values(), *LAID_LABELS.values()):
        assert set(kinds) <= set(KINDS)
        assert kinds


def test_a_set_of_kinds_is_the_bits_of_a_number() -> None:
    assert bits(["background"]) == BACKGROUND
    assert bits(["top", "top", "outerwear"]) == 0b110
    assert bits(KINDS) == ANYTHING


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        bits(["sock"])


def test_neither_background_nor_skin_is_a_garment() -> None:
    assert set(KINDS) - set(GARMENTS) == {"background", "skin_and_hair"}


def test_every_label_of_the_street_photos_has_kinds(shared_data: Path) -> None:
    with (shared_data / "street" / "labels.csv").open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == STREET_LABELS.keys()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Slim-fit jeans in blue", {"trousers"}),
        ("Women/Tops/Jackets", {"outerwear"}),
        ("Bottoms > Pants & Shorts", {"trousers", "shorts"}),
        ("T-SHIRTS", {"top"}),
        ("Evening dresses", {"dress_or_jumpsuit"}),
        ("Cardigan", {"outerwear", "top"}),
        ("Home/Sale", set()),
        ("Leather belt", set()),
        ("Wool socks", set()),
        ("", set()),
    ],
)
def test_a_shops_words_name_kinds(text: str, kinds: set[str]) -> None:
    assert kinds_named(text) == kinds
