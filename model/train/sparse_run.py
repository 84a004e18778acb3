"""From sets of photos to a chain that serves: the sparse graph behind a model's cells, and how sure its scores are.

    python -m threadmatch.model.train.sparse_run grnet-lite0 \\
        --fit sets/fit/street:1 sets/fit/worn:0.3 sets/fit/drawn:0.3 \\
        --val sets/val/street sets/val/worn sets/val/drawn --out runs/grnet-lite0

Sets are folders of gallery.csv and queries.csv (`model.synthetic.judging_sets` makes them); those of one role are one
gallery. What is written is a checkpoint: the model that was named, which keeps its cells now, and what was fitted
behind its features.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from threadmatch.model.chain import Stage
from threadmatch.model.checkpoint import features_fingerprint, save_checkpoint
from threadmatch.model.coded import floats
from threadmatch.model.compiling.cache import default_folder
from threadmatch.model.data.encoded import encode_images
from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.errors import ConfigError
from threadmatch.model.evaluate.certainty_fit import fit_certainty, how_often_said
from threadmatch.model.features import CELLS, TINTS
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model, model_folder
from threadmatch.model.sparse_graph import SparseGraph
from threadmatch.model.train.inputs.graph_lists import Encoded, Lists, Shortlists, find_shortlists
from threadmatch.model.train.phases.sparse_graph_fit import (
    fit_presence,
    fit_sparse_graph,
    known_searches,
    score_lists,
)

logger = logging.getLogger(__name__)

DEPTH = 16
"""Items that the graph orders behind the dense match; chosen on `val`, where 8 do as well and 32 no better."""


def fit_chain(
    network: GRNet,
    *,
    fit: Sequence[tuple[Path, float]],
    val: Sequence[Path],
    cache: Path | None = None,
    keep_graph: bool = False,
    engine: str = "torch",
) -> dict[str, Any]:
    """Fit the graph, its presence and its certainty behind a network's cells, and make them its chain.

    Args:
        network: with cells; its `graph`, `certainty` and `chain` are set.
        fit: sets that the graph learns from, and what each counts; for presence they count alike.
        val: sets that certainty is fitted on, and that the report measures.
        cache: folder for features.
        keep_graph: fit presence and certainty alone, behind the graph that the network has.
        engine: what encodes the photos; a name in `encoding.ENGINES`, or "auto".

    Returns:
        For each set of `val` top-1 of the dense match and of the graph, and how often "no match" is said.

    Raises:
        ConfigError: there is no graph to keep.
    """
    if keep_graph and network.graph is None:
        raise ConfigError("this model has no graph to keep; leave --keep-graph out")
    model = Model(network, engine=engine, cache=default_folder())
    learning, judging = (_shortlists(model, paths, cache) for paths in ([path for path, _ in fit], val))
    graph = network.graph if keep_graph else None
    seen = functools.partial(Shortlists.lists, grid=model.map_grid, kept=DEPTH)
    if graph is None:
        learnt = [seen(one, forced=True, weight=share) for one, (_, share) in zip(learning, fit, strict=True)]
        graph = fit_sparse_graph(learnt, grid=model.map_grid)
    graph = fit_presence(graph, [seen(one) for one in learning], [seen(one, taken_out=True) for one in learning])
    measured = [seen(one) for one in judging]
    present = {one.name: known_searches(graph, one) for one in measured}
    certainty = fit_certainty([search for searches in present.values() for search in searches])
    report = {}
    for one, short in zip(measured, judging, strict=True):
        said = how_often_said(certainty, present[one.name], known_searches(graph, seen(short, taken_out=True)))
        report[one.name] = {**_top1(graph, one), "no_match_said": asdict(said)}
    network.graph, network.certainty = graph, certainty
    network.chain = (Stage("dense"), Stage("sparse", DEPTH))
    return report


def with_cells(network: GRNet, *, tints: bool = False) -> GRNet:
    """The same network, weights shared, that makes its cells too; its parts stay, since what they read does.

    Args:
        network: trained.
        tints: whether it makes its cells' colours as well.
    """
    features = tuple(dict.fromkeys((*network.config.features, CELLS, *((TINTS,) if tints else ()))))
    made = network.under(replace(network.config, features=features))
    made.head, made.calibration, made.chain = network.head, network.calibration, network.chain
    made.graph, made.certainty = network.graph, network.certainty
    core = features_fingerprint(network)
    for part in network.attached.values():
        if part.core in ("", core):
            part.tie("")
            made.attach(part)
    return made.eval()


def _shortlists(model: Model, sets: Sequence[Path], cache: Path | None) -> list[Shortlists]:
    """One gallery of all the sets, and each set's queries against it.

    Items as a gallery keeps them: cells of few bits are less like a photo's, and the graph has to know them so.
    """
    gallery = _side(model, [image for path in sets for image in read_labelled(path / "gallery.csv")], cache, kept=True)
    found = []
    for path in sets:
        queries = _side(model, read_labelled(path / "queries.csv"), cache)
        found.append(find_shortlists(path.name, gallery, queries))
        logger.info("shortlists found", extra={"set": path.name, "queries": len(queries.products)})
    return found


def _side(model: Model, images: Sequence[LabelledImage], cache: Path | None, *, kept: bool = False) -> Encoded:
    encoded = encode_images(model, images, cache=cache)
    if kept:
        encoded = encoded.as_kept(model.features)
    tints = floats(encoded.features[TINTS]) if TINTS in encoded.features else None
    return Encoded(encoded.embeddings, floats(encoded.features[CELLS]), [image.product_id for image in images], tints)


def _top1(graph: SparseGraph, lists: Lists) -> dict[str, float]:
    first = score_lists(graph, lists).argmax(axis=1)
    right = lists.same[np.arange(len(first)), first]
    return {"queries": float(len(first)), "dense": float(lists.same[:, 0].mean()), "graph": float(right.mean())}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fit cells, the sparse graph and its certainty behind a model.")
    parser.add_argument("model", help="name or folder of a model")
    parser.add_argument("--fit", nargs="+", required=True, metavar="SET[:WEIGHT]")
    parser.add_argument("--val", nargs="+", type=Path, required=True, metavar="SET")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--tints", action="store_true", help="keep the colours of the cells, and let the graph read them"
    )
    parser.add_argument("--keep-graph", action="store_true", help="fit presence and certainty alone")
    parser.add_argument("--engine", default="auto", help="what encodes the photos; default: the fastest")
    given = parser.parse_args()
    pairs = [text.rpartition(":") if ":" in text else (text, ":", "1") for text in given.fit]

    def network() -> GRNet:
        return with_cells(load_checkpoint(model_folder(given.model)), tints=given.tints)

    fitted = network()
    report = fit_chain(
        fitted,
        fit=[(Path(path), float(weight)) for path, _, weight in pairs],
        val=given.val,
        cache=given.out.with_name(f"{given.out.name}-features"),
        keep_graph=given.keep_graph,
        engine=given.engine,
    )
    made = network()  # as it was: encoding folds its batch norm
    made.graph, made.certainty, made.chain = fitted.graph, fitted.certainty, fitted.chain
    save_checkpoint(made, given.out)
    (given.out / "chain.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
