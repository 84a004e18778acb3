"""From sets of photos to a chain: with the colours of cells, and with a graph that is kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.model.striped import draw_set
from threadmatch.model.chain import Stage
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.errors import ConfigError
from threadmatch.model.features import CELLS, TINTS
from threadmatch.model.grnet import load_checkpoint
from threadmatch.model.sparse_graph import COLOURED, SparseGraph
from threadmatch.model.train.sparse_run import fit_chain, main, with_cells


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos so noisy that some matches are wrong, for a certainty learns from both."""
    root = tmp_path_factory.mktemp("fit")
    draw_set(root / "fit", range(80), noise=150)
    draw_set(root / "val", range(100, 180), noise=150)
    return root


def _run(monkeypatch: pytest.MonkeyPatch, sets: Path, model: Path, out: Path, *more: str) -> None:
    given = [
        str(model),
        "--fit",
        f"{sets / 'fit'}:1",
        "--val",
        str(sets / "val"),
        "--out",
        str(out),
        "--engine",
        "torch",
    ]
    monkeypatch.setattr(sys, "argv", ["sparse_run", *given, "--engine", "torch", *more])
    main()


def test_tints_are_kept_and_read_and_a_graph_is_kept_where_that_is_asked(
    sets: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(monkeypatch, sets, tiny_model_folder, tmp_path / "plain")
    _run(monkeypatch, sets, tiny_model_folder, tmp_path / "tinted", "--tints")
    plain, tinted = load_checkpoint(tmp_path / "plain"), load_checkpoint(tmp_path / "tinted")
    assert plain.graph is not None
    assert tinted.graph is not None
    assert not {*plain.graph.weights, *plain.graph.presence} & set(COLOURED), "nothing is known of colours"
    assert set(COLOURED) <= set(tinted.graph.weights)
    assert tinted.graph.reads_tints
    assert not plain.graph.reads_tints
    assert {CELLS, TINTS} <= set(tinted.config.features)
    assert json.loads((tmp_path / "tinted" / "chain.json").read_text())["val"]["queries"] == 80

    draw_set(tmp_path / "other", range(200, 260), noise=150)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "fit").symlink_to(tmp_path / "other")
    (tmp_path / "sets" / "val").symlink_to(sets / "val")
    _run(monkeypatch, tmp_path / "sets", tmp_path / "tinted", tmp_path / "kept", "--tints", "--keep-graph")
    kept = load_checkpoint(tmp_path / "kept").graph
    assert kept is not None
    assert kept.weights == tinted.graph.weights
    assert kept.presence != tinted.graph.presence


def test_a_model_without_a_graph_has_none_to_keep(sets: Path, tiny_model_folder: Path) -> None:
    network = with_cells(load_checkpoint(tiny_model_folder))
    with pytest.raises(ConfigError, match="no graph to keep"):
        fit_chain(network, fit=[(sets / "fit", 1.0)], val=[sets / "val"], keep_graph=True)


def test_what_a_model_has_stays_when_it_makes_more(tmp_path: Path, tiny_model_folder: Path) -> None:
    network = with_cells(load_checkpoint(tiny_model_folder))
    network.graph, network.chain = SparseGraph(weights={"agree": 1.0}), (Stage("dense"), Stage("sparse", 16))
    save_checkpoint(with_cells(network, tints=True), tmp_path / "more")
    more = load_checkpoint(tmp_path / "more")
    assert (more.graph, more.chain) == (network.graph, network.chain)
    assert TINTS in more.config.features
