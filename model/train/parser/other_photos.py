"""Photos that show no garment, taken out of two of Debian's packages, to choose by and to judge with.

    dpkg-deb -x gcompris-qt-data_*.deb X; dpkg-deb -x tuxpaint-stamps-default_*.deb X
    python -m threadmatch.model.train.parser.other_photos X --out OUT

OUT/gcompris/   photos of animals, buildings, tools, mills and dishes (AGPL-3+, CC-BY-SA and public domain)
OUT/stamps/     things cut out, on white (GPL-2)

They are looked at and stay where they are: none is part of this repository.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError

SIDE_PX: Final = 640
PACKS: Final = ("erase", "explore_monuments", "explore_world_animals", "explore_farm_animals", "categorization")
"""Of the games' files, those that hold photos."""
LEAST_PX: Final = 150
DRAWN: Final = ("cartoon", "clothes", "symbols", "people", "dinosaur", "flags", "hazmat", "parachut", "pizza",
                "hedgehog", "bunny")  # fmt: skip
"""In the paths of stamps that are drawings, or show a garment."""
LEAST_STAMP_PX: Final = 120
LEAST_SQUARE_PX: Final = 300
MARGIN: Final = 1.25
"""Of a stamp's long side, the side of the white square around it."""


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unpacked", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    shared = options.unpacked / "usr" / "share"
    for folder, photos in (
        ("gcompris", _packed(shared / "gcompris-qt" / "rcc")),
        ("stamps", _stamps(shared / "tuxpaint" / "stamps")),
    ):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
        count = 0
        for name, photo in photos:
            photo.thumbnail((SIDE_PX, SIDE_PX))
            photo.save(options.out / folder / name)
            count += 1
        print(f"{count} photos in {options.out / folder}")


def _packed(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """The WebP pictures in Qt's resource files, which hold them as they are."""
    for pack in PACKS:
        content, number, at = (folder / f"{pack}.rcc").read_bytes(), 0, 0
        while (at := content.find(b"RIFF", at)) >= 0:
            size = int.from_bytes(content[at + 4 : at + 8], "little") + 8
            try:
                photo = Image.open(io.BytesIO(content[at : at + size]), formats=["WEBP"])
                photo.load()
            except (UnidentifiedImageError, OSError):
                at += 4
                continue
            at += size
            if min(photo.size) >= LEAST_PX:
                yield f"{pack}-{number:03d}.png", _on_white(photo, photo.size)
                number += 1


def _stamps(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder).as_posix()
        if any(word in name for word in DRAWN):
            continue
        stamp = Image.open(path)
        side = int(MARGIN * max(stamp.size))
        if min(stamp.size) >= LEAST_STAMP_PX and side >= LEAST_SQUARE_PX:
            yield name.replace("/", "__"), _on_white(stamp, (side, side))


def _on_white(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    """In the middle of a white picture."""
    if photo.mode == "RGB" and photo.size == size:
        return photo
    ground = Image.new("RGBA", size, "white")
    ground.alpha_composite(photo.convert("RGBA"), ((size[0] - photo.width) // 2, (size[1] - photo.height) // 2))
    return ground.convert("RGB")


if __name__ == "__main__":
    main()
