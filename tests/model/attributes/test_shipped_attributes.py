"""What ships: its size, its cost beside an encoding, and that it tells attributes of garments never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from threadmatch.model.attributes.part import AttributesPart
from threadmatch.model.descriptions import DEFAULT_MODEL
from threadmatch.model.evaluate.attribute_precision import attribute_precision
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.images import DecodedImage, prepare_image
from threadmatch.model.inference import Model, load_model, model_folder
from threadmatch.model.synthetic.drawn.shop_image import draw_shop_image
from threadmatch.model.synthetic.garments.garment import garment

SHARE = 0.15
"""What all attributes of a photo may cost of its encoding."""
UNSEEN_SEED = 77_003


@pytest.fixture(scope="module")
def network() -> GRNet:
    return load_checkpoint(model_folder(DEFAULT_MODEL))


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(DEFAULT_MODEL, device="cpu")


@pytest.fixture
def part(network: GRNet) -> AttributesPart:
    part = network.attached["attributes"]
    assert isinstance(part, AttributesPart)
    return part


def test_a_photo_keeps_at_most_4_kilobytes_and_the_weights_are_under_2_megabytes(part: AttributesPart) -> None:
    assert part.specs[0].size_bytes <= 4096
    folder = Path(model_folder(DEFAULT_MODEL)) / "attributes"
    assert (folder / "model.safetensors").stat().st_size < 2 * 2**20


def test_all_attributes_of_a_photo_cost_at_most_15_percent_of_its_encoding(
    network: GRNet, part: AttributesPart
) -> None:
    side = network.config.image_px
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        maps = network.backbone.look(torch.zeros(1, 3, side, side, dtype=torch.uint8), part.stages).stages
    grid = (int(maps[part.config.late].shape[2]), int(maps[part.config.late].shape[3]))
    assert part.reader.flops(grid) < SHARE * counter.get_total_flops()


def test_neckline_sleeves_and_pattern_of_garments_never_drawn_before_are_found_better_than_by_the_plain_embedding(
    model: Model,
) -> None:
    garments = [garment(UNSEEN_SEED, index) for index in range(48)]
    pictures = [draw_shop_image(item) for item in garments]
    decoded = [DecodedImage(Image.fromarray(picture), picture.shape[1], picture.shape[0]) for picture in pictures]
    pixels = np.stack([prepare_image(one, image_px=model.image_px).pixels for one in decoded])
    made = model.encode(pixels)
    assert model.attributes is not None
    products = np.array([item.id for item in garments])
    gains = []
    for name in ("neckline", "sleeves", "pattern"):
        values = [item.attributes[name] for item in garments]
        marks = np.array([[value == one for one in sorted(set(values))] for value in values])
        own, plain = (
            np.nanmean(attribute_precision(vectors, vectors, marks=(marks, marks), products=(products, products)))
            for vectors in (made["attributes"][:, model.attributes.names.index(name)], made["embedding"])
        )
        gains.append(own - plain)
    assert min(gains) > 0.1, gains
