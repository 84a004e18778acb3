"""An encoder of somebody else becomes a model by photos alone: small enough, found again, never half written."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from tests.model.striped import draw_set
from tests.support.encoders import write_open_clip, write_photos, write_timm
from tests.support.serving import make_catalogue, photo
from threadmatch.indexer.ingest import IngestOptions, ingest
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.adapting.adapt import AdaptSettings, adapt
from threadmatch.model.adapting.sizes import ITEM_BYTES, choose_sizes
from threadmatch.model.chain import Ranking
from threadmatch.model.components import rotate, whiten
from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.encoding import OpenVinoEngine
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.evaluation import EvaluationSettings, evaluate
from threadmatch.model.evaluate.recalibrate import recalibrate
from threadmatch.model.grnet import load_checkpoint
from threadmatch.model.inference import Model, load_model
from threadmatch.model.train.start import give_head, started_config
from threadmatch.service.cli import app
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.retriever import Retriever


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"timm:{write_timm(tmp_path_factory.mktemp('encoder') / 'own')[0]}"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, encoder: str, photos: Path) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "mine"
    adapt(encoder, photos, out, settings=AdaptSettings(image_px=64))
    return out


@pytest.fixture(scope="module")
def model(adapted: Path) -> Model:
    return load_model(adapted, engine="torch")


def test_whitened_components_are_those_of_the_covariance_written_as_loops() -> None:
    n, c, k = 40, 5, 3
    sample = torch.randn(n, c, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 3, 2, 1, 0.5])
    layer = torch.nn.Linear(c, k)
    with torch.no_grad():
        share = whiten(layer, sample, 1.0)
        found = layer(sample)
    mean = [sum(float(sample[i, a]) for i in range(n)) / n for a in range(c)]
    covariance = np.zeros((c, c))
    for a, b, i in product(range(c), range(c), range(n)):
        covariance[a, b] += float((sample[i, a] - mean[a]) * (sample[i, b] - mean[b])) / (n - 1)
    values = np.linalg.eigvalsh(covariance)[::-1]
    assert share == pytest.approx(values[:k].sum() / values.sum(), rel=1e-4)
    spread = np.cov(found.numpy().T)
    np.testing.assert_allclose(spread / spread[0, 0], np.eye(k), atol=1e-3)
    assert float(found.norm(dim=1).mean()) == pytest.approx(1, abs=1e-4)


def test_rotated_vectors_keep_their_cosines_as_far_as_their_length_is_kept() -> None:
    n, c = 60, 6
    sample = F.normalize(torch.randn(n, c, generator=torch.Generator().manual_seed(1)) + torch.arange(c), dim=-1)
    for k, near in ((c, 1e-5), (4, 0.2)):
        layer = torch.nn.Linear(c, k)
        with torch.no_grad():
            share = rotate(layer, sample)
            found = layer(sample)
        assert float((found @ found.T - sample @ sample.T).abs().max()) < near
        assert share == pytest.approx(float(found.square().sum() / sample.square().sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("own_grid", "channels", "pooled"),
    [((14, 14), 768, 512), ((16, 16), 768, 768), ((37, 37), 1024, 1024), ((27, 27), 1152, 1152), ((4, 4), 32, 24)],
)
def test_whatever_the_encoder_an_item_stays_within_the_budget(
    own_grid: tuple[int, int], channels: int, pooled: int
) -> None:
    sizes = choose_sizes(own_grid=own_grid, channels=channels, pooled=pooled, exact=True)
    assert sizes.item_bytes <= ITEM_BYTES
    assert sizes.components >= min(64, channels)
    assert (sizes.embedding == pooled) == (pooled <= 768)


def test_a_grid_that_does_not_fit_is_refused_with_what_would() -> None:
    whole = {"own_grid": (14, 14), "channels": 768, "pooled": 512, "exact": True}
    assert choose_sizes(**whole, grid=(14, 14)).components == 40  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="leave room for 40 components"):
        choose_sizes(**whole, grid=(14, 14), components=64)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="finer than this encoder's 14x14"):
        choose_sizes(**whole, grid=(20, 20))  # type: ignore[arg-type]


def test_the_adapted_model_gives_the_encoder_s_own_vector_and_cells_of_its_tokens(adapted: Path, model: Model) -> None:
    network = load_checkpoint(adapted)
    assert model.matchers.keys() == {"dense"}, "nothing untrained is offered"
    assert [stage.matcher for stage in model.chain] == ["dense"]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    features = model.encode(pixels)
    with torch.inference_mode():
        looked = network.backbone.look(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert looked.pooled is not None
        columns = looked.feature_map.flatten(2).transpose(1, 2)
        assert isinstance(network.neck, torch.nn.Linear)
        cells = F.normalize(network.neck(columns), dim=-1)
    np.testing.assert_allclose(features["embedding"], F.normalize(looked.pooled, dim=-1).numpy(), atol=1e-4)
    np.testing.assert_allclose(features["cells"], cells.numpy(), atol=1e-4)
    assert sum(spec.size_bytes for spec in model.features) <= ITEM_BYTES


async def test_a_gallery_of_the_adapted_model_finds_its_own_photos(tmp_path: Path, model: Model) -> None:
    catalogue = make_catalogue(tmp_path, [f"item-{n}" for n in range(10)])
    ingest(catalogue, tmp_path / "gallery", model=model, options=IngestOptions(images=tmp_path / "images", workers=1))
    async with ModelQueues(model) as queues:
        gallery = Gallery.open(tmp_path / "gallery", features_fingerprint=model.features_fingerprint)
        result = await Retriever(gallery, queues).search(photo(7), SearchOptions(explain=True))
    assert (result.matches[0].item.id, result.matches[0].stage) == ("item-6", "dense"), "the photo itself"
    assert result.matches[0].score == pytest.approx(1, abs=0.02), "but for four bits a number"
    assert result.matches[0].evidence, "and what decided"


@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_openvino_runs_a_transformer_as_torch_does(
    library: str, tmp_path: Path, adapted: Path, photos: Path, model: Model
) -> None:
    folder, side = adapted, 64
    if library == "open_clip":
        pytest.importorskip("open_clip", reason="the extra `open_clip` is not installed")
        folder, side = tmp_path / "clip", 32
        adapt(f"open_clip:{write_open_clip(tmp_path / 'own')[0]}", photos, folder)
        model = load_model(folder, engine="torch")
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    fast = OpenVinoEngine(load_checkpoint(folder), None).encode(pixels)
    for name, values in model.encode(pixels).items():
        np.testing.assert_allclose(fast[name], values, atol=1e-4)


def test_photos_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, encoder: str) -> None:
    folder = write_photos(tmp_path / "photos", 9)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    settings = AdaptSettings(image_px=64, fit="pad", half=True)
    report = adapt(encoder, folder, tmp_path / "mine", settings=settings)
    assert report["photos"] == 9
    assert ["broken.jpg" in named for named in report["skipped"]] == [True]
    assert load_model(tmp_path / "mine", engine="torch").framing.fit == "pad"
    assert report["framing"]["fill"] == [122, 115, 102], "what is filled up has the mean colour"


def test_too_few_photos_and_a_folder_that_is_there_are_refused_before_any_work(
    tmp_path: Path, photos: Path, encoder: str
) -> None:
    write_photos(tmp_path / "few", 3)
    with pytest.raises(DataError, match="has 3 photos, expected at least 8"):
        adapt(encoder, tmp_path / "few", tmp_path / "mine")
    with pytest.raises(DataError, match="is there already"):
        adapt(encoder, photos, tmp_path / "few")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few"]


def test_a_run_that_died_leaves_no_model_and_does_not_stop_the_next(tmp_path: Path, photos: Path, encoder: str) -> None:
    (tmp_path / ".mine.partial").mkdir()
    (tmp_path / ".mine.partial" / "config.json").write_text("{")
    adapt(encoder, photos, tmp_path / "mine", settings=AdaptSettings(image_px=64))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_a_head_trained_on_top_ends_the_chain_and_reads_regions(adapted: Path) -> None:
    network = load_checkpoint(adapted)
    config = started_config(adapted, {})
    give_head(network, config)
    assert config.features == ("embedding", "cells", "regions")
    assert [(stage.matcher, stage.items) for stage in network.chain] == [("dense", None), ("grnet", 16)]
    assert Model(network).matchers.keys() >= {"dense", "grnet"}
    again = replace(config)
    give_head(network, again)
    assert len(network.chain) == 2, "only once"


def test_pairs_give_an_adapted_model_its_probabilities_and_its_gallery_stays(tmp_path: Path, adapted: Path) -> None:
    folder = draw_set(tmp_path / "pairs", range(22))
    gallery, queries = (read_labelled(folder / f"{kind}.csv") for kind in ("gallery", "queries"))
    report = recalibrate(str(adapted), gallery, [*queries] * 2, out=tmp_path / "out", device="cpu")
    assert report["before"] is None
    assert report["after"]["ece_held_out"] < 0.1
    before, after = load_model(adapted, engine="torch"), load_model(tmp_path / "out", engine="torch")
    assert after.features_fingerprint == before.features_fingerprint
    assert (before.matchers["dense"].calibrated, after.matchers["dense"].calibrated) == (False, True)
    ranking = Ranking(4)
    ranking.rerank("dense", np.array([0.95, 0.4, 0.3, 0.2], np.float32))
    assert np.isnan(before.judge(ranking).probabilities).all()
    likely = after.judge(ranking).probabilities
    assert likely[0] > 0.8 > 0.2 > likely[3]


def test_the_command_says_what_was_made_and_evaluate_takes_it(tmp_path: Path, photos: Path, encoder: str) -> None:
    out = tmp_path / "mine"
    options = ["--photos", str(photos), "--out", str(out), "--image-px", "64", "--grid", "2x2", "--components", "24"]
    outcome = CliRunner().invoke(app, ["adapt", encoder, *options, "--json"])
    assert outcome.exit_code == 0, outcome.output
    report = json.loads(outcome.stdout)
    assert (report["grid"], report["own_grid"], report["components"]) == ([2, 2], [4, 4], 24)
    model = load_model(out, engine="torch")
    assert report["item_bytes"] == sum(spec.size_bytes for spec in model.features)
    images = [LabelledImage(path, path.stem, path.stem, None, "", "") for path in sorted(photos.iterdir())]
    settings = EvaluationSettings(methods=("global", "grnet"), candidates=12, exhaustive=False)
    found, _ = evaluate(model, images, images, settings=settings)
    assert found["methods"]["grnet"]["top1"] == 1, "each photo finds itself"
    assert "calibration" not in found, "it states no probabilities"
    refused = CliRunner().invoke(app, ["adapt", encoder, *options])
    assert refused.exit_code == 1
    assert "is there already" in refused.output
    odd = CliRunner().invoke(app, ["adapt", encoder, *options, "--grid", "2by2"])
    assert odd.exit_code == 2
