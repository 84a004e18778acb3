"""From sets of photos to a part that serves: multi-granular alignment on top of a model, which stays as it is.

    python -m threadmatch.model.train.alignment_run recipe.toml --run runs/alignment

A recipe is TOML; `model/weights/grnet-lite0/alignment/recipe.toml` is that of the part that ships:

    model = "grnet-lite0"        # name or folder of the model below
    [data]                       # paths from the recipe's folder; sets are folders of gallery.csv and queries.csv,
    fit = ["fit/street:1"]       # (`model.synthetic.judging_sets` makes them), and what each counts; those of one role
    val = ["val/street"]         # are one gallery
    [form]                       # AlignmentConfig
    sides = [1, 2, 3]
    [fit]                        # AlignmentSettings
    steps = 200

RUN/checkpoint is the model with the part in RUN/checkpoint/alignment; that folder put beside another copy of the same
model's files is enough. An unfinished run goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from threadmatch.model.alignment.config import AlignmentConfig
from threadmatch.model.alignment.part import AlignmentPart
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.data.encoded import EncodedSet, encode_images
from threadmatch.model.data.pairs import read_labelled
from threadmatch.model.data.sets import keep_apart
from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import ConfigError
from threadmatch.model.features import CELLS, EMBEDDING
from threadmatch.model.grnet import load_checkpoint
from threadmatch.model.inference import Model, model_folder
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.train.loop.run_folder import ALIGNMENT, Run, keep_to_plan
from threadmatch.model.train.phases.alignment_fit import AlignmentSettings, MakersSet, train_alignment
from threadmatch.model.train.recipe_files import check_settings, read_toml

Weighted = tuple[Path, float]
"""A set, and what it counts."""


@dataclass(frozen=True, slots=True)
class AlignmentRecipe:
    """What to train on what; paths are absolute."""

    path: Path
    model: str
    fit: tuple[Weighted, ...]
    val: tuple[Weighted, ...]
    form: Mapping[str, Any]
    settings: AlignmentSettings


def read_alignment_recipe(path: Path) -> AlignmentRecipe:
    """Read a recipe file.

    Raises:
        ConfigError: unreadable, or a part of it is unknown; named.
    """
    values = read_toml(path)
    data = values.get("data", {})
    if (unknown := set(values) - {"model", "data", "form", "fit"}) or data.keys() != {"fit", "val"}:
        raise ConfigError(
            f"{path}: unknown {sorted(unknown)}, [data] has {sorted(data)}; expected model, [data] with fit and val, "
            "[form] and [fit]"
        )
    given = values.get("fit", {})
    check_settings(path, "fit", given, AlignmentSettings)
    return AlignmentRecipe(
        path,
        str(values.get("model", "grnet-lite0")),
        _sets(path, data["fit"]),
        _sets(path, data["val"]),
        values.get("form", {}),
        AlignmentSettings(**given),
    )


def _sets(path: Path, named: Sequence[str]) -> tuple[Weighted, ...]:
    found = []
    for name in named:
        folder, _, weight = name.partition(":")
        try:
            found.append((path.parent / folder, float(weight or 1)))
        except ValueError as error:
            raise ConfigError(f"{path}: set {name!r} has weight {weight!r}, expected a number") from error
    if not found:
        raise ConfigError(f"{path}: [data] fit and val each need a set")
    return tuple(found)


def train_part(recipe: AlignmentRecipe, folder: Path, *, progress: Progress = unheard) -> dict[str, Any]:
    """Train as the recipe says.

    Args:
        recipe: what.
        folder: of the run: cached features, curves.jsonl, state.pt, checkpoint/.
        progress: hears how far it is.

    Returns:
        The figures on `val`, the part's fingerprint and where the checkpoint is.

    Raises:
        ConfigError: the folder holds a run of other settings, or the form cannot be built.
        DataError, CheckpointError: as their rooms say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = load_checkpoint(model_folder(recipe.model))
    if AlignmentPart.name in network.attached:
        del network.parts[AlignmentPart.name]
    config = AlignmentConfig.from_dict(
        {
            **AlignmentConfig().to_dict(),
            "grid": network.map_grid(),
            "channels": network.region_channels,
            "embedding_channels": network.embedding_dim,
            **recipe.form,
        }
    )
    plan = {"data": _plan_of(recipe), "form": config.to_dict(), "alignment": asdict(recipe.settings)}
    keep_to_plan(folder, plan, {"alignment": folder / ALIGNMENT.state})
    bare = load_checkpoint(model_folder(recipe.model))  # a copy: encoding folds its batch norm
    bare.parts.clear()
    model = Model(bare)
    fit, val = (_makers(model, role, folder / "features", progress) for role in (recipe.fit, recipe.val))
    keep_apart({"fit": _images(fit), "val": _images(val)})
    with torch.random.fork_rng():
        torch.manual_seed(recipe.settings.seed)
        part = AlignmentPart(config)
    best = train_alignment(part, fit, val, settings=recipe.settings, run=Run(folder, progress=progress))
    network.attach(part)
    save_checkpoint(network, folder / "checkpoint")
    shutil.copyfile(recipe.path, folder / "checkpoint" / part.name / "recipe.toml")
    result = {"checkpoint": str(folder / "checkpoint"), "fingerprint": part.fingerprint, "val": best}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _plan_of(recipe: AlignmentRecipe) -> dict[str, Any]:
    sets = {"fit": recipe.fit, "val": recipe.val}
    return {"model": recipe.model, **{role: [f"{path}:{w}" for path, w in own] for role, own in sets.items()}}


def _images(makers: Sequence[MakersSet]) -> Sides[list[Any]]:
    return Sides(list(makers[0].sides.gallery.images), [image for one in makers for image in one.sides.queries.images])


def _makers(model: Model, sets: Sequence[Weighted], cache: Path, progress: Progress) -> list[MakersSet]:
    """The sets of a role: one gallery of all, and each one's queries."""

    def encoded(path: Path) -> EncodedSet:
        made = encode_images(model, read_labelled(path), cache=cache, progress=progress)
        return EncodedSet(made.images, {name: made.features[name] for name in (EMBEDDING, CELLS)})

    shops = [encoded(path / "gallery.csv") for path, _ in sets]
    gallery = EncodedSet(
        [image for shop in shops for image in shop.images],
        {name: np.concatenate([shop.features[name] for shop in shops]) for name in (EMBEDDING, CELLS)},
    )
    return [MakersSet(path.name, Sides(gallery, encoded(path / "queries.csv")), weight) for path, weight in sets]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train multi-granular alignment on top of a model.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="folder; an unfinished run in it goes on")
    given = parser.parse_args()
    print(json.dumps(train_part(read_alignment_recipe(given.recipe), given.run)))


if __name__ == "__main__":
    main()
