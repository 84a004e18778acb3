"""Several galleries in one service: each request stays in its own, one model serves them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.support.patience import PATIENCE_S, until
from tests.support.serving import (
    WatchedModel,
    build_gallery,
    is_error,
    make_catalogue,
    post,
    running,
    settings,
    until_waiting,
)
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model, load_model
from threadmatch.service.app import create_app
from threadmatch.service.config import load_settings
from threadmatch.service.errors import SettingsError, StartError
from threadmatch.service.galleries.loading import open_all

SHARED_ID = "same-id"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> dict[str, Path]:
    """Three galleries that each hold an item of the same id, with another photo."""
    root = tmp_path_factory.mktemp("galleries")
    return {
        name: build_gallery(root / name, tiny_model, [SHARED_ID, *(f"{name}-{n}" for n in range(3))], first_seed=seed)
        for name, seed in (("default", 100), ("women", 200), ("men", 300))
    }


def three(folders: dict[str, Path], **changes: object) -> dict[str, object]:
    return {"galleries": {name: folders[name] for name in ("women", "men")}, **changes}


@pytest_asyncio.fixture
async def client(folders: dict[str, Path], tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    gallery = Gallery.open(folders["default"], features_fingerprint=tiny_model.features_fingerprint)
    app = create_app(settings(folders["default"], **three(folders)), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        yield client


def ids(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {match["id"] for match in answer.json()["matches"]}


async def test_a_search_finds_items_of_the_gallery_that_it_names_and_no_other(client: httpx.AsyncClient) -> None:
    for name in ("default", "women", "men"):
        answer = await post(client, gallery=name)
        assert ids(answer) == {SHARED_ID, *(f"{name}-{n}" for n in range(3))}
        assert answer.json()["gallery"]["items"] == 4
    assert ids(await post(client)) == ids(await post(client, gallery="default")) == ids(await post(client, gallery=""))


async def test_links_lead_back_into_the_same_gallery(client: httpx.AsyncClient) -> None:
    photos = {}
    for name in ("default", "women", "men"):
        matches = (await post(client, gallery=name)).json()["matches"]
        url = next(match["image_url"] for match in matches if match["id"] == SHARED_ID)
        assert ("gallery" in url) == (name != "default")
        photos[name] = (await client.get(url)).content
        item = (await client.get(f"/v1/items/{SHARED_ID}", params={"gallery": name})).json()
        assert item["image_url"] == url
    assert len(set(photos.values())) == 3


async def test_an_item_of_one_gallery_is_not_in_another(client: httpx.AsyncClient) -> None:
    for path in ("/v1/items/women-1", "/v1/items/women-1/image"):
        assert (await client.get(path, params={"gallery": "women"})).status_code == 200
        is_error(await client.get(path), 404, "ItemNotFound")
        is_error(await client.get(path, params={"gallery": "men"}), 404, "ItemNotFound")


@pytest.mark.parametrize("name", ["children", "../women", "women/", "WOMEN", "wom\u00e9n", "women\x00", "a" * 64])
async def test_a_gallery_that_is_not_there_is_404_everywhere(client: httpx.AsyncClient, name: str) -> None:
    is_error(await post(client, gallery=name), 404, "UnknownGallery")
    for path in ("/v1/gallery", f"/v1/items/{SHARED_ID}", f"/v1/items/{SHARED_ID}/image"):
        is_error(await client.get(path, params={"gallery": name}), 404, "UnknownGallery")


async def test_readiness_metrics_and_the_gallery_route_know_them_all(client: httpx.AsyncClient) -> None:
    ready = (await client.get("/health/ready")).json()
    assert ready["galleries"] == {name: {"generation": "000001", "items": 4} for name in ("default", "women", "men")}
    text = (await client.get("/metrics")).text
    for name in ("default", "women", "men"):
        assert f'threadmatch_gallery_items{{gallery="{name}"}} 4.0' in text
        assert f'threadmatch_gallery_generation{{gallery="{name}"}} 1.0' in text
        assert (await client.get("/v1/gallery", params={"gallery": name})).json()["name"] == name


async def test_searches_of_several_galleries_meet_in_one_batch(folders: dict[str, Path], tiny_model: Model) -> None:
    model = WatchedModel(tiny_model)
    gallery = Gallery.open(folders["default"])
    app = create_app(settings(folders["default"], **three(folders)), model=model, gallery=gallery)
    async with running(app) as to:
        model.encoded.clear()
        model.gate.clear()
        begun = model.begun
        first = asyncio.create_task(post(to))
        await until(lambda: model.begun > begun)
        rest = [asyncio.create_task(post(to, gallery=name)) for name in ("women", "men", "women")]
        await until_waiting(app, 3)
        model.gate.set()
        answers = await asyncio.gather(first, *rest)
    assert model.encoded == [1, 3]
    assert [ids(answer) & {"default-1", "women-1", "men-1"} for answer in answers] == [
        {"default-1"}, {"women-1"}, {"men-1"}, {"women-1"},
    ]  # fmt: skip


async def test_each_gallery_takes_its_own_newer_generation(tmp_path: Path, tiny_model: Model) -> None:
    first, second = (build_gallery(tmp_path / name, tiny_model, ["a", "b"]) for name in ("one", "two"))
    gallery = Gallery.open(first, features_fingerprint=tiny_model.features_fingerprint)
    app = create_app(settings(first, galleries={"women": second}), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        catalogue = make_catalogue(tmp_path / "two" / "shop", ["a", "b", "c"])
        options = IngestOptions(images=tmp_path / "two" / "shop" / "images")
        await asyncio.to_thread(ingest, catalogue, second, model=tiny_model, options=options)
        async with asyncio.timeout(PATIENCE_S):
            while (await post(client, gallery="women")).json()["gallery"] != {"generation": "000002", "items": 3}:
                await asyncio.sleep(0.05)
        assert (await post(client)).json()["gallery"] == {"generation": "000001", "items": 2}


async def test_a_gallery_that_comes_later_does_not_keep_the_others_waiting(
    tmp_path: Path, folders: dict[str, Path], tiny_model: Model, tiny_model_folder: Path
) -> None:
    values = {"galleries": {"women": folders["women"], "late": tmp_path / "gallery"}, "model": str(tiny_model_folder)}
    async with running(create_app(settings(folders["default"], wait_for_gallery=True, **values))) as client:
        async with asyncio.timeout(PATIENCE_S):
            while (await post(client, gallery="women")).status_code != 200:
                await asyncio.sleep(0.05)
        ready = (await client.get("/health/ready")).json()
        assert ready["galleries"]["late"] is None
        assert "'late' is not ready" in ready["detail"]
        assert "late" in is_error(await post(client, gallery="late"), 503, "NotReady")
        await asyncio.to_thread(build_gallery, tmp_path, tiny_model, ["x"])
        async with asyncio.timeout(PATIENCE_S):
            while (await post(client, gallery="late")).status_code != 200:
                await asyncio.sleep(0.05)


def test_a_gallery_of_another_model_is_named_at_the_start(
    tmp_path: Path, folders: dict[str, Path], tiny_model_folder: Path
) -> None:
    config = GRNetConfig(
        backbone="timm:test_efficientnet", image_px=64, neck_channels=20, similarity_channels=16, node_channels=8
    )
    save_checkpoint(GRNet(config), tmp_path / "other-model")
    foreign = build_gallery(tmp_path, load_model(tmp_path / "other-model", device="cpu"), ["a"])
    values = {"galleries": {"women": folders["women"], "odd": foreign}, "model": str(tiny_model_folder)}
    with pytest.raises(StartError, match=r"'odd'.*was made by model"):
        open_all(settings(folders["default"], device="cpu", **values))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("women", "expected NAME=FOLDER"),
        ("women=", "expected NAME=FOLDER"),
        ("Women=/a", "cannot name a gallery"),
        ("default=/a", "cannot name a gallery"),
        ("../x=/a", "cannot name a gallery"),
        ("a=/x,a=/y", "named twice"),
        ("a=/x,b=/x", "two names for one folder"),
    ],
)
def test_settings_that_cannot_name_galleries_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.setenv("THREADMATCH_GALLERIES", given)
    with pytest.raises(SettingsError, match=said):
        load_settings(gallery=Path("g"))


def test_galleries_are_read_from_the_environment_and_go_back_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADMATCH_GALLERIES", "women=/data/women, men=/data/men,")
    read = load_settings(gallery=Path("g"))
    assert read.galleries == {"women": Path("/data/women"), "men": Path("/data/men")}
    monkeypatch.setenv("THREADMATCH_GALLERIES", str(read.model_dump(mode="json")["galleries"]))
    assert load_settings(gallery=Path("g")) == read
    assert load_settings(gallery=Path("g"), galleries=["a=/x", "b=/y"]).galleries == {"a": Path("/x"), "b": Path("/y")}
