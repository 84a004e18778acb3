"""A table's rows are what the paper varies, are trained once each, and measure what `evaluate` measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.model.striped import draw_set
from tests.model.train.recipes import write_recipe
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.pairs import read_labelled
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.evaluation import evaluate
from threadmatch.model.grnet import load_checkpoint
from threadmatch.model.inference import load_model
from threadmatch.model.neck import HypercolumnNeck, learned_layer
from threadmatch.model.train.paper_tables.table_specs import METHOD_LABELS, TABLES
from threadmatch.model.train.paper_tables.tables import TableSettings, make_table
from threadmatch.model.train.recipe import Recipe, read_recipe
from threadmatch.service.cli import app


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its two sets and a test set, of different products."""
    root = tmp_path_factory.mktemp("tables")
    for name, products in (("train", range(20)), ("val", range(100, 112)), ("test", range(200, 214))):
        draw_set(root / name, products)
    write_recipe(root, model='region_norm = "l2"')
    return root


@pytest.fixture(scope="module")
def recipe(place: Path) -> Recipe:
    return read_recipe(place / "recipe-val.toml")


def test_the_rows_are_those_of_the_paper() -> None:
    table = {row.name: GRNetConfig(**row.settings) for row in TABLES["5"].rows}
    assert {name: config.regions for name, config in table.items()} == {
        "1": 1, "2": 9, "3": 16, "4": 24, "5": 24, "6": 24, "7": 24, "1 layer": 24, "2 layers": 24,
    }  # fmt: skip
    edges = {name: (table[name].intra_scale_edges, table[name].inter_scale_edges) for name in "4567"}
    assert edges == {"4": (False, False), "5": (False, True), "6": (True, False), "7": (True, True)}
    assert [table[name].steps for name in ("1 layer", "2 layers", "7")] == [1, 2, 3]
    sizes = [(row.settings["similarity_channels"], row.settings["node_channels"]) for row in TABLES["6"].rows]
    assert sizes == [(512, 128), (512, 256), (512, 512), (256, 128), (256, 256), (128, 128)]


def test_tables_share_their_rows_and_measure_what_evaluate_measures(recipe: Recipe, place: Path) -> None:
    out = place / "out"
    settings = TableSettings(number="5", test=place / "test", rows=("1", "7"), candidates=8)
    first = make_table(recipe, settings, out=out)
    assert [row["name"] for row in first["rows"]] == ["1", "7"]
    one, full = (json.loads((Path(row["runs"][0]["folder"]) / "row.json").read_text()) for row in first["rows"])
    assert one["plan"]["model"]["scales"] == ["1x1"]
    assert set(first["rows"][1]["gain_over"]) == {"1", "7"}
    assert "| 7 | all scales, all edges, 3 layers |" in (out / "table-5.md").read_text()
    assert not list(out.glob("rows/*/state.pt"))

    checkpoint = Path(first["rows"][1]["runs"][0]["folder"]) / "checkpoint"
    gallery, queries = (read_labelled(place / "test" / f"{kind}.csv") for kind in ("gallery", "queries"))
    whole, _ = evaluate(load_model(checkpoint), gallery, queries, candidates=8, exhaustive=False)
    for method in ("global", "greedy", "grnet"):  # float16 weights may swap two near-equal items
        assert whole["methods"][method]["mrr"] == pytest.approx(full["methods"][method]["mrr"], abs=0.02)

    receipts = {path: path.stat().st_mtime_ns for path in out.glob("rows/*/row.json")}
    torn = checkpoint.parent / "row.json"
    torn.unlink()
    again = make_table(recipe, settings, out=out)
    assert again["rows"][1]["gain_over"] == first["rows"][1]["gain_over"], "a row that was cut off ends the same"
    after = {path: path.stat().st_mtime_ns for path in out.glob("rows/*/row.json")}
    assert {path for path in receipts if receipts[path] != after[path]} == {torn}, "finished rows are not touched"

    by_setup = make_table(recipe, TableSettings(number="7", test=place / "test", candidates=8), out=out)
    make_table(recipe, TableSettings(number="4", test=place / "test", candidates=8), out=out)
    assert len(list(out.glob("rows/*"))) == 2, "row 7 is trained once for all tables"
    assert len(list(out.glob("methods/*"))) == 1
    assert [row["name"] for row in by_setup["rows"]] == list(METHOD_LABELS)
    rows = {row["name"]: row for row in by_setup["rows"]}
    assert rows["grnet"]["mrr"] == pytest.approx(full["methods"]["grnet"]["mrr"], abs=0.02)
    assert rows["color"]["top1"] > 0.5, "stripes are told apart by their colours"
    assert {setup: own["queries"] for setup, own in rows["kpm"]["by_setup"].items()} == {"easy": 7, "hard_view": 7}
    assert "| hard_view | 7 | KPM |" in (out / "table-7.md").read_text()
    assert "| kind2 | 5 | GRNet |" in (out / "table-4.md").read_text()
    kpm = next(out.glob("methods/*/kpm"))
    table = [
        "evaluate",
        "--gallery-csv",
        str(place / "test/gallery.csv"),
        "--query-csv",
        str(place / "test/queries.csv"),
    ]
    table += ["--model", str(checkpoint), "--methods", "kpm", "--kpm", str(kpm), "--candidates", "8", "--json"]
    outcome = CliRunner().invoke(app, [*table, "--out", str(out / "kpm.json"), "--cache", str(kpm.parent / "features")])
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["methods"]["kpm"]["mrr"] == pytest.approx(rows["kpm"]["mrr"])


def test_seeds_are_averaged_before_the_intervals(recipe: Recipe, place: Path) -> None:
    settings = TableSettings(number="5", test=place / "test", rows=("1",), seeds=(0, 1), candidates=8)
    (row,) = make_table(recipe, settings, out=place / "out")["rows"]
    found = [json.loads((Path(run["folder"]) / "row.json").read_text()) for run in row["runs"]]
    assert [one["seed"] for one in found] == [0, 1]
    assert row["top1"] == pytest.approx(np.mean([one["methods"]["grnet"]["top1"] for one in found]))


def test_rows_over_a_checkpoint_keep_its_neck_and_embedding(recipe: Recipe, place: Path) -> None:
    head_alone = replace(recipe, fit=replace(recipe.fit, metric_steps=0))
    before = _any_row(place)
    settings = TableSettings(number="5", test=place / "test", rows=("1",), candidates=8, backbone=before)
    (row,) = make_table(head_alone, settings, out=place / "over")["rows"]
    learned, given = (load_checkpoint(path) for path in (Path(row["runs"][0]["folder"]) / "checkpoint", before))
    for part in ("neck", "embedding"):
        assert torch.equal(getattr(learned, part).weight, getattr(given, part).weight), part
    assert not torch.equal(learned.head.projection, given.head.projection), "the head begins anew"


def test_rows_may_read_other_maps_than_the_checkpoint_they_are_over(recipe: Recipe, place: Path) -> None:
    """The paper's rows read the last map alone, whatever the checkpoint reads, and the other way round."""
    over = _any_row(place)
    for stages in ((3,), ()):
        other = replace(
            recipe, fit=replace(recipe.fit, metric_steps=0), model=replace(recipe.model, hypercolumn=stages)
        )
        settings = TableSettings(number="5", test=place / "test", rows=("2",), candidates=8, backbone=over)
        (row,) = make_table(other, settings, out=place / "maps")["rows"]
        over, given = Path(row["runs"][0]["folder"]) / "checkpoint", load_checkpoint(over)
        learned = load_checkpoint(over)
        assert learned.config.hypercolumn == stages
        assert learned.neck is not None
        assert given.neck is not None
        assert torch.equal(learned_layer(learned.neck).weight, learned_layer(given.neck).weight)
        if isinstance(learned.neck, HypercolumnNeck):
            rows = learned.neck.join.weight @ learned.neck.join.weight.T
            torch.testing.assert_close(rows, torch.eye(len(rows)), rtol=0, atol=1e-2)
    assert len(list((place / "maps" / "rows").iterdir())) == 2


def test_test_garments_that_were_trained_on_are_refused(recipe: Recipe, place: Path) -> None:
    with pytest.raises(DataError, match="in train and in test"):
        make_table(recipe, TableSettings(number="5", test=place / "train"), out=place / "mixed")
    other = replace(recipe, model=replace(recipe.model, backbone="timm:test_resnet"))
    settings = TableSettings(number="5", test=place / "test", backbone=_any_row(place))
    with pytest.raises(ConfigError, match="backbone"):
        make_table(other, settings, out=place / "x")


def _any_row(place: Path) -> Path:
    return min((place / "out" / "rows").iterdir()) / "checkpoint"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["9"], "known are 3, 4, 5, 6, 7"),
        (["5", "--rows", "8"], "no rows"),
        (["5", "--model", "x"], "for tables 3, 4 and 7"),
        (["5", "--seeds", "one"], "whole numbers"),
    ],
)
def test_the_command_names_what_is_wrong(arguments: list[str], says: str, place: Path, tmp_path: Path) -> None:
    number, *options = arguments
    rest = [str(place / "recipe-val.toml"), "--test", str(place / "test"), "--out", str(tmp_path), *options]
    outcome = CliRunner().invoke(app, ["table", number, *rest])
    assert outcome.exit_code != 0
    assert says in " ".join(outcome.output.replace("│", " ").split())
