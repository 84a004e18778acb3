"""The kinds of garment that a parser tells apart, and what the labels of others may mean in them.

A label is not always one kind: a cardigan is a top to some and outerwear to others. So what is known of a pixel is a
set of kinds, kept as the bits of a number: bit k is set where kind k is allowed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final

KINDS: Final = (
    "background", "top", "outerwear", "dress_or_jumpsuit", "skirt", "trousers", "shorts", "footwear", "bag", "hat",
    "scarf", "skin_and_hair",
)  # fmt: skip
"""In the order of the parser's channels."""
GARMENTS: Final = KINDS[1:-1]
BODY_GARMENTS: Final = ("top", "outerwear", "dress_or_jumpsuit", "skirt", "trousers", "shorts")
"""What somebody is asked about first; the rest is worn beside it."""

STREET_LABELS: Final[dict[str, tuple[str, ...]]] = {
    "background": ("background",),
    **dict.fromkeys(
        ("blouse", "bra", "intimate", "jumper", "shirt", "sweater", "sweatshirt", "t-shirt", "top"), ("top",)
    ),
    **dict.fromkeys(("blazer", "cape", "coat", "jacket"), ("outerwear",)),
    "cardigan": ("outerwear", "top"),
    "vest": ("outerwear", "top"),
    "hoodie": ("top", "outerwear"),
    "suit": ("outerwear", "trousers", "skirt"),
    "bodysuit": ("top", "dress_or_jumpsuit"),
    **dict.fromkeys(("dress", "romper"), ("dress_or_jumpsuit",)),
    "skirt": ("skirt",),
    **dict.fromkeys(("jeans", "leggings", "pants"), ("trousers",)),
    **dict.fromkeys(("shorts", "panties"), ("shorts",)),
    **dict.fromkeys(
        ("boots", "clogs", "flats", "heels", "loafers", "pumps", "sandals", "shoes", "sneakers", "wedges"),
        ("footwear",),
    ),
    **dict.fromkeys(("bag", "purse", "wallet"), ("bag",)),
    "hat": ("hat",),
    "scarf": ("scarf",),
    **dict.fromkeys(
        ("bracelet", "earrings", "glasses", "gloves", "hair", "ring", "skin", "socks", "stockings", "sunglasses",
         "tights", "watch"),
        ("skin_and_hair",),
    ),
    **dict.fromkeys(("belt", "necklace", "tie"), (*BODY_GARMENTS, "skin_and_hair")),
    "swimwear": GARMENTS,
    "accessories": KINDS,
}  # fmt: skip
"""Labels of Clothing Co-Parsing (Yang, Luo, Lin, CVPR 2014) to the kinds they may be, likeliest first.

Legwear and jewellery belong to the person: nobody finds a dress by them. Belts, ties and necklaces lie on garments.
"""

LAID_LABELS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("Blouse", "Longsleeve", "Polo", "Shirt", "T-Shirt", "Top", "Undershirt"), ("top",)),
    "Hoodie": ("top", "outerwear"),
    **dict.fromkeys(("Blazer", "Outwear"), ("outerwear",)),
    "Body": ("top", "dress_or_jumpsuit"),
    "Dress": ("dress_or_jumpsuit",),
    "Hat": ("hat",),
    "Pants": ("trousers",),
    "Shoes": ("footwear",),
    "Shorts": ("shorts",),
    "Skirt": ("skirt",),
}
"""Labels of clothing-dataset to kinds; "Not sure", "Other" and "Skip" are no kind."""


def bits(kinds: Iterable[str]) -> int:
    """The set of these kinds as a number.

    Raises:
        ValueError: there is no such kind.
    """
    return sum(1 << KINDS.index(kind) for kind in set(kinds))


ANYTHING: Final = (1 << len(KINDS)) - 1
"""Every kind allowed: nothing is known."""
BACKGROUND: Final = 1

WORDS: Final[dict[str, str]] = {
    **dict.fromkeys(("tank", "tee"), "top"),
    **dict.fromkeys(("outerwear", "parka"), "outerwear"),
    **dict.fromkeys(("jumpsuit", "overall"), "dress_or_jumpsuit"),
    **dict.fromkeys(("chino", "trouser"), "trousers"),
    **dict.fromkeys(("footwear", "trainer"), "footwear"),
    **dict.fromkeys(("backpack", "handbag", "tote"), "bag"),
    **dict.fromkeys(("beanie", "cap"), "hat"),
}
"""Words of shops that neither list of labels has."""
SEVERAL: Final = 3
"""A word that may mean more kinds than this tells nothing."""


def kinds_named(text: str) -> frozenset[str]:
    """The kinds of garment that a shop's words speak of; empty where they speak of none.

    Of a path such as "Men/Tops/Jackets" the last part that names a garment counts.

    Args:
        text: a category, or a name.
    """
    for part in reversed(re.split(r"[/>|]", text.casefold())):
        words = re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", part)
        every = {kind for word in words for form in (word, *word.split("-")) for kind in _words().get(form, ())}
        if every:
            return frozenset(every)
    return frozenset()


@functools.cache
def _words() -> dict[str, tuple[str, ...]]:
    """By each word, singular and plural, the kinds of garment it may mean."""
    labels = {**LAID_LABELS, **STREET_LABELS, **{word: (kind,) for word, kind in WORDS.items()}}
    found: dict[str, tuple[str, ...]] = {}
    for label, kinds in labels.items():
        garments = tuple(kind for kind in kinds if kind in GARMENTS)
        if garments and len(garments) <= SEVERAL:
            word = label.casefold()
            found |= dict.fromkeys((word, f"{word}s", f"{word}es"), garments)
    return found
