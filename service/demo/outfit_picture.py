"""A picture of a whole street photo: the garments that a service finds in it, and the first matches of each.

    threadmatch data sample --out shop && threadmatch ingest shop/catalogue.csv --images shop --gallery gallery
    threadmatch serve --gallery gallery --port 8000
    python -m threadmatch.service.demo.outfit_picture http://127.0.0.1:8000 FILE.png --seed 0

The photo is put together from three of the photos that ship (`model.synthetic.street.outfit`).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image, ImageDraw

from threadmatch.model.synthetic.street.outfit import outfit
from threadmatch.model.synthetic.street.street_set import read_sources
from threadmatch.service.demo.picture import BOX, CELL, COLORS, GAP, INK, LABEL, WHITE, draw_match, label_font
from threadmatch.service.demo.sources import SHIPPED_PHOTOS

MATCHES: Final = 4
LEAST_SCORE: Final = 0.85
"""Of a garment that is shown, as on the search page."""


def write_outfit_picture(path: Path, client: httpx.Client, *, seed: int) -> list[bool]:
    """Draw the picture.

    Args:
        path: PNG to write.
        client: of a service whose gallery holds the photos that ship.
        seed: of the photo.

    Returns:
        For each garment that was found whether its first match is one that the photo was put together from.
    """
    pixels, worn = outfit(read_sources(SHIPPED_PHOTOS, ["clothing"]), seed=seed)
    photo = Image.fromarray(pixels)
    with io.BytesIO() as file:
        photo.save(file, "JPEG", quality=92)
        jpeg = file.getvalue()
    found = _found(client, jpeg)
    right = {one.id for one in worn}
    row = LABEL + CELL[1] + 2 * GAP
    height = row * max(1, len(found))
    scale = (height - GAP) / photo.height
    shown = photo.resize((round(photo.width * scale), height - GAP), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (4 * GAP + shown.width + MATCHES * (CELL[0] + GAP), height + GAP), WHITE)
    sheet.paste(shown, (GAP, GAP))
    draw = ImageDraw.Draw(sheet)
    for number, (one, matches) in enumerate(found):
        x0, y0, x1, y1 = (GAP + edge * scale for edge in one["box"])
        draw.rectangle((x0, y0, x1, y1), outline=BOX, width=2)
        draw.text((x0 + 4, y0 + 2), str(number + 1), BOX, font=label_font())
        left, top = 3 * GAP + shown.width, GAP + number * row
        draw.text((left, top), f"{number + 1}  {(one['label'] or 'garment').replace('_', ' ')}", INK, font=label_font())
        for place, match in enumerate(matches):
            corner = (left + place * (CELL[0] + GAP), top + LABEL)
            draw_match(sheet, draw, client, match, corner, right=match["id"] in right)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(COLORS).save(path, "PNG", optimize=True)
    return [matches[0]["id"] in right for _, matches in found]


def _found(client: httpx.Client, jpeg: bytes) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The garments that the service is sure of, from above, with their matches; what finds the same item is one."""
    by_item: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for one in _search(client, jpeg, box="auto")["query"]["garments"]:
        if one["score"] < LEAST_SCORE:
            continue
        matches = _search(client, jpeg, box=",".join(str(edge) for edge in one["box"]))["matches"]
        if matches and _area(one) > (_area(by_item[matches[0]["id"]][0]) if matches[0]["id"] in by_item else 0):
            by_item[matches[0]["id"]] = one, matches
    return sorted(by_item.values(), key=lambda found: float(found[0]["box"][1]))


def _area(garment: dict[str, Any]) -> float:
    x0, y0, x1, y1 = garment["box"]
    return float((x1 - x0) * (y1 - y0))


def _search(client: httpx.Client, jpeg: bytes, *, box: str) -> dict[str, Any]:
    response = client.post(
        "/v1/search", files={"image": ("street.jpg", jpeg)}, data={"box": box, "top_k": str(MATCHES)}
    )
    answer: dict[str, Any] = response.raise_for_status().json()
    return answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with httpx.Client(base_url=options.address, timeout=60) as client:
        found = write_outfit_picture(options.file, client, seed=options.seed)
    print(f"{len(found)} garments found, the right item first for {sum(found)}: {options.file}")


if __name__ == "__main__":
    main()
