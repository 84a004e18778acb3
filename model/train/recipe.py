"""From a recipe file to a checkpoint: encode once, fine-tune the backbone if asked, train the head, calibrate, save.

A recipe is TOML:

    name = "grnet-mine"
    [data]                       # paths from the recipe's folder
    train = "train"              # folders with gallery.csv and queries.csv, or a list of them; or manifests,
    val = "val"                  # whose rows of that split are taken. val: other garments than train; it chooses
                                 # the weights and calibrates
    [model]                      # GRNetConfig
    neck_channels = 256
    [finetune]                   # FinetuneSettings; without this part the backbone stays as it is
    steps = 2000
    [fit]                        # FitSettings
    head_steps = 400
"""

from __future__ import annotations

import json
import logging
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import load_checkpoint, save_checkpoint
from model.config import GRNetConfig
from model.data.manifest import Split, read_pairs
from model.data.pairs import NEGATIVES_FILE, LabelledImage, read_labelled
from model.errors import ConfigError, DataError
from model.grnet import GRNet
from model.inference import Model
from model.pretrained import load_pretrained
from model.train.calibration import expected_calibration_error
from model.train.curves import write_curves
from model.train.features import encode_images
from model.train.finetune import FinetuneSettings
from model.train.fit import FitSettings, fit, settings_dict, start_from_data
from model.train.pools import PairPools, Pools
from model.train.processes import Processes
from model.train.scoring import calibrate_network
from model.train.tune import Tables, bare_model, tune

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train on what; paths are absolute."""

    name: str
    train: tuple[Path, ...]
    val: tuple[Path, ...]
    model: GRNetConfig
    fit: FitSettings
    finetune: FinetuneSettings | None
    backbone_weights: Path | None


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        ConfigError: unreadable, or a part of it is unknown; named.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not a readable recipe: {error}") from error
    data = dict(values.get("data", {}))
    unknown = set(values) - {"name", "data", "model", "finetune", "fit"}
    unknown |= set(data) - {"train", "val", "backbone_weights"}
    if unknown:
        raise ConfigError(
            f"{path}: unknown {sorted(unknown)}; expected name, [data] train, val, [model], [finetune], [fit]"
        )
    if "train" not in data or "val" not in data:
        raise ConfigError(f"{path}: [data] needs train and val: manifests, or folders with gallery.csv and queries.csv")
    for part, settings in (("fit", FitSettings), ("finetune", FinetuneSettings)):
        known = {field.name for field in fields(settings)}
        if wrong := set(values.get(part, {})) - known:
            raise ConfigError(f"{path}: [{part}] has {sorted(wrong)}, known are {sorted(known)}")
    weights = data.get("backbone_weights")
    return Recipe(
        name=str(values.get("name", path.stem)),
        train=_folders(path, data["train"]),
        val=_folders(path, data["val"]),
        model=GRNetConfig.from_dict(values.get("model", {})),
        fit=FitSettings(**values.get("fit", {})),
        finetune=FinetuneSettings(**values["finetune"]) if "finetune" in values else None,
        backbone_weights=path.parent / weights if weights else None,
    )


def _folders(path: Path, named: str | list[str]) -> tuple[Path, ...]:
    return tuple(path.parent / name for name in ([named] if isinstance(named, str) else named))


def train(recipe: Recipe, run: Path) -> dict[str, Any] | None:
    """Train as the recipe says; an unfinished run in the same folder goes on.

    Args:
        recipe: what.
        run: folder for the cached features, curves.jsonl, state.pt and checkpoint/.

    Returns:
        The figures on `val` and where the checkpoint is; None in a helping process of several.

    Raises:
        DataError, ConfigError, CheckpointError: as their rooms say.
    """
    run.mkdir(parents=True, exist_ok=True)
    processes = Processes.start()
    train_on, val = _tables(recipe.train, Split.TRAIN), _tables(recipe.val, Split.VAL)
    if shared := {image.product_id for image in train_on.queries} & {image.product_id for image in val.queries}:
        raise DataError(
            f"{len(shared)} products are in train and in val, such as {sorted(shared)[:3]}; keep them apart"
        )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.fit.seed)
        network = GRNet(recipe.model)
    load_pretrained(network.backbone, recipe.model.backbone, source=recipe.backbone_weights)
    network.backbone.eval()
    if recipe.finetune is not None:
        training, held_out = tune(network, recipe.finetune, train_on, val, run, processes)
    elif processes.main:
        training, held_out = _start(network, recipe, train_on, val, run)
    processes.end()
    if not processes.main:  # the head takes minutes on the CPU, and one process trains it
        return None
    training = replace(training, refused=refused_positions(train_on, len(training.queries.products)))
    figures = fit(network, training, held_out, settings=recipe.fit, run=run)
    network.eval()
    network.name = recipe.name
    network.calibration, scored = calibrate_network(network, held_out)
    prints = save_checkpoint(network, run / "checkpoint")
    scores, same = scored.first_pages()
    finished = Model(load_checkpoint(run / "checkpoint"))
    result = {
        "checkpoint": str(run / "checkpoint"),
        "fingerprint": prints.model,
        "val": figures,
        "calibration_error": expected_calibration_error(finished.probability(scores), same),
        "calibration": network.calibration.to_dict(),
        "fit": settings_dict(recipe.fit),
        "finetune": None if recipe.finetune is None else asdict(recipe.finetune),
        "model": recipe.model.to_dict(),
    }
    (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    try:
        write_curves(run)
    except DataError as error:  # no matplotlib: the model is trained all the same
        logger.warning("curves are not drawn: %s", error)
    return result


def _start(network: GRNet, recipe: Recipe, train_on: Tables, val: Tables, run: Path) -> tuple[PairPools, PairPools]:
    """Features of the backbone as it is; neck and embedding start as their principal components."""
    bare = bare_model(network)
    training, held_out = (_encoded(bare, tables, run / "features") for tables in (train_on, val))
    with torch.random.fork_rng():
        torch.manual_seed(recipe.fit.seed)
        start_from_data(network, training)
    return training, held_out


def _tables(places: tuple[Path, ...], split: Split) -> Tables:
    gallery: list[LabelledImage] = []
    queries: list[LabelledImage] = []
    refused: list[tuple[Path, str]] = []
    for place in places:
        shop, street = read_pairs(place, split)
        gallery += shop
        queries += street
        if (place / NEGATIVES_FILE).exists():
            refused += [(one.path, one.id) for one in read_labelled(place / NEGATIVES_FILE, may_be_empty=True)]
    return Tables(gallery, queries, refused)


def refused_positions(tables: Tables, queries: int) -> dict[int, list[int]]:
    """Positions of refused items by position of the query; `queries` counts its distorted copies too."""
    items = {image.id: position for position, image in enumerate(tables.gallery)}
    by_image: dict[Path, list[int]] = {}
    for path, item in tables.refused:
        if item in items:
            by_image.setdefault(path, []).append(items[item])
    paths = [image.path for image in tables.queries]
    return {n: own for n in range(queries) if (own := by_image.get(paths[n % len(paths)]))}


def _encoded(model: Model, tables: Tables, cache: Path) -> PairPools:
    return PairPools(
        Pools.of(encode_images(model, tables.gallery, cache=cache)),
        Pools.of(encode_images(model, tables.queries, cache=cache)),
    )
