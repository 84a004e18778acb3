"""A tiny model that knows attributes: trained on nothing, and sure of what it says."""

from __future__ import annotations

from pathlib import Path

import torch

from threadmatch.model.attributes.config import Attribute, AttributeConfig
from threadmatch.model.attributes.network import build_network
from threadmatch.model.attributes.part import AttributesPart
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.grnet import load_checkpoint

KNOWN = (
    Attribute("neckline", ("crew", "v"), scale=60.0),
    Attribute("sleeves", ("short", "long", "none"), scale=60.0),
    Attribute("mood"),
)


def with_attributes(model_folder: Path, out: Path) -> Path:
    """Save a checkpoint with a part of KNOWN attributes on two of its stages; its folder."""
    network = load_checkpoint(model_folder)
    channels = network.backbone.stage_channels()
    config = AttributeConfig(early=1, late=2, width=6, attributes=KNOWN)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network.attach(AttributesPart(build_network(config, (channels[1], channels[2])).eval()))
    save_checkpoint(network, out)
    return out
