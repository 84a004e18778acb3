"""What `threadmatch evaluate` reports is what an independent library and slower ways of asking report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import Calibration
from threadmatch.model.data.encoded import EncodedSet, encode_images
from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.errors import ConfigError
from threadmatch.model.evaluate.evaluation import EvaluationSettings, evaluate, figures, rank, report
from threadmatch.model.evaluate.ranking import Rankings, alone, rank_encoded
from threadmatch.model.evaluate.report import markdown, write_trec
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model, load_model
from threadmatch.model.region_matchers import FeatureMatcher
from threadmatch.service.cli import app

METHODS = {"global", "greedy", "grnet", "grnet_exhaustive"}


def _labelled(products: list[str]) -> list[LabelledImage]:
    return [LabelledImage(Path(f"{n}.jpg"), str(n), product, None, "", "") for n, product in enumerate(products)]


def _random_rankings(seed: int, *, candidates: int) -> Rankings:
    """Coarse numbers, so that many are equal; products with one to many items; some queries without an answer."""
    rng = np.random.default_rng(seed)
    items, queries = int(rng.integers(30, 120)), 25
    products = [f"p{n}" for n in rng.integers(0, 25, items)]
    wanted = [f"p{n}" for n in rng.integers(0, 30, queries)]
    shop, street = (
        EncodedSet(
            _labelled(names),
            {
                "embedding": rng.integers(-1, 2, (len(names), 3)).astype(np.float32),
                "regions": _regions(rng, len(names)),
            },
        )
        for names in (products, wanted)
    )

    product = FeatureMatcher("product", "regions", lambda q, g: (g[:, 0] * q[:, 0]).sum(dim=-1))
    methods = {"grnet": alone(product), "color": alone(product, whole=True)}
    return rank_encoded(shop, street, methods, candidates=candidates, exhaustive=True)


def _regions(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 3, (count, 1, 4)).astype(np.float16)


@pytest.mark.parametrize("seed", range(6))
def test_every_figure_is_what_ranx_reads_off_the_trec_files(seed: int, tmp_path: Path, ranx: Any) -> None:
    rankings = _random_rankings(seed, candidates=20)
    answerable = rankings.ranks("global") > 0
    assert 0 < answerable.sum() < len(answerable)
    for method in rankings.orders:
        write_trec(rankings, method, tmp_path, depth=10**6)
        qrels = ranx.Qrels.from_file(str(tmp_path / "qrels.trec"), kind="trec")
        run = ranx.Run.from_file(str(tmp_path / f"{method}.run.trec"), kind="trec")
        assert max(len(relevant) for relevant in qrels.to_dict().values()) > 3, "products with several items"
        names = [f"hit_rate@{k}" for k in (1, 5, 20, 50, 100)] + ["mrr"]
        theirs = ranx.evaluate(qrels, run, names, make_comparable=True)
        ours = figures({"global": rankings.ranks(method)[answerable]})
        for name, key in zip(names, ("top1", "top5", "top20", "top50", "", "mrr"), strict=True):
            mine = ours["methods"]["global"][key] if key else ours["shortlist_recall"]["100"]
            assert mine == pytest.approx(float(theirs[name])), (method, name)


def test_reranking_permutes_the_shortlist_and_exhaustive_reranking_the_gallery() -> None:
    rankings = _random_rankings(7, candidates=20)
    for n, first in enumerate(rankings.orders["global"]):
        reranked, whole = rankings.orders["grnet"][n], rankings.orders["grnet_exhaustive"][n]
        assert sorted(reranked[:20]) == sorted(first[:20])
        assert reranked[20:].tolist() == first[20:].tolist()
        assert whole.tolist() == rankings.orders["color"][n].tolist(), "the same scores over the whole gallery"


@pytest.fixture(scope="module")
def labelled(striped_set: Path) -> tuple[list[LabelledImage], list[LabelledImage]]:
    gallery, queries = (read_labelled(striped_set / f"{kind}.csv") for kind in ("gallery", "queries"))
    return gallery, queries


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set's features, encoded by whichever test comes first."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def measured(tiny_model: Model, labelled: tuple[list[LabelledImage], list[LabelledImage]], cache: Path) -> Rankings:
    return rank(tiny_model, *labelled, settings=EvaluationSettings(candidates=12, cache=cache))


def test_small_galleries_are_reranked_whole_without_being_asked(measured: Rankings) -> None:
    assert set(measured.orders) == METHODS


def test_each_group_is_measured_as_if_its_queries_were_alone(tiny_model: Model, measured: Rankings) -> None:
    whole = report(measured, tiny_model, seconds=0)
    for kind, label in (("by_setup", "hard_view"), ("by_category", "kind2")):
        chosen = [n for n, image in enumerate(measured.queries) if label in (image.setup, image.category)]
        alone = figures({name: measured.ranks(name)[chosen] for name in measured.orders})
        group = whole[kind][label]
        assert group["queries"] == len(chosen)
        assert {name: group[name] for name in METHODS} == alone["methods"]
        assert group["shortlist_recall"] == alone["shortlist_recall"]
        assert group["gain_over"]["greedy"] == alone["gain_over"]["greedy"]
    assert whole["gain"] == whole["gain_over"]["global"]
    assert f"| hard_view | grnet | {whole['by_setup']['hard_view']['queries']} |" in markdown(whole)
    assert "groups of fewer than 20 | global |" in markdown(whole), "kinds of four queries each"


def test_no_match_is_measured_as_if_the_product_were_really_out_of_the_gallery(
    tiny_model: Model,
    measured: Rankings,
    labelled: tuple[list[LabelledImage], list[LabelledImage]],
    cache: Path,
) -> None:
    assert measured.scored is not None
    present, absent = measured.scored.best_scores()
    shop, street = (encode_images(tiny_model, images, cache=cache) for images in labelled)
    for n in (0, 3, 17):
        rest = [i for i, image in enumerate(shop.images) if image.product_id != street.images[n].product_id]
        for kept, expected in ((list(range(len(shop.images))), present[n]), (rest, absent[n])):
            items, query = _part(shop, kept), _part(street, [n])
            again = rank_encoded(items, query, {"grnet": alone(tiny_model.matchers["grnet"])}, candidates=12).scored
            assert again is not None
            assert again.scores[0][:12].max() == pytest.approx(expected, abs=1e-4)


def _part(encoded: EncodedSet, chosen: list[int]) -> EncodedSet:
    images = [encoded.images[n] for n in chosen]
    return EncodedSet(images, {name: values[chosen] for name, values in encoded.features.items()})


def test_the_report_says_how_often_no_match_is_wrong(measured: Rankings, tiny_model_folder: Path) -> None:
    assert measured.scored is not None
    present, absent = measured.scored.best_scores()
    network = load_checkpoint(tiny_model_folder)
    between = float(np.median(np.concatenate([present, absent])))
    network.calibration = Calibration(scale=1.0, offset=-between, no_match_below=0.5)
    found = report(measured, Model(network), seconds=0)["no_match"]
    assert found["threshold"] == 0.5
    assert found["false_reject"] == pytest.approx(float((present < between).mean()))
    assert found["false_accept"] == pytest.approx(float((absent >= between).mean()))
    assert (found["present"], found["absent"]) == (40, 40)


def test_settings_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known are"):
        EvaluationSettings(methods=("grnet", "magic"))
    with pytest.raises(ConfigError, match="go together"):
        EvaluationSettings(methods=("kpm",))


def _arguments(folder: Path, out: Path) -> list[str]:
    return ["--gallery-csv", str(folder / "gallery.csv"), "--query-csv", str(folder / "queries.csv"), "--out", str(out)]


def test_the_command_compares_two_models_of_one_name(
    striped_set: Path, tiny_model: Model, tiny_model_folder: Path, cache: Path, tmp_path: Path
) -> None:
    network = load_checkpoint(tiny_model_folder)
    network.calibration = replace(network.calibration, offset=-1.0)
    save_checkpoint(network, tmp_path / "other")
    out = tmp_path / "new" / "result.json"
    models = ["--model", str(tiny_model_folder), "--model", str(tmp_path / "other")]
    options = [
        "--methods",
        "global,color,grnet",
        "--candidates",
        "12",
        "--no-exhaustive",
        "--cache",
        str(cache),
        "--json",
    ]
    outcome = CliRunner().invoke(app, ["evaluate", *_arguments(striped_set, out), *models, *options])
    assert outcome.exit_code == 0, outcome.output
    result = json.loads(out.read_text())
    assert json.loads(outcome.stdout) == result
    assert set(result["methods"]) == {"global", "color", "grnet"}
    assert set(result["shortlist_recall"]) == {"50", "100", "200", "500"}
    assert result["methods"]["color"]["top1"] > 0.5, "stripes are told apart by their colours"
    (same,) = result["gain_over_first"].values()
    assert same["top1"] == {"mean": 0, "low": 0, "high": 0}, "the head is the same"
    assert len(result["models"]) == 2
    first, second = result["comparison"]
    assert (first["model"], first["gain"], second["gain"]["top1"]) == ("tiny", None, same["top1"])
    assert first["top1"] == result["methods"]["grnet"]["top1"]
    assert first["item_bytes"] == second["item_bytes"] == sum(spec.size_bytes for spec in tiny_model.features)
    assert min(first["encode_ms"], second["rank_ms"]) > 0
    assert "| model | top-1 | top-5 | MRR | top-1 against tiny |" in out.with_suffix(".md").read_text()
    assert {"command", "commit", "machine"} <= set(result["provenance"])
    assert out.with_suffix(".md").read_text().count("| all | grnet | 40 |") == 2
    with (tmp_path / "new" / "result" / "tiny" / "ranks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    top1 = np.mean([row["grnet"] == "1" for row in rows])
    assert result["methods"]["grnet"]["top1"] == pytest.approx(top1)
    assert len(list((tmp_path / "new" / "result" / "tiny").glob("*.trec"))) == 4


def test_the_command_names_what_it_cannot_do(striped_set: Path, tmp_path: Path) -> None:
    for wrong, says in ((["--methods", "magic"], "magic"), (["--model", str(tmp_path / "none")], "none")):
        outcome = CliRunner().invoke(app, ["evaluate", *_arguments(striped_set, tmp_path / "r.json"), *wrong])
        assert outcome.exit_code == 1
        assert says in outcome.output


@pytest.fixture(scope="module")
def blended_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's features under a head that is greedy matching alone, so that it finds some of the products."""
    tiny = load_checkpoint(tiny_model_folder)
    network = GRNet(replace(tiny.config, blend=("greedy",)))
    network.load_state_dict(tiny.state_dict(), strict=False)
    with torch.no_grad():
        network.head.classifier.weight.zero_()
        assert network.head.blend is not None
        network.head.blend.fill_(20.0)
    folder = tmp_path_factory.mktemp("blended") / "model"
    save_checkpoint(network, folder)
    return folder


def test_a_shop_calibrates_on_its_own_pairs_and_keeps_its_galleries(
    striped_set: Path, blended_folder: Path, cache: Path, tmp_path: Path
) -> None:
    before = load_model(blended_folder, device="cpu")
    arguments = ["calibrate", "--model", str(blended_folder), *_arguments(striped_set, tmp_path / "own"), "--json"]
    arguments += ["--cache", str(cache)]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    told = json.loads(outcome.stdout)
    model = load_model(tmp_path / "own", device="cpu")
    assert model.features_fingerprint == before.features_fingerprint, "galleries stay valid"
    assert model.fingerprint == told["fingerprint"] != before.fingerprint
    assert model.calibration.no_match_below == told["after"]["no_match_below"]
    assert model.calibration.gallery_items == 80
    assert told["after"]["ece_held_out"] < told["before"]["ece"]
    gallery, queries = (read_labelled(striped_set / f"{kind}.csv") for kind in ("gallery", "queries"))
    again, _ = evaluate(model, gallery, queries, settings=EvaluationSettings(cache=cache))
    assert again["calibration"]["ece"] < told["before"]["ece"]
    assert 0 <= again["no_match"]["false_accept"] <= 1


def test_too_few_pairs_make_no_calibration(striped_set: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    few = striped_set / "few.csv"
    few.write_text("\n".join((striped_set / "queries.csv").read_text().splitlines()[:6]) + "\n")
    arguments = [*_arguments(striped_set, tmp_path / "own"), "--query-csv", str(few), "--model", str(tiny_model_folder)]
    outcome = CliRunner().invoke(app, ["calibrate", *arguments])
    assert outcome.exit_code == 1
    assert "needs at least" in outcome.output.replace("\n", " ")
    assert not (tmp_path / "own").exists()
