"""Small sets of pictures in which coloured stripes are the product; the library that checks our metrics."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.model.train.maps import CONFIG
from threadmatch.model.backbone import Backbone, build_backbone

SETUPS = ("easy", "hard_view")


@pytest.fixture(scope="session")
def ranx() -> Any:
    """The library, run as plain Python: compiling it takes half a minute, and a test's rankings are short."""
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    return pytest.importorskip("ranx")


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


@pytest.fixture(scope="module")
def photo_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small sets, train and val."""
    root = tmp_path_factory.mktemp("sets")
    draw_set(root / "train", range(16))
    draw_set(root / "val", range(50, 66))
    return root


@pytest.fixture(scope="session")
def striped_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 products, two photos each in the gallery, one query each."""
    return draw_set(tmp_path_factory.mktemp("striped") / "set", range(40), angles=2)


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """A small one at random weights, frozen."""
    torch.manual_seed(0)
    return build_backbone(CONFIG.backbone).eval()
