"""Small sets of pictures in which coloured stripes are the product."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SETUPS = ("easy", "hard_view")


def draw_set(folder: Path, products: range, *, noise: float = 40, angles: int = 1) -> Path:
    """gallery.csv with `angles` photos a product and queries.csv with one noisier one, in two setups and categories."""
    folder.mkdir(parents=True)
    rows: dict[str, list[dict[str, str]]] = {"gallery": [], "queries": []}
    for product in products:
        rng = np.random.default_rng(product)
        stripes = np.repeat(rng.integers(0, 256, (6, 1, 3)), 16, axis=0).repeat(96, axis=1)
        for kind, number, spread in [("gallery", n, 6) for n in range(angles)] + [("queries", 0, noise)]:
            shot = np.clip(stripes + rng.normal(0, spread, stripes.shape), 0, 255).astype(np.uint8)
            name = f"{kind}-{product}-{number}.png"
            Image.fromarray(shot).save(folder / name)
            labels = {"setup": SETUPS[product % 2], "category": f"kind{product % 3}"}
            rows[kind].append({"image": name, "product_id": f"p{product}", **labels})
    for kind, table in rows.items():
        with (folder / f"{kind}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["image", "product_id", "setup", "category"])
            writer.writeheader()
            writer.writerows(table)
    return folder
