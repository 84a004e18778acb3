"""Sets to choose and to judge by, larger and harder than one maker's: three roles whose garments never meet.

    fit    garments that no feature was tuned on, for what learns behind the features
    val    other garments, other photographers and shops; to choose by
    test   a photographer, a shop and a maker of queries that nothing was trained or chosen on

    python -m threadmatch.model.synthetic.judging_sets DATA --role val --out sets/val

DATA holds clothing/, luma/, venia/ and street/ (`street_set`, `worn_set`). A role is a folder of sets, each with
gallery.csv and queries.csv; together they are one gallery. Photos of street/ are named where they are, never copied but
for the cut-outs in OUT, which stay with whoever may have the photos.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from threadmatch.model.synthetic.drawn.drawn_shop import write_drawn_set
from threadmatch.model.synthetic.handheld.handheld_set import build_handheld_set
from threadmatch.model.synthetic.street.street_set import SourcePhoto, Split, build_street_set
from threadmatch.model.synthetic.worn.worn_set import Part, build_worn_set

Role = Literal["fit", "val", "test"]
UNSEEN_PHOTOGRAPHER: Final = "clothing/181"
"""509 garments of one floor: half of all that no feature was tuned on."""
UNSEEN_SHOP: Final = "venia/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographed:
    """Garments of photos, asked for by one of the two makers."""

    maker: Literal["street", "handheld"]
    sources: tuple[str, ...]
    split: Split
    unseen: bool
    per_photo: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Worn:
    """Garments worn in the street."""

    split: Part
    share: tuple[float, float]
    per_item: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Drawn garments."""

    items: int
    queries: int
    seed: int


SETS: Final[dict[Role, dict[str, Photographed | Worn | Drawn]]] = {
    "fit": {
        "street": Photographed(maker="street", sources=("clothing",), split="val", unseen=False, per_photo=8, seed=21),
        "worn": Worn(split="train", share=(0.0, 0.7), per_item=3, seed=41),
        "drawn": Drawn(items=1500, queries=900, seed=101),
    },
    "val": {
        "street": Photographed(
            maker="street", sources=("clothing", "luma"), split="test", unseen=False, per_photo=6, seed=11
        ),
        "worn": Worn(split="train", share=(0.7, 1.0), per_item=2, seed=42),
        "drawn": Drawn(items=1300, queries=1000, seed=202),
    },
    "test": {
        "handheld": Photographed(
            maker="handheld", sources=("clothing", "venia"), split="test", unseen=True, per_photo=2, seed=77
        ),
        "worn": Worn(split="val", share=(0.0, 1.0), per_item=2, seed=43),
    },
}


def build_role(
    root: Path, out: Path, role: Role, *, workers: int | None = None, said: Callable[[str], None] | None = None
) -> dict[str, dict[str, int]]:
    """Make the sets of a role in folders of `out`, named as in SETS.

    Args:
        root: DATA.
        out: made if missing.
        role: which.
        workers: processes; None takes all cores.
        said: told the name of each set when it is done.

    Returns:
        For each set its counts.

    Raises:
        DataError: a folder of DATA is missing.
    """
    counts = {}
    for name, spec in SETS[role].items():
        counts[name] = _build(root, out / name, spec, workers)
        if said is not None:
            said(name)
    return counts


def _build(root: Path, out: Path, spec: Photographed | Worn | Drawn, workers: int | None) -> dict[str, int]:
    if isinstance(spec, Worn):
        return build_worn_set(
            root / "street", out, split=spec.split, per_item=spec.per_item, seed=spec.seed, share=spec.share
        )
    if isinstance(spec, Drawn):
        drawn = write_drawn_set(out, items=spec.items, queries=spec.queries, seed=spec.seed, workers=workers or 1)
        (out / "catalogue.csv").replace(out / "gallery.csv")
        return {"gallery": drawn.items, "queries": drawn.queries}

    def keep(photo: SourcePhoto) -> bool:
        return (photo.owner == UNSEEN_PHOTOGRAPHER or photo.owner.startswith(UNSEEN_SHOP)) == spec.unseen

    if spec.maker == "street":
        return build_street_set(
            root, out, sources=spec.sources, split=spec.split, per_item=spec.per_photo, seed=spec.seed, keep=keep,
            workers=workers,
        )  # fmt: skip
    return build_handheld_set(
        root, out, sources=spec.sources, split=spec.split, per_photo=spec.per_photo, seed=spec.seed, keep=keep,
        workers=workers,
    )  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Sets to fit, choose and judge by, whose garments never meet.")
    parser.add_argument("data", type=Path, help="folder of clothing/, luma/, venia/ and street/")
    parser.add_argument("--role", choices=get_args(Role), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=None)
    given = parser.parse_args()
    print(json.dumps(build_role(given.data, given.out, given.role, workers=given.workers)))


if __name__ == "__main__":
    main()
