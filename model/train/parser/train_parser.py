"""Train a garment parser from a recipe: `python -m threadmatch.model.train.parser.train_parser RECIPE --run FOLDER`.

name = "parser-lite0"
[data]
root = "../shared/data"      # folder of street/, clothing/, luma/, venia/; from the recipe's folder
seed = 5                     # of what is drawn
[train]                      # TrainSettings
steps = 1800
[scenes]                     # SceneShares

RUN/store/                   the photos, decoded once
RUN/state.pt                 where training stands, written every `save_every` steps
RUN/log.jsonl                a line whenever the state is written
RUN/parser/                  the weights, in the end
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor

from threadmatch.model.backbone import build_backbone
from threadmatch.model.detection.parsing.kinds import KINDS
from threadmatch.model.detection.parsing.network import STRIDE, lite0_parser
from threadmatch.model.detection.parsing.weights import ParserConfig, load_parser, save_parser
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.pretrained import load_pretrained
from threadmatch.model.train.loop.precision import keep_freed_memory
from threadmatch.model.train.parser.kind_loss import partial_cross_entropy
from threadmatch.model.train.parser.parser_photos import PhotoStore, known_photos, write_store
from threadmatch.model.train.parser.scenes import Scenes, SceneShares
from threadmatch.model.train.recipe_files import check_settings, read_toml

logger = logging.getLogger(__name__)

STATE_FILE: Final = "state.pt"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train.

    Fields:
        steps, batch: of scenes.
        sides_px: H and W of an upright scene; a lying one the other way round.
        small_sides_px, small_share: what scenes measure at first, and for which share of the steps.
        answer_sides_px: what the parser will see; a little more than it was trained on finds more.
        lying: share of the batches whose scenes lie.
        warmup: steps over which the rates rise.
        encoder_rate, decoder_rate: learning rates at their highest.
        frozen_stages: of the encoder, from the first, that stay as ImageNet left them; its norms' statistics all do.
        average: decay of the weights' moving average, which is what is saved.
        rare: how much rarer kinds weigh more: weight = frequency ** -rare.
        save_every: steps.
        stop_after: step at which training ends early, before the rate has fallen; 0: at the last.
        start: folder of a parser to begin with, from the recipe's folder; "" begins with ImageNet's weights.
    """

    steps: int = 1800
    batch: int = 16
    sides_px: tuple[int, int] = (256, 192)
    small_sides_px: tuple[int, int] = (192, 160)
    small_share: float = 0.4
    answer_sides_px: tuple[int, int] = (256, 192)
    lying: float = 0.12
    warmup: int = 40
    encoder_rate: float = 5e-4
    decoder_rate: float = 2e-3
    weight_decay: float = 1e-3
    frozen_stages: int = 3
    average: float = 0.995
    rare: float = 0.4
    save_every: int = 100
    stop_after: int = 0
    start: str = ""
    seed: int = 0
    imagenet: bool = True


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train on what."""

    name: str
    folder: Path
    root: Path
    data_seed: int
    train: TrainSettings
    scenes: SceneShares


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        ConfigError: unreadable, or a part of it is unknown; named.
    """
    values = read_toml(path)
    data = dict(values.get("data", {}))
    if unknown := (set(values) - {"name", "data", "train", "scenes"}) | (set(data) - {"root", "seed"}):
        raise ConfigError(f"{path}: unknown {sorted(unknown)}; expected name, [data] root, seed, [train], [scenes]")
    if "root" not in data:
        raise ConfigError(f"{path}: [data] needs root, the folder of street/, clothing/, luma/ and venia/")
    train: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.get("train", {}).items()
    }
    for part, kind, given in (("train", TrainSettings, train), ("scenes", SceneShares, values.get("scenes", {}))):
        check_settings(path, part, given, kind)
    return Recipe(
        name=str(values.get("name", path.stem)),
        folder=path.parent,
        root=(path.parent / data["root"]).resolve(),
        data_seed=int(data.get("seed", 0)),
        train=TrainSettings(**train),
        scenes=SceneShares(**values.get("scenes", {})),
    )


def train(recipe: Recipe, run: Path, *, scenes: Scenes | None = None) -> Path:
    """Train as the recipe says; an unfinished run in the same folder goes on.

    Args:
        recipe: what.
        run: folder, as the module says.
        scenes: to train on; None makes the recipe's.

    Returns:
        The folder of the parser.

    Raises:
        ConfigError: the folder holds a run of another recipe.
        DataError: photos are missing.
    """
    settings = recipe.train
    run.mkdir(parents=True, exist_ok=True)
    store = _store(recipe, run / "store")
    scenes = scenes or Scenes(store, recipe.scenes)
    training = _Training(recipe, run)
    weights = _kind_weights(store, settings.rare)
    began, losses = time.monotonic(), []
    last = settings.stop_after or settings.steps
    while training.step < last:
        losses.append(training.advance(scenes, weights))
        if training.step % settings.save_every == 0 or training.step == last:
            line = {
                "step": training.step,
                "loss": round(float(np.mean(losses)), 4),
                "seconds": round(time.monotonic() - began, 1),
            }
            losses.clear()
            training.save(line)
            logger.info("trained", extra=line)
    save_parser(training.averaged, run / "parser", ParserConfig(name=recipe.name, sides_px=settings.answer_sides_px))
    return run / "parser"


class _Training:
    """Network, its average, optimiser and step, on disk and in memory."""

    def __init__(self, recipe: Recipe, run: Path) -> None:
        self.settings, self._run = recipe.train, run
        self._plan = json.dumps(asdict(recipe.train) | asdict(recipe.scenes) | {"seed of data": recipe.data_seed})
        torch.manual_seed(self.settings.seed)
        backbone = build_backbone("efficientnet_lite0")
        if self.settings.imagenet and not self.settings.start:
            load_pretrained(backbone, "efficientnet_lite0")
        self.parser = lite0_parser(backbone)
        if self.settings.start:
            self.parser.load_state_dict(load_parser(recipe.folder / self.settings.start)[0].state_dict())
        self.parser.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.parser).eval().requires_grad_(False)
        for stage in self.parser.encoder.stages[: self.settings.frozen_stages]:
            stage.requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            [
                {
                    "params": [p for p in self.parser.encoder.parameters() if p.requires_grad],
                    "peak": self.settings.encoder_rate,
                },
                {"params": list(self.parser.decoder.parameters()), "peak": self.settings.decoder_rate},
            ],
            lr=0.0,
            weight_decay=self.settings.weight_decay,
        )
        self.step = 0
        if (run / STATE_FILE).exists():
            self._resume(run / STATE_FILE)

    def _resume(self, path: Path) -> None:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if saved["plan"] != self._plan:
            raise ConfigError(f"{path} is of another recipe; give another --run, or remove it to begin anew")
        self.parser.load_state_dict(saved["parser"])
        self.averaged.load_state_dict(saved["averaged"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step = saved["step"]

    def save(self, line: dict[str, float]) -> None:
        """Write the state aside, then in place, then a line of the log."""
        aside = self._run / f".{STATE_FILE}.partial"
        state = {"plan": self._plan, "step": self.step, "parser": self.parser.state_dict()}
        state |= {"averaged": self.averaged.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save(state, aside)
        aside.replace(self._run / STATE_FILE)
        with (self._run / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def advance(self, scenes: Scenes, weights: Tensor) -> float:
        """One step; its loss."""
        pixels, sets = self._batch(scenes)
        rise = min(1.0, (self.step + 1) / self.settings.warmup)
        rate = rise * 0.5 * (1 + math.cos(math.pi * self.step / self.settings.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["peak"]
        self.parser.train()
        self.parser.encoder.eval()
        loss = partial_cross_entropy(self.parser(pixels), sets, weights)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parser.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        self._average()
        return float(loss.detach())

    def _batch(self, scenes: Scenes) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 and (B, H / 4, W / 4) sets, a pure function of seed and step."""
        own, step = self.settings, self.step
        sides = own.small_sides_px if step < own.small_share * own.steps else own.sides_px
        if np.random.default_rng([own.seed, step]).random() < own.lying:
            sides = sides[::-1]
        made = [scenes.make(np.random.default_rng([own.seed, step, n]), sides, stride=STRIDE) for n in range(own.batch)]
        pixels = torch.from_numpy(np.stack([one for one, _ in made])).permute(0, 3, 1, 2)
        return pixels, torch.from_numpy(np.stack([sets for _, sets in made]).astype(np.int32))

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(self.settings.average, (1 + self.step) / (10 + self.step))
        own = self.parser.state_dict()
        for name, value in self.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(own[name], 1 - kept)
            else:
                value.copy_(own[name])


def _store(recipe: Recipe, folder: Path) -> PhotoStore:
    if not (folder / "index.json").exists():
        count = write_store(known_photos(recipe.root, seed=recipe.data_seed), folder)
        if not count:
            raise DataError(f"no photo in {recipe.root} can be trained on")
    return PhotoStore(folder)


def _kind_weights(store: PhotoStore, rare: float) -> Tensor:
    """(K,) frequency ** -rare, averaging 1 over street pixels; frequencies of what is known for sure."""
    counts = np.ones(len(KINDS))
    for number in store.by_source.get("street", range(len(store))):
        found = np.bincount(store[number].allowed[::4, ::4].ravel(), minlength=1 << len(KINDS))
        counts += found[1 << np.arange(len(KINDS))]
    frequency = counts / counts.sum()
    weights = frequency**-rare
    return torch.tensor(weights / (weights * frequency).sum(), dtype=torch.float32)


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("recipe", type=Path)
    options.add_argument("--run", type=Path, required=True, help="folder of the run; an unfinished one goes on")
    given = options.parse_args()
    shown = logging.StreamHandler()  # the command line alone sets up logging
    shown.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(shown)
    logger.setLevel(logging.INFO)
    cv2.setNumThreads(1)
    keep_freed_memory()
    print(train(read_recipe(given.recipe), given.run))


if __name__ == "__main__":
    main()
