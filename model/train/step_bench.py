"""How long a step of training takes: `python -m threadmatch.model.train.step_bench`.

Measured by precision and by whether memory is kept.

Steps are those of the recipe that ships, over maps of noise. Each setting has a process of its own, since memory is
kept for good; they take turns, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import torch

from threadmatch.model.data.sides import Sides
from threadmatch.model.descriptions import DEFAULT_MODEL, SHIPPED
from threadmatch.model.evaluate.provenance import provenance
from threadmatch.model.grnet import GRNet
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.loop.precision import Precision, keep_freed_memory
from threadmatch.model.train.loop.run_folder import FINETUNE, HEAD, Run
from threadmatch.model.train.phases.backbone_phase import features_of
from threadmatch.model.train.phases.finetune import finetune
from threadmatch.model.train.phases.head import train_head
from threadmatch.model.train.phases.principal_components import start_head
from threadmatch.model.train.recipe import Recipe, read_recipe

RECIPE = SHIPPED / DEFAULT_MODEL / "recipe.toml"
ITEMS = 128
WARM_UP = 2


def main() -> None:
    """Print a JSON object: seconds of a step of each phase and setting, the median over all turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5, help="that are timed, a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        precision, memory = given.one
        if memory == "kept":
            keep_freed_memory()
        print(json.dumps(step_seconds(read_recipe(RECIPE), precision, steps=given.steps)))
        return
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(given.turns):
        for precision, memory in itertools.product(get_args(Precision), ("given back", "kept")):
            command = [sys.executable, "-m", __spec__.name, "--steps", str(given.steps), "--one", precision, memory]
            line = subprocess.run(  # noqa: S603 - itself
                command, stdout=subprocess.PIPE, text=True, check=True
            ).stdout
            for phase, seconds in json.loads(line).items():
                found.setdefault(phase, {}).setdefault(f"{precision}, memory {memory}", []).append(seconds)
    medians = {phase: {name: statistics.median(each) for name, each in one.items()} for phase, one in found.items()}
    print(json.dumps({"seconds": medians, "threads": torch.get_num_threads(), "provenance": provenance()}, indent=2))


def step_seconds(recipe: Recipe, precision: Precision, *, steps: int) -> dict[str, float]:
    """Seconds of a step of fine-tuning and of the head, evaluations left out.

    Args:
        recipe: with a [finetune]; its data are not read.
        precision: in place of the recipe's.
        steps: that are timed, after WARM_UP others.
    """
    assert recipe.finetune is not None
    torch.manual_seed(0)
    network = GRNet(recipe.model).eval()
    front, rest = network.backbone.split(recipe.finetune.from_stage)
    side = recipe.model.image_px
    with torch.no_grad():
        shape = front(torch.zeros(1, 3, side, side)).shape[1:]
    rng = np.random.default_rng(0)
    names = [f"p{n}" for n in range(ITEMS)]

    def noise() -> MapSet:
        return MapSet(names, rng.normal(0, 1, (ITEMS, *shape[1:], shape[0])).astype(np.float16))

    maps = Sides(noise(), noise())
    few = maps.map(lambda side: side.some(np.arange(4)))
    features = features_of(network, rest, maps, project=True)  # as the recipe's head, which has no first phase here
    tuning = replace(recipe.finetune, group=1, precision=precision, evaluate_every=steps)  # nobody looks for neighbours
    learning = replace(recipe.fit, metric_steps=0, precision=precision, evaluate_every=steps, evaluate_queries=4)
    found: dict[str, float] = {}
    for count in (WARM_UP, steps):
        with TemporaryDirectory() as folder:
            run = Run(Path(folder))
            finetune(network, rest, maps, few, settings=replace(tuning, steps=count), run=run)
            start_head(network)
            train_head(network, features, features, settings=replace(learning, head_steps=count), run=run)
            found = {
                "finetune": _seconds(run.folder / FINETUNE.log) / count,
                "head": _seconds(run.folder / HEAD.log) / count,
            }
    return found


def _seconds(log: Path) -> float:
    """Of all steps, evaluations left out, as the last line says."""
    return float(json.loads(log.read_text().splitlines()[-1])["seconds"])


if __name__ == "__main__":
    main()
