"""A joined model's second network trained further on garments in several colours, and its cells fitted anew.

    threadmatch data dye DATA --out dyed
    threadmatch data streetify DATA --split train --per-item 3 --seed 31 --out sets/street
    threadmatch data streetify dyed --sources clothing --split train --per-item 1 --seed 91 --out sets/dyed
    python -m threadmatch.model.train.companion_run MODEL --colours sets/street sets/dyed --beside sets/worn \\
        --val sets/val --cells 512 --run runs/colours --out runs/model

Shops sell one cut in many colours, and networks that learn from garments that all differ in their cut do not learn to
tell a pale green from a pale blue. What is written is a checkpoint whose chain is the dense match; `train.sparse_run`
fits what stands behind it.

Letters  n cells, K channels of a cell
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from threadmatch.model.chain import Stage
from threadmatch.model.checkpoint import features_fingerprint, save_checkpoint
from threadmatch.model.components import rotate, turn
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.sets import LabelledSet, keep_apart, read_sets
from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import model_folder
from threadmatch.model.neck import HypercolumnNeck
from threadmatch.model.train.inputs.joined_maps import JoinedFront, JoinedMaps, another_look, make_joined_maps
from threadmatch.model.train.loop.precision import keep_freed_memory
from threadmatch.model.train.loop.run_folder import COMPANION, Run, keep_to_plan
from threadmatch.model.train.phases.companion_fit import CompanionPart, CompanionSettings, train_companion

PHOTOS: Final = 3000
"""That the cells' components are taken from, at most."""
CELLS_A_PHOTO: Final = 12
"""Of those, by chance."""
POWER: Final = 0.3
"""Of the deviation that each component is divided by: a little lifts what few photos differ in (what-was-tried.md)."""


def cut_of(product: str) -> str:
    """The garment that a product is a colour of: `threadmatch data dye` numbers them, "ID-0" and on."""
    garment, dash, number = product.rpartition("-")
    return garment if dash and len(number) == 1 and number.isdigit() else product


def train_colours(
    joined: GRNet,
    *,
    colours: Sequence[Path],
    beside: Sequence[Path],
    val: Sequence[Path],
    cell_channels: int,
    settings: CompanionSettings,
    run: Run,
) -> tuple[GRNet, dict[str, float]]:
    """Train a model's companion further.

    Args:
        joined: with a companion. Taken over.
        colours: sets whose products are garments and their colours (`cut_of`).
        beside: sets of other garments.
        val: other garments; they choose.
        cell_channels: K of the cells, see `GRNetConfig.cell_channels`.
        settings: how.
        run: where.

    Returns:
        The model, its chain the dense match, and the best figures on `val`.

    Raises:
        ConfigError: it has no companion, or the run's folder holds another run. DataError: a photo cannot be read, or
            `val` shows garments of training.
    """
    if joined.backbone.companion is None:
        raise ConfigError(f"model {joined.name or 'given'} is one network; join it with another first (joined_run)")
    in_colours, training = read_sets(colours, Split.TRAIN), read_sets([*colours, *beside], Split.TRAIN)
    chosen_by = read_sets(val, Split.VAL)
    keep_apart({"train": training, "val": chosen_by})
    run.folder.mkdir(parents=True, exist_ok=True)
    plan = {"model": {"features": features_fingerprint(joined)}, "companion": asdict(settings)}
    keep_to_plan(run.folder, plan, {"companion": run.folder / COMPANION.state})
    cut = {image.product_id: cut_of(image.product_id) for image in in_colours.gallery}
    maps = _maps(joined, training, settings, run, shaken=True)
    choosing = _maps(joined, chosen_by, settings, run, shaken=False)
    best = train_companion(joined, maps, choosing, cut=cut, settings=settings, run=run)
    return with_cells_of(joined, maps, cell_channels=cell_channels, from_stage=settings.from_stage), best


def _maps(
    joined: GRNet, images: LabelledSet, settings: CompanionSettings, run: Run, *, shaken: bool
) -> Sides[JoinedMaps]:
    front = JoinedFront(joined, settings.from_stage).eval()
    label = f"{features_fingerprint(joined)} {settings.from_stage}"

    def made(side: list[LabelledImage], *, changed: bool) -> JoinedMaps:
        return make_joined_maps(
            front,
            side,
            image_px=joined.config.image_px,
            folder=run.folder / "maps",
            label=f"{label} {settings.seed if changed else ''}",
            change=functools.partial(another_look, seed=settings.seed) if changed else None,
            progress=run.say,
        )

    return Sides(made(images.gallery, changed=False), made(images.queries, changed=shaken))


@torch.no_grad()
def with_cells_of(
    joined: GRNet, maps: Sides[JoinedMaps], *, cell_channels: int, from_stage: int, seed: int = 0
) -> GRNet:
    """The same model, its cells' leading components fitted to photos.

    Args:
        joined: with a companion; its parts are shared.
        maps: of photos, both sides of pairs.
        cell_channels: K, see `GRNetConfig.cell_channels`.
        from_stage: of the companion, that the maps' fronts end before.
        seed: of the photos and cells that are taken.
    """
    made = joined.under(replace(joined.config, cell_channels=cell_channels))
    made.head, made.calibration, made.chain = joined.head, joined.calibration, (Stage("dense"),)
    neck = made.cell_neck
    assert isinstance(neck, HypercolumnNeck)
    rng = np.random.default_rng(seed)
    part = CompanionPart(joined, from_stage, maps.gallery.take(np.arange(1)).fronts).eval()
    sample = [_sampled(part, side, rng) for side in (maps.gallery, maps.queries)]
    rotate(neck.join, torch.cat(sample), power=POWER if cell_channels else 0.0)
    if cell_channels:
        turn(neck.join)
    for own in joined.attached.values():
        if own.stages:  # it reads nothing but maps of the first network
            own.tie("")
            made.attach(own)
    return made.eval()


def _sampled(part: CompanionPart, images: JoinedMaps, rng: np.random.Generator) -> Tensor:
    """(n, parts' channels) unit cells of some photos of one side; not of their rims, which show little garment."""
    at = np.sort(rng.permutation(len(images.products))[: PHOTOS // 2])
    cells = []
    for start in range(0, len(at), 64):
        seen = images.take(at[start : start + 64])
        both = torch.cat([seen.cells, part(seen.fronts)[0]], dim=-1)  # (b, P, all)
        side = round(both.shape[1] ** 0.5)
        inner = both.unflatten(1, (side, side))[:, 1:-1, 1:-1].flatten(1, 2) if side > 2 else both
        some = torch.from_numpy(rng.integers(inner.shape[1], size=(len(inner), CELLS_A_PHOTO)))
        cells.append(inner.gather(1, some[..., None].expand(-1, -1, inner.shape[2])).flatten(0, 1))
    return torch.nn.functional.normalize(torch.cat(cells), dim=1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a joined model's second network on garments in their colours.")
    parser.add_argument("model", help="a model that ships, or a checkpoint's folder")
    parser.add_argument("--colours", type=Path, nargs="+", required=True, help="sets of garments and of their colours")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="sets of other garments")
    parser.add_argument("--val", type=Path, nargs="+", required=True, help="sets of garments that choose")
    parser.add_argument("--cells", type=int, default=512, help="numbers of a cell, of two bits")
    parser.add_argument("--steps", type=int, default=CompanionSettings().steps)
    parser.add_argument("--run", type=Path, required=True, help="folder that an interrupted run goes on from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    given = parser.parse_args()
    keep_freed_memory()
    made, best = train_colours(
        load_checkpoint(model_folder(given.model)),
        colours=given.colours,
        beside=given.beside,
        val=given.val,
        cell_channels=given.cells,
        settings=CompanionSettings(steps=given.steps),
        run=Run(given.run),
    )
    made.name = given.out.name
    prints = save_checkpoint(made, given.out)
    print(json.dumps({**best, "fingerprint": prints.model, "features_fingerprint": prints.features}))


if __name__ == "__main__":
    main()
