"""A part of a model is local: a toy one, made here, goes from a checkpoint's folder to a search that ranks by it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.conftest import TINY_CONFIG
from tests.support.serving import make_catalogue, photo
from threadmatch.indexer.edits.live_writes import Editor, Put
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store.contents import content_of
from threadmatch.indexer.store.versions import Version
from threadmatch.indexer.upkeep import compact, verify
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.errors import CheckpointError
from threadmatch.model.features import FeatureSpec, in_common
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model, load_model
from threadmatch.model.matchers import MATCHERS
from threadmatch.model.matching import Items, Photo
from threadmatch.model.part import Part, Seen
from threadmatch.model.parts import PARTS
from threadmatch.service.errors import InvalidFieldError
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.results import SearchResult
from threadmatch.service.search.retriever import Retriever

CHANNELS, STAGE = 24, 1


class Weave(Part):
    """A vector of the cells and of an earlier stage's map."""

    name = "weave"
    stages = (STAGE,)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.out = int(settings["out"])
        self.linear = nn.Linear(CHANNELS, self.out)

    @property
    def settings(self) -> dict[str, Any]:
        return {"out": self.out}

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        return FeatureSpec("weave", (self.out,), "int8"), FeatureSpec("grain", (1,))

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        grain = seen.stages[STAGE].mean(dim=(1, 2, 3))[:, None]
        return {"weave": self.linear(seen.cells.mean(dim=1)), "grain": grain}


class WeaveMatcher:
    """Items by the distance of their weave."""

    name = "weave"
    needs = frozenset({"weave", "grain"})
    calibrated = False
    explains = False
    pointwise = True
    cost = 0.05

    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        return [
            -np.abs(np.asarray(items["weave"], np.float32) - query["weave"]).sum(axis=1)
            for query, items in zip(queries, candidates, strict=True)
        ]


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PARTS, "weave", Weave)
        patch.setitem(MATCHERS, "weave", lambda network, _: WeaveMatcher() if "weave" in network.attached else None)
        yield


def checkpoint(tiny: Path, folder: Path, *, seed: int | None) -> Path:
    """The tiny model, with a toy part of these weights where there is a seed."""
    network = load_checkpoint(tiny)
    if seed is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network.attach(Weave({"out": 4}))
    save_checkpoint(network, folder)
    return folder


@pytest.fixture(scope="module")
def folders(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("parts")
    seeds = {"plain": None, "woven": 1, "other": 2}
    return {name: checkpoint(tiny_model_folder, root / name, seed=seed) for name, seed in seeds.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {name: load_model(folder, device="cpu", engine="torch") for name, folder in folders.items()}


def fill(root: Path, model: Model, ids: Sequence[str] = ("a", "b", "c")) -> IngestResult:
    catalogue = make_catalogue(root, list(ids))
    return ingest(catalogue, root / "gallery", model=model, options=IngestOptions(images=root / "images", workers=1))


async def search(folder: Path, model: Model, **options: object) -> SearchResult:
    async with ModelQueues(model) as queues:
        gallery = Gallery.open(
            folder / "gallery", features_fingerprint=model.features_fingerprint, model_name=model.name
        )
        return await Retriever(gallery, queues).search(photo(1), SearchOptions.model_validate(options))


def test_a_part_changes_nothing_of_the_core(folders: dict[str, Path], models: dict[str, Model]) -> None:
    plain, woven, other = models["plain"], models["woven"], models["other"]
    assert plain.fingerprint == woven.fingerprint == other.fingerprint
    assert plain.features_fingerprint == woven.features_fingerprint == other.features_fingerprint
    stored = {name: load_file(folder / "model.safetensors").keys() for name, folder in folders.items()}
    assert stored["plain"] == stored["woven"]
    assert (folders["plain"] / "config.json").read_text() == (folders["woven"] / "config.json").read_text()
    assert plain.parts == {}
    assert woven.parts.keys() == {"weave"}
    assert woven.parts != other.parts
    assert woven.features[-2] == FeatureSpec("weave", (4,), "int8", made_by=woven.parts["weave"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    made = {name: model.encode(pixels) for name, model in models.items()}
    assert made["woven"].keys() - made["plain"].keys() == {"weave", "grain"}
    for name in made["plain"]:
        np.testing.assert_allclose(made["woven"][name], made["plain"][name], atol=1e-5)
    assert made["woven"]["weave"].shape == (2, 4)
    assert np.abs(made["woven"]["weave"] - made["other"]["weave"]).max() > 0.01


def test_a_checkpoint_saved_again_keeps_its_part_until_what_it_reads_is_trained(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    network = load_checkpoint(folders["woven"])
    save_checkpoint(network, tmp_path / "again")
    assert load_model(tmp_path / "again", engine="torch").parts == load_model(folders["woven"], engine="torch").parts
    with torch.no_grad():
        network.head.projection.add_(1)
    save_checkpoint(network, tmp_path / "head")
    assert load_model(tmp_path / "head", engine="torch").parts, "a part does not read the head"
    with torch.no_grad():
        next(network.backbone.parameters()).add_(0.01)
    save_checkpoint(network, tmp_path / "tuned")
    assert load_model(tmp_path / "tuned", engine="torch").parts == {}
    assert Model(network).parts == {}, "features of a part that reads another map are not made"


def test_a_damaged_part_or_one_of_another_core_says_what_is_wrong(folders: dict[str, Path], tmp_path: Path) -> None:
    def damaged(name: str, **changes: object) -> Path:
        folder = shutil.copytree(folders["woven"], tmp_path / name)
        config = folder / "weave" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
        return folder

    torn = damaged("torn")
    (torn / "weave" / "model.safetensors").unlink()
    network = GRNet(TINY_CONFIG)
    network.attach(Weave({"out": 4}))
    save_checkpoint(network, tmp_path / "stranger")
    strange = damaged("strange")
    shutil.copytree(tmp_path / "stranger" / "weave", strange / "weave", dirs_exist_ok=True)
    for folder, says in (
        (torn, "torn"),
        (strange, "was trained on features"),
        (damaged("unknown", part="tassel"), "a part 'tassel', known are .*weave"),
        (damaged("resized", settings={"out": 5}), "other shape"),
        (damaged("renamed", fingerprint="0"), "of different parts"),
        (damaged("empty", settings=None), "not a description of a model's part"),
    ):
        with pytest.raises(CheckpointError, match=says):
            load_model(folder, engine="torch")


async def test_a_gallery_made_without_it_is_served_refuses_its_matcher_and_gains_it_by_ingesting_again(
    tmp_path: Path, models: dict[str, Model]
) -> None:
    plain, woven, other = models["plain"], models["woven"], models["other"]
    assert fill(tmp_path, plain).encoded == 3
    assert len((await search(tmp_path, woven, matcher="greedy")).matches) == 3
    refused = r"matcher=weave needs grain, weave of each item, and this gallery keeps embedding, regions alone.*"
    with pytest.raises(InvalidFieldError, match=refused + "threadmatch ingest CATALOGUE --gallery"):
        await search(tmp_path, woven, matcher="weave")

    again = fill(tmp_path, woven)
    assert (again.encoded, again.warnings) == (3, ())
    assert fill(tmp_path, woven).encoded == 0
    found = await search(tmp_path, woven, matcher="weave", depth=3, collapse_duplicates=False)
    assert [match.stage for match in found.matches] == ["weave"] * 3
    assert found.matches[0].item.id == "a", "the photo itself"
    assert not verify(tmp_path / "gallery").problems

    with pytest.raises(InvalidFieldError, match="keeps grain, weave as other weights made it"):
        await search(tmp_path, other, matcher="weave")
    assert fill(tmp_path, other).encoded == 3
    assert (await search(tmp_path, other, matcher="weave", depth=3)).matches[0].item.id == "a"
    with pytest.raises(InvalidFieldError, match="as other weights made it"):
        await search(tmp_path, woven, matcher="weave")


async def test_a_feature_that_some_items_lack_is_not_listed(tmp_path: Path, models: dict[str, Model]) -> None:
    fill(tmp_path, models["plain"])
    [note, other] = fill(tmp_path, models["woven"], ["c", "d"]).warnings  # a and b stay as they are
    assert "weave is kept of some items only" in note
    assert "grain" in other
    gallery = Gallery.open(tmp_path / "gallery")
    assert [spec.name for spec in gallery.features] == ["embedding", "regions"]
    assert fill(tmp_path, models["woven"], ["a", "b", "c", "d"]).warnings == ()
    gallery.refresh()
    assert [spec.name for spec in gallery.features] == ["embedding", "regions", "weave", "grain"]
    [note, _] = fill(tmp_path, models["plain"], ["e"]).warnings
    assert note == "weave is not kept any more: model 'tiny' has no part that makes it"
    assert not verify(tmp_path / "gallery").problems


def test_an_item_put_by_a_service_without_the_part_takes_it_from_the_next_generation(
    tmp_path: Path, models: dict[str, Model]
) -> None:
    fill(tmp_path, models["woven"])
    gallery, plain = Gallery.open(tmp_path / "gallery"), models["plain"]
    made = plain.encode(np.zeros((1, 64, 64, 3), np.uint8))
    specs = in_common(gallery.features, plain.features)
    given: dict[str, Any] = {"sha256": "5", "asked_box": "", "size": (64, 64), "box": (0, 0, 64, 64), "photo": b"jpeg"}
    content = content_of({name: values[0] for name, values in made.items()}, specs, **given)
    editor = Editor(tmp_path / "gallery", features_fingerprint=plain.features_fingerprint)
    [edited] = editor.apply([Put(Version("z", None, "{}", "", 0), content)])
    assert getattr(edited, "changed", False), edited
    editor.close()
    compact(tmp_path / "gallery")
    gallery.refresh()
    assert [spec.name for spec in gallery.features] == ["embedding", "regions"]
    assert gallery.item_count == 4
