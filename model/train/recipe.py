"""From a recipe file to a checkpoint: encode once, train the backbone if asked, train the head, calibrate, save.

A recipe is TOML:

    name = "grnet-mine"
    start = "grnet-lite0"        # a model that ships or a checkpoint's folder; left out: ImageNet's weights
    [data]                       # paths from the recipe's folder
    train = "train"              # folders with gallery.csv and queries.csv, or a list of them; or manifests,
    val = "val"                  # whose rows of that split are taken. val: other garments than train; it chooses
                                 # the weights and calibrates
    [model]                      # GRNetConfig; with a start left out
    neck_channels = 256
    [finetune]                   # FinetuneSettings: the backbone, by what the head is built on
    steps = 2000
    [end_to_end]                 # EndToEndSettings: backbone and head at once; empty it is the recipe of sec. 5.1
    [fit]                        # HeadSettings: the head over features of the backbone as it then is; left out after
    head_steps = 400             # [end_to_end] nothing more is trained
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.encoded import encode_images
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.sets import LabelledSet, keep_apart, read_sets
from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.calibration import expected_calibration_error
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model
from threadmatch.model.pretrained import load_pretrained
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.train.inputs.feature_sets import FeatureSet
from threadmatch.model.train.loop.curves import write_curves
from threadmatch.model.train.loop.run_folder import END_TO_END, FINETUNE, HEAD, Run, keep_to_plan
from threadmatch.model.train.loop.torchrun import Processes
from threadmatch.model.train.phases.backbone_phase import (
    Prepared,
    bare_model,
    features_of,
    head_features,
    prepare,
    refit_hypercolumn,
    start_from_maps,
)
from threadmatch.model.train.phases.calibration_scores import calibrate_network
from threadmatch.model.train.phases.end_to_end import EndToEndSettings, train_end_to_end
from threadmatch.model.train.phases.finetune import FinetuneSettings, finetune
from threadmatch.model.train.phases.head import HeadSettings, possible, train_head
from threadmatch.model.train.phases.principal_components import start_from_data
from threadmatch.model.train.recipe_files import check_settings, read_toml
from threadmatch.model.train.start import CHECKPOINT, give_head, settled, start_folder, started_config

logger = logging.getLogger(__name__)

STATES = {"finetune": FINETUNE.state, "end_to_end": END_TO_END.state, "fit": HEAD.state}
"""By the part of a recipe what its phase leaves in the run's folder."""

PHASES = {"finetune": FinetuneSettings, "end_to_end": EndToEndSettings, "fit": HeadSettings}
"""Parts of a recipe that train, in their order."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train on what; paths are absolute."""

    name: str
    train: tuple[Path, ...]
    val: tuple[Path, ...]
    model: GRNetConfig
    fit: HeadSettings
    finetune: FinetuneSettings | None
    end_to_end: EndToEndSettings | None
    backbone_weights: Path | None
    start: Path | None = None  # folder of the model that training begins with
    skip_bad_rows: bool = False  # leave out rows that cannot be used and photos that are missing


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        ConfigError: unreadable, or a part of it is unknown; named.
    """
    values = read_toml(path)
    data = dict(values.get("data", {}))
    unknown = set(values) - {"name", "start", "data", "model", *PHASES}
    unknown |= set(data) - {"train", "val", "backbone_weights", "skip_bad_rows"}
    if unknown:
        raise ConfigError(
            f"{path}: unknown {sorted(unknown)}; expected name, start, [data] train, val, [model]"
            f"{''.join(f', [{phase}]' for phase in PHASES)}"
        )
    if "train" not in data or "val" not in data:
        raise ConfigError(f"{path}: [data] needs train and val: manifests, or folders with gallery.csv and queries.csv")
    for part, kind in PHASES.items():
        check_settings(path, part, values.get(part, {}), kind)
    weights = data.get("backbone_weights")
    start = start_folder(str(values["start"]), path.parent) if "start" in values else None
    if start and weights:
        raise ConfigError(f"{path}: start and backbone_weights both say what to begin with; leave one out")
    finetune = FinetuneSettings(**values["finetune"]) if "finetune" in values else None
    end_to_end = EndToEndSettings(**values["end_to_end"]) if "end_to_end" in values else None
    if finetune and end_to_end and finetune.from_stage != end_to_end.from_stage:
        raise ConfigError(
            f"{path}: [finetune] trains from stage {finetune.from_stage} and [end_to_end] from stage"
            f" {end_to_end.from_stage}; one run keeps the maps of one stage, so give both the same from_stage"
        )
    model = _model(path, values.get("model", {}), start)
    if model.companion and (end_to_end or (finetune and not finetune.cells)):
        raise ConfigError(
            f"{path}: two networks are joined in this model, which answers by the cells of both; train them by "
            "[finetune] with cells = 1.0"
        )
    defaults: dict[str, Any] = {"metric_steps": 0, "head_steps": 0} if end_to_end and "fit" not in values else {}
    if start:  # its neck and embedding are trained; the steps that start them would forget that
        defaults.setdefault("metric_steps", 0)
    return Recipe(
        name=str(values.get("name", path.stem)),
        train=_folders(path, data["train"]),
        val=_folders(path, data["val"]),
        model=model,
        fit=HeadSettings(**{**defaults, **values.get("fit", {})}),
        finetune=finetune,
        end_to_end=end_to_end,
        backbone_weights=path.parent / weights if weights else None,
        start=start,
        skip_bad_rows=data.get("skip_bad_rows") is True,
    )


def _model(path: Path, given: dict[str, Any], start: Path | None) -> GRNetConfig:
    try:
        return GRNetConfig.from_dict(given) if start is None else started_config(start, given)
    except ConfigError as error:
        raise ConfigError(f"{path}: [model] {error}") from error


def _folders(path: Path, named: str | list[str]) -> tuple[Path, ...]:
    return tuple(path.parent / name for name in ([named] if isinstance(named, str) else named))


def train(
    recipe: Recipe, folder: Path, *, progress: Progress = unheard, draw_curves: bool = True, force: bool = False
) -> dict[str, Any] | None:
    """Train as the recipe says; an unfinished run in the same folder goes on.

    Args:
        recipe: what.
        folder: of the run: the cached features, curves.jsonl, state.pt and checkpoint/.
        progress: hears what is done, and how far it is.
        draw_curves: at the end, as `write_curves` does.
        force: make a checkpoint of a model that ranks `val` worse than the one it began with, too.

    Returns:
        The figures on `val` and where the checkpoint is; None in a helping process of several.

    Raises:
        ConfigError: the folder holds a run of other settings.
        DataError, ConfigError, CheckpointError: as their rooms say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, Processes.start(), progress)
    states = {name: folder / state for name, state in STATES.items()}
    keep_to_plan(folder, _plan(recipe), states, write=run.processes.main)
    skip_bad = recipe.skip_bad_rows
    train_on = read_sets(recipe.train, Split.TRAIN, skip_bad=skip_bad)
    val = read_sets(recipe.val, Split.VAL, skip_bad=skip_bad)
    keep_apart({"train": train_on, "val": val})
    network = _begin(recipe)
    if recipe.start and not (recipe.finetune or recipe.end_to_end) and "grnet" not in _served(network):
        logger.warning(
            "nothing that serves will change: %s answers by %s, and this recipe trains GRNet's head alone; add "
            "[finetune] to train the features",
            recipe.start.name,
            " then ".join(_served(network)),
        )
    prepared: Prepared | None = None
    training: Sides[FeatureSet] | None
    figures: dict[str, float] = {}
    if recipe.finetune or recipe.end_to_end:
        prepared, figures = _train_backbone(network, recipe, train_on, val, run)
    run.processes.end()
    if not run.processes.main:  # what follows takes minutes, and one process does it
        return None
    if prepared is None:
        training, held_out = _start(network, recipe, train_on, val, run)
    else:
        training, held_out = _features(network, recipe, prepared, run)
    if training is not None:
        figures = train_head(network, training, held_out, settings=recipe.fit, run=replace(run, processes=Processes()))
    result = _finish(network, recipe, held_out, figures, run)
    if recipe.start is not None:
        result |= settled(recipe.start, folder, val, force=force, progress=progress)
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    if draw_curves:
        try:
            write_curves(folder)
        except DataError as error:  # no matplotlib: the model is trained all the same
            logger.warning("curves are not drawn: %s", error)
    return result


def _begin(recipe: Recipe) -> GRNet:
    """The network before its first step, in evaluation mode."""
    if recipe.start is not None:
        network = load_checkpoint(recipe.start)
        give_head(network, recipe.model)
        return network
    with torch.random.fork_rng():
        torch.manual_seed(recipe.fit.seed)
        network = GRNet(recipe.model)
    load_pretrained(network.backbone, recipe.model.backbone, source=recipe.backbone_weights)
    network.backbone.eval()
    return network


def _served(network: GRNet) -> list[str]:
    """The matchers of its chain."""
    return [stage.matcher for stage in network.chain]


def _plan(recipe: Recipe) -> dict[str, dict[str, Any] | None]:
    """The recipe's settings by part."""
    data = {
        "train": [str(path) for path in recipe.train],
        "val": [str(path) for path in recipe.val],
        "backbone_weights": str(recipe.backbone_weights or ""),
        "start": str(recipe.start or ""),
    }
    return {"data": data, "model": asdict(recipe.model), **_phases(recipe)}


def _phases(recipe: Recipe) -> dict[str, dict[str, Any] | None]:
    """The settings of each phase, plain types; None where it is left out."""
    settings = {name: getattr(recipe, name) for name in PHASES}
    return {name: None if own is None else asdict(own) for name, own in settings.items()}


def _train_backbone(
    network: GRNet, recipe: Recipe, train_on: LabelledSet, val: LabelledSet, run: Run
) -> tuple[Prepared, dict[str, float]]:
    """The phases that train the backbone, with figures of the last of them."""
    first = recipe.finetune or recipe.end_to_end
    assert first is not None
    prepared = prepare(network, train_on, val, from_stage=first.from_stage, seed=first.seed, run=run)
    if recipe.start is None:
        start_from_maps(network, prepared, seed=first.seed)
    maps = (network, prepared.rest, prepared.train, prepared.val)
    figures: dict[str, float] = {}
    if recipe.finetune is not None:
        figures = finetune(*maps, settings=recipe.finetune, run=run)
        refit_hypercolumn(network, prepared)
    if recipe.end_to_end is not None:
        figures = train_end_to_end(*maps, settings=recipe.end_to_end, run=run)
    return prepared, figures


def _features(
    network: GRNet, recipe: Recipe, prepared: Prepared, run: Run
) -> tuple[Sides[FeatureSet] | None, Sides[FeatureSet]]:
    """What the head is trained on, None where nothing more is trained, and features of `val`."""
    training = None
    prepared.rest.to(run.processes.device)
    project = possible(recipe.fit, network).metric_steps == 0
    if recipe.fit.steps:
        tuning = recipe.finetune or FinetuneSettings()
        training = head_features(network, prepared, tuning, project=project, progress=run.say)
    held_out = features_of(network, prepared.rest, prepared.val, project=project, progress=run.say)
    prepared.rest.to("cpu")
    return training, held_out


def _finish(
    network: GRNet, recipe: Recipe, held_out: Sides[FeatureSet], figures: dict[str, float], run: Run
) -> dict[str, Any]:
    """Calibrate, save, and say what came out."""
    network.eval()
    network.name = recipe.name
    network.calibration, scored = calibrate_network(network, held_out, progress=run.say)
    prints = save_checkpoint(network, run.folder / CHECKPOINT)
    scores, same = scored.first_pages()
    finished = Model(load_checkpoint(run.folder / CHECKPOINT))
    result = {
        "checkpoint": str(run.folder / CHECKPOINT),
        "fingerprint": prints.model,
        "val": figures,
        "calibration_error": expected_calibration_error(finished.probability(scores), same),
        "calibration": network.calibration.to_dict(),
        **_phases(recipe),
        "model": recipe.model.to_dict(),
    }
    return result


def _start(
    network: GRNet, recipe: Recipe, train_on: LabelledSet, val: LabelledSet, run: Run
) -> tuple[Sides[FeatureSet], Sides[FeatureSet]]:
    """Features of the backbone as it is; neck and embedding start as their principal components."""
    bare = bare_model(network)

    def encoded(images: list[LabelledImage]) -> FeatureSet:
        return FeatureSet.of(encode_images(bare, images, cache=run.folder / "features", progress=run.say))

    training, held_out = train_on.map(encoded), val.map(encoded)
    if recipe.start is None:
        with torch.random.fork_rng():
            torch.manual_seed(recipe.fit.seed)
            start_from_data(network, training)
    return training, held_out
