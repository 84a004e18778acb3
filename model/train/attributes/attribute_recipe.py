"""From a recipe file to a model with attributes: carry photos through the frozen stages once, train, fit, save.

    name = "attributes-mine"
    model = "grnet-lite0"        # a shipped model or a checkpoint: its backbone is read and stays as it is
    [data]                       # manifests with a column an attribute (docs/attributes.md), from the recipe's folder
    train = ["shop.csv"]         # rows of split train
    val = ["shop.csv"]           # rows of split val; they choose the weights and fit the probabilities
    triplets = "z.triplets.csv"  # optional: triplets that people judged, in place of drawn ones
    [network]                    # AttributeConfig
    attributes = ["neckline", "sleeves"]
    [train]                      # AttributeSettings
    steps = 4000

The paper's own form has `backbone = "timm:resnet50"` in place of `model`, whose ImageNet weights then learn along:

    [network]
    early = 2
    late = 3
    classifier = "rest"
    attributes = ["skirt_length", "sleeve_length"]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from threadmatch.model.attributes.config import Attribute, AttributeConfig
from threadmatch.model.attributes.levels import Levels
from threadmatch.model.attributes.network import AttributeNetwork, build_network
from threadmatch.model.attributes.part import AttributesPart
from threadmatch.model.attributes.values import fitted_scale
from threadmatch.model.backbone import Backbone, build_backbone
from threadmatch.model.checkpoint import fingerprints, save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.attribute_labels import AttributeSet, read_attributes
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.triplet_table import read_triplets
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.features import ATTRIBUTES as ATTRIBUTES_PART
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import model_folder
from threadmatch.model.pretrained import load_pretrained
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.settings import check_type
from threadmatch.model.train.attributes.attribute_phase import (
    AttributeSettings,
    LabelledMaps,
    Sampler,
    embed,
    train_attributes,
)
from threadmatch.model.train.attributes.triplets import JudgedTriplets
from threadmatch.model.train.inputs.front_maps import MapSet, make_maps
from threadmatch.model.train.loop.run_folder import ATTRIBUTES, Run, keep_to_plan
from threadmatch.model.train.recipe_files import read_toml

LEAST_PHOTOS = 3
"""Of a value in the train part, for it to be learned: two that share it, and one to spare for the other side."""
IMAGE_PX = GRNetConfig().image_px


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeRecipe:
    """What a recipe file says; paths are absolute.

    Fields:
        name: of the model that comes out.
        model: whose backbone is read, "" where `backbone` is trained along.
        backbone: in place of `model`: one of `backbone.build_backbone`, with its ImageNet weights.
        train, val: manifests.
        triplets: table of judged ones, or None.
        network: as in the file, names of attributes in place of attributes.
        settings: of the training.
    """

    name: str
    model: str
    backbone: str
    train: tuple[Path, ...]
    val: tuple[Path, ...]
    triplets: Path | None
    network: dict[str, Any]
    settings: AttributeSettings


def read_attribute_recipe(path: Path) -> AttributeRecipe:
    """Read a recipe file.

    Raises:
        ConfigError: not TOML, a part or setting is unknown, missing or of another type; named.
    """
    found = read_toml(path)
    _known(path, "a recipe", found, ("name", "model", "backbone", "data", "network", "train"))
    data, network, train = ({**found.get(part, {})} for part in ("data", "network", "train"))
    _known(path, "[data]", data, ("train", "val", "triplets"))
    _known(path, "[network]", network, ("form", "early", "late", "width", "classifier", "attributes"))
    model, backbone = str(found.get("model", "")), str(found.get("backbone", ""))
    if bool(model) == bool(backbone):
        raise ConfigError(f"{path} has {'both' if model else 'neither'} model and backbone; give one of them")
    for part, wanted in (("train", data), ("val", data), ("attributes", network)):
        given = wanted.get(part)
        if not (isinstance(given, list) and given and all(isinstance(one, str) for one in given)):
            raise ConfigError(f"{path}: {part} is {given!r}, expected a list of texts with one at least")
    for name, value in train.items():
        try:
            check_type(AttributeSettings, name, value)
        except (ConfigError, KeyError) as error:
            raise ConfigError(
                f"{path}: [train] {name}: {error if isinstance(error, ConfigError) else 'unknown'}"
            ) from error
    return AttributeRecipe(
        name=str(found.get("name", path.stem)),
        model=model,
        backbone=backbone,
        train=tuple(path.parent / one for one in data["train"]),
        val=tuple(path.parent / one for one in data["val"]),
        triplets=path.parent / data["triplets"] if "triplets" in data else None,
        network=network,
        settings=AttributeSettings(**train),
    )


def _known(path: Path, what: str, given: dict[str, Any], names: Sequence[str]) -> None:
    if unknown := sorted(set(given) - set(names)):
        raise ConfigError(f"{path}: {what} has {', '.join(unknown)}, known are {', '.join(names)}")


def train_attribute_recipe(recipe: AttributeRecipe, folder: Path, *, progress: Progress = unheard) -> dict[str, Any]:
    """Train as the recipe says; an unfinished run in the same folder goes on.

    Args:
        recipe: what.
        folder: of the run: the cached maps, attributes.jsonl, and checkpoint/ or, of a backbone that learns along,
            network/.
        progress: hears what is done.

    Returns:
        The figures on val, and where the outcome is.

    Raises:
        ConfigError, DataError, CheckpointError: as their rooms say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"data": {**asdict(recipe), "network": None, "settings": None}, "network": recipe.network,
            "train": asdict(recipe.settings)}  # fmt: skip
    keep_to_plan(folder, json.loads(json.dumps(plan, default=str)), {"train": folder / ATTRIBUTES.state})
    names = recipe.network["attributes"]
    photos = {split: read_attributes(paths, split, names) for split, paths in _parts(recipe)}
    _keep_apart(photos)
    core = load_checkpoint(model_folder(recipe.model)) if recipe.model else None
    backbone = _backbone(recipe) if core is None else core.backbone
    config = _config(recipe, photos[Split.TRAIN])
    levels = Levels(backbone.eval(), early=config.early, late=config.late)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.settings.seed)
        network = _network(config, levels, backbone)
    run = Run(folder, progress=progress)
    maps = {split: _maps(core, levels, own, folder, run) for split, own in photos.items()}
    training, val = (LabelledMaps.of(photos[split], maps[split], network) for split in (Split.TRAIN, Split.VAL))
    sampler = _judged(recipe, photos[Split.TRAIN], names)
    figures = train_attributes(
        network, training, val, settings=recipe.settings, run=run, front=None if core else levels, sampler=sampler
    )
    _fit_scales(network, val, nn.Sequential(levels, network) if core is None else network)
    saved = _save(network, core, levels, folder)
    result = {"name": recipe.name, "val": figures, "attributes": network.config.to_dict()["attributes"], **saved}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _parts(recipe: AttributeRecipe) -> tuple[tuple[Split, tuple[Path, ...]], ...]:
    return (Split.TRAIN, recipe.train), (Split.VAL, recipe.val)


def _keep_apart(photos: dict[Split, AttributeSet]) -> None:
    products = {split: {image.product_id for image in own.images} for split, own in photos.items()}
    if shared := products[Split.TRAIN] & products[Split.VAL]:
        raise DataError(
            f"{len(shared)} products are in train and in val, such as {sorted(shared)[:3]}; keep them apart"
        )


def _backbone(recipe: AttributeRecipe) -> Backbone:
    backbone = build_backbone(recipe.backbone)
    load_pretrained(backbone, recipe.backbone)
    return backbone


def _config(recipe: AttributeRecipe, photos: AttributeSet) -> AttributeConfig:
    """The recipe's network with the values that enough photos have."""
    values = {name: photos.vocabulary(name, least=LEAST_PHOTOS) for name in recipe.network["attributes"]}
    described = [Attribute(name, own).to_dict() for name, own in values.items()]
    return AttributeConfig.from_dict({**recipe.network, "attributes": described})


def _network(config: AttributeConfig, levels: Levels, backbone: Backbone) -> AttributeNetwork:
    early, late = levels.channels
    if config.classifier != "rest":
        return build_network(config, (early, late))
    return build_network(config, (early, late), rest=levels.rest, rest_channels=backbone.channels)


def _maps(core: GRNet | None, levels: Levels, photos: AttributeSet, folder: Path, run: Run) -> MapSet:
    """What the frozen stages make of the photos; the photos themselves where nothing is frozen."""
    label = "pixels" if core is None else f"{fingerprints(core).features} {levels.label}"
    return make_maps(
        nn.Identity() if core is None else levels,
        photos.images,
        image_px=IMAGE_PX if core is None else core.config.image_px,
        cache=folder / "maps",
        label=label,
        progress=run.say,
    )


def _judged(recipe: AttributeRecipe, photos: AttributeSet, names: Sequence[str]) -> Sampler | None:
    if recipe.triplets is None:
        return None
    places = {image.id: n for n, image in enumerate(photos.images)}
    return JudgedTriplets(read_triplets(recipe.triplets, Split.TRAIN, places), names)


def _fit_scales(network: AttributeNetwork, val: LabelledMaps, module: nn.Module) -> None:
    """Let each attribute's probabilities hold on `val`."""
    embeddings = embed(module, val.maps)
    fitted = []
    for n, (attribute, marks) in enumerate(zip(network.config.attributes, val.marks, strict=True)):
        toward = network.values[n].detach().numpy().astype(np.float64)
        cosine = embeddings[:, n] @ (toward / np.linalg.norm(toward, axis=1, keepdims=True)).T
        fitted.append(
            replace(attribute, scale=round(fitted_scale(cosine, marks), 4)) if attribute.values else attribute
        )
    network.config = replace(network.config, attributes=tuple(fitted))


def _save(network: AttributeNetwork, core: GRNet | None, levels: Levels, folder: Path) -> dict[str, Any]:
    if core is None:
        tensors = nn.ModuleDict({"levels": levels, "network": network}).state_dict()
        (folder / "network").mkdir(exist_ok=True)
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "network/model.safetensors")
        (folder / "network/config.json").write_text(json.dumps(network.config.to_dict(), indent=2) + "\n")
        return {"network": str(folder / "network")}
    if ATTRIBUTES_PART in core.parts:
        del core.parts[ATTRIBUTES_PART]
    core.attach(AttributesPart(network))
    prints = save_checkpoint(core, folder / "checkpoint")
    return {
        "bytes_a_photo": core.attached[ATTRIBUTES_PART].specs[0].size_bytes,
        "checkpoint": str(folder / "checkpoint"),
        "fingerprint": prints.model,
        "part": core.attached[ATTRIBUTES_PART].fingerprint,
    }
