"""What every row of a table is made from, encoded once: training, val and test sets by the bare backbone at all scales.

Letters  n images, R regions, C channels
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from threadmatch.model.config import PAPER_SCALES, GRNetConfig
from threadmatch.model.data.encoded import EncodedSet, encode_images
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.sets import keep_apart, read_sets
from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model
from threadmatch.model.pretrained import load_pretrained
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.similarity import scale_spans
from threadmatch.model.train.inputs.feature_sets import FeatureSet
from threadmatch.model.train.recipe import Recipe

SET_PARTS = ("train", "val", "test")


_SPANS = scale_spans(GRNetConfig().grids)


def features_at(scales: Sequence[str], encoded: Sides[EncodedSet]) -> Sides[FeatureSet]:
    """The regions of these scales alone, as training takes them, of sets that are encoded at PAPER_SCALES."""
    spans = [torch.arange(*span) for scale, span in zip(PAPER_SCALES, _SPANS, strict=True) if scale in scales]
    keep = torch.cat(spans).numpy()
    return encoded.map(lambda side: FeatureSet.of(side.having(regions=side.regions[:, keep])))


@dataclass(frozen=True, slots=True)
class TableData:
    """A recipe's sets and a test set.

    Fields:
        network: the bare backbone, whose parts rows share and nobody changes.
        tuned: the checkpoint it is of, whose neck and embedding rows start from; None: the backbone is pretrained.
        label: digest of all that decides a row but its own settings.
    """

    recipe: Recipe
    network: GRNet
    tuned: GRNet | None
    bare: Model
    train: Sides[EncodedSet]
    val: Sides[EncodedSet]
    test: Sides[EncodedSet]
    label: str


def prepare(
    recipe: Recipe, test: Path, *, cache: Path, backbone: Path | None = None, progress: Progress = unheard
) -> TableData:
    """Encode what a table needs, or take it from the cache.

    Args:
        recipe: its data, backbone and [fit]; the model's other settings are the rows'.
        test: a manifest (its test part) or a folder with gallery.csv and queries.csv.
        cache: folder for features.
        backbone: checkpoint folder whose backbone, neck and embedding are taken; None: the recipe's, pretrained.
        progress: hears how many images are encoded.

    Raises:
        DataError: sets that cannot be read or share products. ConfigError: another backbone than the recipe's.
    """
    kept = {
        name: getattr(recipe.model, name) for name in ("backbone", "image_px", "pool", "embedding_pool", "hypercolumn")
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = GRNet(GRNetConfig(**kept, scales=PAPER_SCALES))
    tuned = None if backbone is None else _tuned(backbone, recipe)
    if tuned is None:
        load_pretrained(network.backbone, recipe.model.backbone, source=recipe.backbone_weights)
    else:
        network.backbone = tuned.backbone
    network.eval()
    sets = {
        "train": read_sets(recipe.train, Split.TRAIN),
        "val": read_sets(recipe.val, Split.VAL),
        "test": read_sets((test,), Split.TEST),
    }
    keep_apart(sets)
    with torch.random.fork_rng(devices=[]):
        bare = Model(GRNet(network.config, backbone=network.backbone))
    encoded = {
        part: one.map(lambda side: encode_images(bare, side, cache=cache, progress=progress))
        for part, one in sets.items()
    }
    listed = {
        part: [[str(one.path), one.product_id, str(one.box)] for side in (own.gallery, own.queries) for one in side]
        for part, own in sets.items()
    }
    fit = {one.name: getattr(recipe.fit, one.name) for one in fields(recipe.fit) if one.name != "seed"}
    features = bare.features_fingerprint if tuned is None else Model(tuned).features_fingerprint
    label = digest([features, listed, fit])
    return TableData(recipe, network, tuned, bare, encoded["train"], encoded["val"], encoded["test"], label)


def digest(value: Any) -> str:
    """12 hex digits of anything that JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _tuned(folder: Path, recipe: Recipe) -> GRNet:
    """A checkpoint whose backbone gives the maps that the recipe's rows read."""
    network = load_checkpoint(folder)
    for name in ("backbone", "image_px"):
        found, expected = getattr(network.config, name), getattr(recipe.model, name)
        if found != expected:
            raise ConfigError(
                f"{folder} has {name} {found!r}, the recipe {expected!r}; give a checkpoint of the recipe's"
            )
    network.backbone.tap(recipe.model.hypercolumn)
    return network
