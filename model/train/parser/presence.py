"""Fit and measure whether a photo holds a garment at all.

    python -m threadmatch.model.train.parser.presence DATA --out FOLDER

With a garment      photos of the train split of street/, clothing/, luma/ and venia/, and the middle of some of them;
                    drawn garments, alone and worn, lest drawing itself speaks against one
Without             what stands left and right of the people of street/, their heads, and pictures that are drawn
                    (`model.synthetic.nonsense`, seeds from FIT_SEEDS on)

Two thirds fit the weights, one third the offset, so that FALSE_ALARMS of the photos with a garment are taken for ones
without. The table is of photos of the other splits and of drawn pictures of other seeds. Without --out it measures the
shipped one.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from threadmatch.model.data.setups import Setup
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.detector import ParserDetector, load_parser_detector
from threadmatch.model.detection.parsing.presence import Presence, save_presence
from threadmatch.model.detection.parsing.weights import fingerprint, load_parser
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_query
from threadmatch.model.synthetic.drawn.shop_image import draw_shop_image
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.model.synthetic.nonsense import KINDS, as_jpeg, nonsense

Pixels = NDArray[np.uint8]

SEED: Final = 0
SHOP: Final = 31
"""Seed of the drawn garments."""
MOST: Final = {"street": 400, "clothing": 800, "luma": 300, "venia": 300}
"""Photos of a source, of either part."""
FIT_SEEDS: Final = range(100, 130)
TEST_SEEDS: Final = range(12)
FALSE_ALARMS: Final = 0.01
"""Rate of photos with a garment that may be taken for ones without."""
PENALTY: Final = 20.0
"""Of the squared weights, over inputs of unit deviation."""
LEAST_PX: Final = 80
"""Side of a part that is cut out."""


def parts(data: Path, *, fit: bool) -> Iterator[tuple[str, bool, str, Pixels]]:
    """What is looked at: group, whether it holds a garment, the photo it is of, (H, W, 3) uint8 RGB.

    Args:
        data: folder of the sources.
        fit: the part that is fitted on, else the part that is measured.
    """
    random = np.random.default_rng(SEED)
    for source, most in MOST.items():
        with (data / source / "items.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if _is_train(row) == fit]
        for number, at in enumerate(random.permutation(len(rows))[:most].tolist()):
            row = rows[at]
            path = data / source / (row.get("image") or row["images"])
            photo = decode_image(path.read_bytes()).pixels
            yield source, True, str(path), photo
            height, width = photo.shape[:2]
            if source != "street" and number % 3 == 0:
                middle = photo[int(0.3 * height) : int(0.7 * height), int(0.3 * width) : int(0.7 * width)]
                yield "middle of a garment", True, str(path), np.ascontiguousarray(middle)
            if source == "street":
                mask = np.asarray(Image.open(data / source / row["mask"]))
                yield from ((group, False, str(path), part) for group, part in _beside(photo, mask))
    for seed in FIT_SEEDS if fit else TEST_SEEDS:
        item = garment(SHOP, seed)
        for group, picture in (
            ("drawn garments", draw_shop_image(item)),
            ("drawn people", draw_street_query(item, setup=Setup.EASY, seed=seed).image),
        ):
            yield group, True, f"garment-{seed}", picture
    for kind in KINDS:
        for seed in FIT_SEEDS if fit else TEST_SEEDS:
            yield f"drawn {kind}", False, f"{kind}-{seed}", decode_image(as_jpeg(nonsense(kind, seed))).pixels


def fitted(detector: ParserDetector, data: Path) -> Presence:
    """Fit on the train part."""
    found = [
        (detector.look([detector.sized(photo)])[0].mean, holds, name) for _, holds, name, photo in parts(data, fit=True)
    ]
    means = np.stack([mean for mean, _, _ in found])
    holds = np.array([one for _, one, _ in found])
    third = np.array([zlib.crc32(name.encode()) % 3 == 0 for _, _, name in found])  # all parts of a photo together
    presence = _regression(means[~third], holds[~third])
    logits = means[third & holds] @ presence.weight + presence.offset
    return Presence(presence.weight, presence.offset - float(np.quantile(logits, FALSE_ALARMS)))


def measure(detector: ParserDetector, data: Path, others: Path | None) -> None:
    """Print for each group how many are said to show no garment; `others` is a folder of photos without one."""
    said: defaultdict[tuple[bool, str], list[bool]] = defaultdict(list)
    for group, holds, _, photo in parts(data, fit=False):
        said[holds, group].append(not detector.parse(photo).shows_garment)
    for path in sorted(others.iterdir()) if others else ():
        if path.suffix in (".png", ".jpg"):
            said[False, f"photos of {others}"].append(
                not detector.parse(np.asarray(Image.open(path).convert("RGB"))).shows_garment
            )
    print("| | n | said to show no garment |\n|---|---|---|")
    for holds in (True, False):
        print(f"| **{'with a garment' if holds else 'without'}** | | |")
        for (one, group), answers in said.items():
            if one == holds:
                print(f"| {group} | {len(answers)} | {sum(answers)} ({np.mean(answers):.1%}) |")


def main() -> None:
    """Fit where --out says so; measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--parser", default=DEFAULT_PARSER, help="folder or name of the parser")
    parser.add_argument("--out", type=Path, help="folder for what is fitted")
    parser.add_argument("--others", type=Path, help="folder of further photos without a garment, to measure on")
    options = parser.parse_args()
    detector = load_parser_detector(options.parser)
    if options.out is not None:
        presence = fitted(detector, options.data)
        network, config = load_parser(options.parser)
        save_presence(presence, options.out, fingerprint(network))
        detector = ParserDetector(network, config, presence=presence)
    measure(detector, options.data, options.others)


def _is_train(row: dict[str, str]) -> bool:
    """By the table's own split; a shop's products are halved by their names."""
    if "split" in row:
        return row["split"] == "train"
    return zlib.crc32(row["product_id"].encode()) % 2 == 0


def _beside(photo: Pixels, mask: Pixels) -> Iterator[tuple[str, Pixels]]:
    """What is left and right of somebody, and the head, where they are large enough."""
    rows, columns = np.nonzero(mask)
    if not len(columns):
        return
    left, right, top = int(columns.min()), int(columns.max()), int(rows.min())
    side, middle = int(0.45 * (right - left)), (left + right) // 2
    head = photo[max(0, top - 10) : top + side, max(0, middle - side // 2) : middle + side // 2]
    for group, part in (("street beside people", photo[:, :left]), ("street beside people", photo[:, right:]),
                        ("heads, blurred", head)):  # fmt: skip
        if min(part.shape[:2]) >= LEAST_PX:
            yield group, np.ascontiguousarray(part)


def _regression(means: NDArray[np.float32], holds: NDArray[np.bool_]) -> Presence:
    """Logistic, both classes weighing the same."""
    center, deviation = means.mean(axis=0), means.std(axis=0) + 1e-6
    x = torch.from_numpy((means - center) / deviation).double()
    y = torch.from_numpy(holds.astype(np.float64))
    share = torch.where(y > 0, 0.5 / y.sum(), 0.5 / (1 - y).sum()) * len(y)
    weight, offset = torch.zeros(x.shape[1], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    weight.requires_grad_()
    offset.requires_grad_()
    solver = torch.optim.LBFGS([weight, offset], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> float:
        solver.zero_grad()
        missed = F.binary_cross_entropy_with_logits(x @ weight + offset, y, weight=share, reduction="sum")
        loss = missed + PENALTY / 2 * weight.square().sum()
        loss.backward()
        return float(loss.detach())

    solver.step(closure)
    scaled = weight.detach().numpy() / deviation
    return Presence(scaled.astype(np.float32), float(offset.detach()) - float(center @ scaled))


if __name__ == "__main__":
    main()
