"""Maps of coloured stripes: small sets that a backbone can be trained on in seconds."""

from __future__ import annotations

import copy

import numpy as np
import torch

from threadmatch.model.backbone import Backbone
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.sides import Sides
from threadmatch.model.grnet import GRNet
from threadmatch.model.train.inputs.front_maps import MapSet

STAGE = 3
CONFIG = GRNetConfig(
    backbone="timm:test_efficientnet", image_px=64, neck_channels=12, embedding_channels=16, region_norm="l2",
    similarity_channels=14, node_channels=10,
)  # fmt: skip


def striped_maps(backbone: Backbone, products: range, seed: int) -> Sides[MapSet]:
    """The colours are the product, the noise is the photo."""
    front, _ = backbone.split(STAGE)
    rng = np.random.default_rng(seed)
    stripes = np.stack(
        [np.random.default_rng(n).integers(0, 256, (3, 8, 1)).repeat(8, 1).repeat(64, 2) for n in products]
    )

    def view(noise: float) -> MapSet:
        pixels = np.clip(stripes + rng.normal(0, noise, stripes.shape), 0, 255).astype(np.float32)
        with torch.no_grad():
            maps = front(torch.from_numpy(pixels)).permute(0, 2, 3, 1)
        return MapSet([f"p{n}" for n in products], maps.numpy().astype(np.float16))

    return Sides(view(4), view(90))


def start(backbone: Backbone, config: GRNetConfig = CONFIG) -> tuple[GRNet, torch.nn.Module]:
    """A network over a copy of the backbone, and the part of it from STAGE on."""
    torch.manual_seed(1)
    network = GRNet(config, backbone=copy.deepcopy(backbone)).eval()
    return network, network.backbone.split(STAGE)[1]
