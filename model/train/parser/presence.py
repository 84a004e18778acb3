"""Fit and measure whether a photo holds a garment at all.

    python -m threadmatch.model.train.parser.presence DATA --others OUT/gcompris OUT/stamps --out FOLDER

DATA            street/, clothing/, luma/ and venia/; their train splits are fitted on, the others judged
--others        folders of photos without a garment (`other_photos` makes them); half of each chooses, half is judged
--unseen        likewise, all judged

The parser's own weights are fitted on DATA and on drawn pictures alone. By the others' fitted half, with all of these,
three weights say how much the classes count beside it, and where the parser is sure by itself; own logits of what it
was fitted on are by weights that were fitted on the other FOLDS - 1 parts. The offset is such that FALSE_ALARMS of the
fitted photos of garments, each kind weighing the same, are taken for ones without. Without --out: what ships.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.convex import logistic
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.detector import ParserDetector, load_parser_detector
from threadmatch.model.detection.parsing.presence import Presence, load_presence, said_by, save_presence, shows_none
from threadmatch.model.detection.parsing.weights import fingerprint, load_parser, parser_folder
from threadmatch.model.detection.structure import has_structure
from threadmatch.model.detection.things.network import Things
from threadmatch.model.train.parser.presence_photos import Shown, shown

FALSE_ALARMS: Final = 0.001
"""Rate of fitted photos with a garment that may be taken for ones without."""
PENALTY: Final = 5.0
MIX_PENALTY: Final = 0.1
"""Of the squared weights, over inputs of unit deviation."""
FOLDS: Final = 4
SURE: Final = 0.97
"""Share of the others that the parser is not sure of."""

Doubles = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What both networks gave of N photos.

    Fields:
        groups, names: (N,) text.
        holds, fit, other: (N,) whether a garment, whether fitted on, whether of --others.
        means: (N, C) of the parser's deepest map.
        classes: (N, K) probabilities.
        structure: (N,) see `has_structure`.
    """

    groups: NDArray[np.str_]
    names: NDArray[np.str_]
    holds: Booleans
    fit: Booleans
    other: Booleans
    means: NDArray[np.float32]
    classes: NDArray[np.float32]
    structure: Booleans


def look(photos: Iterable[Shown], detector: ParserDetector, things: Things, others: frozenset[str]) -> Looked:
    """Ask both networks; `others` are the groups that are of --others."""
    found = [
        (one.group, one.name, one.holds, one.fit, one.group in others,
         detector.look([detector.sized(one.pixels)])[0].mean, things(one.pixels), has_structure(one.pixels))
        for one in photos
    ]  # fmt: skip
    return Looked(*(np.array(column) for column in zip(*found, strict=True)))


def fitted(looked: Looked) -> Presence:
    """Fit on the part for it."""
    fit, own_part = looked.fit, looked.fit & ~looked.other
    fold = np.array([zlib.crc32(name.encode()) % FOLDS for name in looked.names])
    weight, offset = _own(looked, own_part)
    own = looked.means.astype(np.float64) @ weight + offset
    for one in range(FOLDS):
        there = fit & (fold == one)
        other_weight, other_offset = _own(looked, own_part & (fold != one))
        own[there] = looked.means[there].astype(np.float64) @ other_weight + other_offset
    garments = fit & looked.holds
    shares = looked.classes[garments].mean(axis=0)
    inputs = np.column_stack([own, *said_by(looked.classes, shares)])
    counts = _alike(looked, fit)
    mix, constant = _regression(inputs[fit], looked.holds[fit], counts[fit], MIX_PENALTY)
    logits = inputs @ mix
    order = np.nonzero(garments)[0][np.argsort(logits[garments])]
    passed = np.cumsum(counts[order]) / counts[order].sum()
    constant = -float(logits[order[np.searchsorted(passed, FALSE_ALARMS)]])
    sure = float(np.quantile(own[fit & looked.other], SURE))
    return Presence(weight.astype(np.float32), offset, sure, shares, np.array([*mix, constant], np.float32))


def print_table(looked: Looked, presence: Presence) -> None:
    """For each group of the judged part, how many are said to show none, and how often the second network was asked."""
    own = looked.means @ presence.weight + presence.offset
    asked = own < presence.sure
    told = np.array([
        shows_none(presence(one, classes) if unsure else 1.0, structured=bool(structured))
        for one, classes, unsure, structured in zip(own.tolist(), looked.classes, asked, looked.structure, strict=True)
    ])  # fmt: skip
    print("| | n | said to show none | second network asked |\n|---|---|---|---|")
    for holds in (True, False):
        print(f"| **{'with a garment' if holds else 'without'}** | | | |")
        for group in dict.fromkeys(looked.groups[~looked.fit & (looked.holds == holds)].tolist()):
            here = ~looked.fit & (looked.groups == group)
            print(
                f"| {group} | {here.sum()} | {told[here].sum()} ({told[here].mean():.1%}) | {asked[here].mean():.0%} |"
            )


def main() -> None:
    """Fit where --out says so; measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--parser", default=DEFAULT_PARSER, help="folder or name of the parser")
    parser.add_argument("--others", type=Path, nargs="+", default=[], help="folders of photos without a garment")
    parser.add_argument("--unseen", type=Path, nargs="+", default=[], help="the same, judged only")
    parser.add_argument("--out", type=Path, help="folder for what is fitted")
    options = parser.parse_args()
    if options.out is not None and not options.others:
        parser.error("--out needs --others: photos without a garment say how much the classes count")
    photos = shown(options.data, options.others, options.unseen, fit=options.out is not None, judged=True)
    groups = frozenset(folder.name for folder in options.others)
    looked = look(photos, load_parser_detector(options.parser), Things(), groups)
    belongs_to = fingerprint(load_parser(options.parser)[0])
    if options.out is not None:
        presence = fitted(looked)
        save_presence(presence, options.out, belongs_to)
    found = load_presence(options.out or parser_folder(options.parser), belongs_to)
    if found is None:
        parser.error(f"nothing is fitted for parser {options.parser}; --out fits it")
    print_table(looked, found)


def _alike(looked: Looked, part: Booleans) -> Doubles:
    """(N,) weights: the groups of a side weigh the same, and so do both sides; 0 outside of `part`."""
    counts = np.zeros(len(part))
    for holds in (True, False):
        groups = dict.fromkeys(looked.groups[part & (looked.holds == holds)].tolist())
        for group in groups:
            here = part & (looked.groups == group)
            counts[here] = part.sum() / 2 / len(groups) / here.sum()
    return counts


def _own(looked: Looked, part: Booleans) -> tuple[Doubles, float]:
    return _regression(looked.means[part].astype(np.float64), looked.holds[part], _alike(looked, part)[part], PENALTY)


def _regression(inputs: Doubles, holds: Booleans, counts: Doubles, penalty: float) -> tuple[Doubles, float]:
    """`logistic` with a penalty beside the sum of all losses, not beside their mean."""
    return logistic(inputs, holds, counts, pull=penalty / 2 / len(inputs))


if __name__ == "__main__":
    main()
