"""The methods of Tables 3, 4 and 7, measured on the same test set: from colours to GRNet.

OUT/methods/NAME/   kpm.jsonl, kpm.pt while it trains, and kpm/, the trained matching head; methods.json, the receipt,
                    written last
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from threadmatch.model.chain import STAGE_ONE
from threadmatch.model.color import ColorMatcher, color_regions
from threadmatch.model.data.encoded import EncodedSet, encode_images
from threadmatch.model.data.pixel_descriptions import describe_pixels
from threadmatch.model.evaluate.provenance import provenance
from threadmatch.model.evaluate.ranking import FINAL, alone, rank_encoded
from threadmatch.model.evaluate.report import write_json
from threadmatch.model.features import REGIONS
from threadmatch.model.inference import Model, load_model
from threadmatch.model.kpm import KPMConfig, KPMHead, KPMMatcher, load_kpm, map_scales, save_kpm
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.region_matchers import GreedyMatcher
from threadmatch.model.train.loop.run_folder import KPM, Run
from threadmatch.model.train.paper_tables.table_data import TableData, digest
from threadmatch.model.train.paper_tables.trained_rows import MeasuredRow
from threadmatch.model.train.phases.kpm_head import KPMSettings, train_kpm_head

logger = logging.getLogger(__name__)

METHODS_FILE = "methods.json"


def measure_methods(
    data: TableData,
    checkpoint: Path,
    *,
    seed: int,
    candidates: int,
    out: Path,
    progress: Progress = unheard,
) -> MeasuredRow:
    """Rank the test queries by every method, unless that was done before.

    Args:
        data: encoded sets.
        checkpoint: the full model; stage one, greedy matching, KPM and GRNet all read its features.
        seed: of the matching head's training.
        candidates: how many stage one hands on.
        out: folder of all methods; a matching head that was cut off goes on.
        progress: hears of encoding and of the head's training.

    Returns:
        Ranks by the names in METHOD_LABELS.
    """
    model = load_model(checkpoint, device="cpu")
    plan = {"model": model.fingerprint, "seed": seed, "candidates": candidates, "data": data.label}
    folder = out / "methods" / f"{model.name}-seed{seed}-{digest(plan)}"
    if not (folder / METHODS_FILE).exists():
        started, run = time.monotonic(), Run(folder, progress=progress)
        ranks = _frozen(data, candidates) | _trained(data, model, run, seed=seed, candidates=candidates)
        record = {
            "plan": plan,
            "ranks": {name: own.tolist() for name, own in ranks.items()},
            "seed": seed,
            "seconds": round(time.monotonic() - started, 1),
            "provenance": provenance(),
        }
        write_json(record, folder / METHODS_FILE)
    record = json.loads((folder / METHODS_FILE).read_text())
    return MeasuredRow({name: np.asarray(own) for name, own in record["ranks"].items()}, folder, record)


def _frozen(data: TableData, candidates: int) -> dict[str, NDArray[np.int64]]:
    """What needs no training: colours, and the backbone as it is."""
    shop, street = (_last_map(data, one) for one in (data.test.gallery, data.test.queries))
    shop, street = (
        _unit(one).having(color=describe_pixels(one.images, color_regions, image_px=data.bare.image_px))
        for one in (shop, street)
    )
    methods = {"color": alone(ColorMatcher(), whole=True), "greedy": alone(GreedyMatcher(data.bare.config.grids))}
    rankings = rank_encoded(shop, street, methods, candidates=candidates)
    names = {"color": "color", "frozen_global": STAGE_ONE, "frozen_greedy": "greedy"}
    return {name: rankings.ranks(method) for name, method in names.items()}


def _last_map(data: TableData, encoded: EncodedSet) -> EncodedSet:
    """Without the maps of earlier stages: what a backbone without more gives."""
    return encoded.having(regions=encoded.regions[..., : data.network.backbone.channels])


def _unit(encoded: EncodedSet) -> EncodedSet:
    """Embeddings of length 1, so that their product is the cosine."""
    length = np.linalg.norm(encoded.embeddings, axis=1, keepdims=True)
    return encoded.having(embedding=encoded.embeddings / np.maximum(length, 1e-12))


def _trained(data: TableData, model: Model, run: Run, *, seed: int, candidates: int) -> dict[str, NDArray[np.int64]]:
    """Every method over the trained model's features."""
    encoded = data.test.map(lambda side: _encoded(model, side, run))
    shop, street = encoded.gallery, encoded.queries
    mapped = model.with_scales(map_scales(model.map_grid))
    head = _matching_head(data, mapped, run, model=model, seed=seed)
    maps = data.test.map(lambda side: _maps(mapped, side, run))
    shop, street = shop.having(map=maps.gallery.regions), street.having(map=maps.queries.regions)
    methods = {
        "greedy": alone(model.matchers["greedy"]),
        "kpm": alone(KPMMatcher(head)),
        FINAL: alone(model.matchers[model.chain[-1].matcher]),
    }
    rankings = rank_encoded(shop, street, methods, candidates=candidates)
    return {name: rankings.ranks(name) for name in rankings.orders}


def _matching_head(data: TableData, mapped: Model, run: Run, *, model: Model, seed: int) -> KPMHead:
    folder = run.folder
    if (folder / "kpm").is_dir():
        return load_kpm(folder / "kpm", features_fingerprint=model.features_fingerprint)
    train, val = (pair.map(lambda side: _maps(mapped, side, run)) for pair in (data.train, data.val))
    channels = mapped.feature(REGIONS).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = KPMHead(KPMConfig(channels=channels, grid=model.map_grid, groups=2 - channels % 2))
        logger.info("training the matching head", extra={"folder": str(folder)})
        train_kpm_head(head, train, val, settings=KPMSettings(seed=seed), run=run)
    staged = folder / ".kpm.partial"
    save_kpm(head, staged, features_fingerprint=model.features_fingerprint)
    staged.replace(folder / "kpm")
    (folder / KPM.state).unlink(missing_ok=True)  # only an unfinished head needs it
    return head


def _encoded(model: Model, side: EncodedSet, run: Run) -> EncodedSet:
    """The same images, encoded by this model."""
    return encode_images(model, side.images, cache=run.folder / "features", progress=run.say)


def _maps(mapped: Model, side: EncodedSet, run: Run) -> EncodedSet:
    """The same images with their maps for regions: (n, P, C), the global region left out."""
    again = _encoded(mapped, side, run)
    return again.having(regions=again.regions[:, 1:])
