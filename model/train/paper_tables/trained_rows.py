"""One row of a table: a model trained over features encoded before, and measured; done once, then read back.

OUT/rows/NAME/   curves.jsonl, state.pt while it trains; checkpoint/ and row.json, the receipt, written last
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.sides import Sides
from threadmatch.model.engine import Engine
from threadmatch.model.evaluate.evaluation import figures
from threadmatch.model.evaluate.provenance import provenance
from threadmatch.model.evaluate.ranking import FINAL, alone, rank_encoded
from threadmatch.model.evaluate.report import write_json
from threadmatch.model.features import EMBEDDING, REGIONS
from threadmatch.model.grnet import GRNet
from threadmatch.model.neck import learned_layer
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.region_matchers import FeatureMatcher, GreedyMatcher
from threadmatch.model.train.inputs.feature_sets import FeatureSet
from threadmatch.model.train.loop.run_folder import HEAD, Run
from threadmatch.model.train.paper_tables.table_data import TableData, digest, features_at
from threadmatch.model.train.phases.head import train_head
from threadmatch.model.train.phases.principal_components import start_from_data, start_hypercolumn

logger = logging.getLogger(__name__)

ROW_FILE = "row.json"


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A trained and measured model.

    Fields:
        ranks: by method the first-hit rank of every test query, 0 for none.
        folder: of its files.
        record: what row.json says.
    """

    ranks: dict[str, NDArray[np.int64]]
    folder: Path
    record: dict[str, Any]


def measure_row(
    data: TableData,
    settings: Mapping[str, Any],
    *,
    seed: int,
    candidates: int,
    out: Path,
    progress: Progress = unheard,
) -> MeasuredRow:
    """Train a model and rank the test queries with it, unless that was done before.

    Args:
        data: encoded sets.
        settings: fields of GRNetConfig over the recipe's.
        seed: of training.
        candidates: how many stage one hands on.
        out: folder of all rows; a row that was cut off goes on.
        progress: hears of the row's training.
    """
    config = replace(data.recipe.model, **settings)
    plan = {"model": config.to_dict(), "seed": seed, "candidates": candidates, "data": data.label}
    folder = out / "rows" / f"{_slug(config)}-seed{seed}-{digest(plan)}"
    if (folder / ROW_FILE).exists():
        return _read(folder)
    started = time.monotonic()
    logger.info("training a row", extra={"folder": str(folder)})
    network, val = _train(data, config, seed, Run(folder, progress=progress))
    ranks = _rank(network, data, candidates)
    prints = save_checkpoint(network, folder / "checkpoint")
    record = {
        "plan": plan,
        "fingerprint": prints.model,
        "val": val,
        **figures(ranks),
        "ranks": {name: own.tolist() for name, own in ranks.items()},
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "provenance": provenance(),
    }
    write_json(record, folder / ROW_FILE)
    (folder / HEAD.state).unlink(missing_ok=True)  # only an unfinished run needs it
    return _read(folder)


def _slug(config: GRNetConfig) -> str:
    edges = {(True, True): "all", (True, False): "intra", (False, True): "inter", (False, False): "star"}
    kind = edges[config.intra_scale_edges, config.inter_scale_edges]
    return f"R{config.regions}-{kind}-T{config.steps}-D{config.similarity_channels}-C{config.node_channels}"


def _read(folder: Path) -> MeasuredRow:
    record = json.loads((folder / ROW_FILE).read_text())
    return MeasuredRow({name: np.asarray(own) for name, own in record["ranks"].items()}, folder, record)


def _train(data: TableData, config: GRNetConfig, seed: int, run: Run) -> tuple[GRNet, dict[str, float]]:
    train, val = (features_at(config.scales, own) for own in (data.train, data.val))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GRNet(config, backbone=data.network.backbone)
        start_from_data(network, train)
        _take_learned(network, data.tuned, train)
        found = train_head(network, train, val, settings=replace(data.recipe.fit, seed=seed), run=run)
    network.name = f"{data.recipe.name}-{_slug(config)}"
    return network.eval(), found


def _take_learned(network: GRNet, tuned: GRNet | None, train: Sides[FeatureSet]) -> None:
    """Start from what a checkpoint's neck and embedding learned, where they have the row's sizes."""
    if tuned is None:
        return
    for own, learned in ((network.neck, tuned.neck), (network.embedding, tuned.embedding)):
        if own is None or learned is None:
            continue
        layer, other = learned_layer(own), learned_layer(learned)
        if layer.weight.shape == other.weight.shape:
            layer.load_state_dict(other.state_dict())
    start_hypercolumn(network, train)


def _rank(network: GRNet, data: TableData, candidates: int) -> dict[str, NDArray[np.int64]]:
    features = features_at(network.config.scales, data.test)
    shop = _projected(network, features.gallery, data.test.gallery)
    street = _projected(network, features.queries, data.test.queries)
    engine = Engine(network.head)
    methods = {
        "greedy": alone(GreedyMatcher(network.config.grids)),
        FINAL: alone(FeatureMatcher(FINAL, REGIONS, engine.score_pairs, chunk_pairs=engine.chunk_pairs)),
    }
    rankings = rank_encoded(shop, street, methods, candidates=candidates)
    return {name: rankings.ranks(name) for name in rankings.orders}


@torch.no_grad()
def _projected(network: GRNet, features: FeatureSet, encoded: EncodedSet) -> EncodedSet:
    """What a gallery would keep: regions as float16."""
    parts = [
        network.project(pooled, regions.float())
        for pooled, regions in zip(features.pooled.split(512), features.regions.split(512), strict=True)
    ]
    embedding, regions = (torch.cat(own) for own in zip(*parts, strict=True))
    return EncodedSet(encoded.images, {EMBEDDING: embedding.numpy(), REGIONS: regions.half().numpy()})
