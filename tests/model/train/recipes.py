"""A recipe that trains a tiny network over a folder's train and val in a second."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from threadmatch.model.backbone import build_backbone

RECIPE = """
name = "stripes"
[data]
train = "train"
val = "{val}"
backbone_weights = "backbone.safetensors"
[model]
backbone = "timm:test_efficientnet"
image_px = 64
neck_channels = 12
embedding_channels = 16
similarity_channels = 14
node_channels = 10
blend = ["greedy"]
{model}
[fit]
metric_steps = 3
head_steps = 3
metric_queries = 8
queries = 6
negatives = 3
shortlist = 6
evaluate_every = 3
"""


def write_recipe(root: Path, *, val: str = "val", model: str = "", more: str = "") -> Path:
    """Write recipe-VAL.toml, and the weights of its backbone where they are not there yet.

    Args:
        root: of the sets.
        val: folder below it.
        model: further lines of [model].
        more: further parts.
    """
    if not (root / "backbone.safetensors").exists():
        torch.manual_seed(1)
        save_file(build_backbone("timm:test_efficientnet").body.state_dict(), root / "backbone.safetensors")
    path = root / f"recipe-{val}.toml"
    path.write_text(RECIPE.format(val=val, model=model) + more)
    return path
