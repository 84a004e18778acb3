"""The same HTTP over a cluster's gallery as over the folder it was copied from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from tests.support.clusters import address
from tests.support.patience import until
from tests.support.processes import ENVIRONMENT, command
from tests.support.serving import is_error, photo, post, running, settings
from threadmatch.indexer import keeping
from threadmatch.indexer.opening import open_gallery
from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.bench.engines import Server, redis, settings_file
from threadmatch.service.bench.engines import running as engines_running
from threadmatch.service.shared import state_of

pytestmark = pytest.mark.cluster
SEARCHES: tuple[dict[str, object], ...] = (
    {},
    {"top_k": 40, "candidates": 40},
    {"filter": "price >= 20"},
    {"filter": '"1" in name', "top_k": 5},
    {"group_by": "product"},
    {"explain": "true", "top_k": 3},
    {"matcher": "global"},
    {"filter": "price > 100000"},
)


@pytest.fixture(scope="module")
def place(cluster_settings: Path, gallery_folder: Path) -> str:
    made = address(cluster_settings)
    keeping.copy(gallery_folder, made)
    return made


@pytest.fixture
def cluster_gallery(place: str, tiny_model: Model) -> Iterator[OpenGallery]:
    made = open_gallery(place, features_fingerprint=tiny_model.features_fingerprint)
    yield made
    made.close()


@pytest_asyncio.fixture
async def cluster(place: str, cluster_gallery: OpenGallery, tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    async with running(create_app(settings(Path(place)), model=tiny_model, gallery=cluster_gallery)) as client:
        yield client


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what is of this request alone."""
    for match in answer["matches"]:
        match.pop("heatmaps", None)
    return {key: answer[key] for key in ("query", "matches", "no_match", "candidates", "model")}


async def test_searches_have_the_same_answers(client: httpx.AsyncClient, cluster: httpx.AsyncClient) -> None:
    for fields in SEARCHES:
        for seed in (1, 5, 300):
            answers = [(await post(one, photo(seed), **fields)) for one in (client, cluster)]
            assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
            ours, theirs = (told(answer.json()) for answer in answers)
            assert theirs == ours, fields


async def test_items_photos_lists_and_the_gallery_have_the_same_answers(
    client: httpx.AsyncClient, cluster: httpx.AsyncClient, item_ids: list[str]
) -> None:
    for item_id in item_ids:
        for path in (f"/v1/items/{quote(item_id, safe='')}", f"/v1/items/{quote(item_id, safe='')}/image"):
            ours, theirs = (await client.get(path)), (await cluster.get(path))
            assert (ours.status_code, theirs.status_code) == (200, 200)
            if path.endswith("image"):
                assert theirs.content == ours.content
            else:
                assert theirs.json()["metadata"] == ours.json()["metadata"]
    ours, theirs = [(await one.get("/v1/gallery")).json() for one in (client, cluster)]
    assert [theirs[key] for key in ("items", "columns", "model", "unfolded")] == [
        ours[key] for key in ("items", "columns", "model", "unfolded")
    ]
    is_error(await cluster.get("/v1/items/nobody"), 404, "ItemNotFound")
    is_error(await post(cluster, filter="nothing == 3"), 422, "Filter")


async def test_an_item_is_put_changed_and_deleted(cluster: httpx.AsyncClient) -> None:
    files = {"image": ("photo.jpg", photo(900), "image/jpeg")}
    response = await cluster.put("/v1/items/new", files=files, data={"metadata": json.dumps({"lot": 7})})
    assert response.status_code == 201, response.text
    first = (await post(cluster, photo(900), filter="lot == 7")).json()["matches"]
    assert [match["id"] for match in first] == ["new"]
    assert (await cluster.put("/v1/items/new", files=files, data={"metadata": '{"lot": 8}'})).status_code == 200
    changed = await cluster.patch("/v1/items/new", json={"metadata": {"lot": 9}})
    assert changed.status_code == 200, changed.text
    assert [match["id"] for match in (await post(cluster, photo(900), filter="lot == 9")).json()["matches"]] == ["new"]
    assert (await post(cluster, photo(900), filter="lot == 8")).json()["matches"] == []
    assert (await cluster.delete("/v1/items/new")).status_code in (200, 204)
    assert "new" not in [match["id"] for match in (await post(cluster, photo(900), top_k=50)).json()["matches"]]
    is_error(await cluster.get("/v1/items/new"), 404, "ItemNotFound")


async def test_a_new_generation_is_taken_up_while_serving(
    cluster: httpx.AsyncClient, place: str, gallery_folder: Path
) -> None:
    before = (await cluster.get("/v1/gallery")).json()["generation"]
    copied = keeping.copy(gallery_folder, place, replace=True)
    assert copied["generation"] > before
    while (await cluster.get("/v1/gallery")).json()["generation"] != copied["generation"]:
        assert (await post(cluster, photo(1))).status_code == 200


async def test_what_an_engine_does_not_answer_is_503_with_retry_after(
    tmp_path: Path, gallery_folder: Path, tiny_model: Model, milvus_server: Server
) -> None:
    store = redis(tmp_path / "redis")
    with engines_running(store):
        place = address(settings_file(tmp_path, stores=[store], milvus=milvus_server, retry_s=0))
        keeping.copy(gallery_folder, place)
        gallery = open_gallery(place)
        app = create_app(settings(Path(place)), model=tiny_model, gallery=gallery)
        async with running(app) as client:
            assert (await post(client, photo(1))).status_code == 200
            told = (await client.get("/metrics")).text
            for engine, kind in (("store", "read"), ("milvus", "search")):
                assert f'threadmatch_cluster_call_seconds_count{{engine="{engine}",kind="{kind}"}}' in told
            assert "threadmatch_cluster_calls_failed_total{" not in told
            store.kill()
            for response in (await post(client, photo(1)), await client.get("/v1/items/plain")):
                is_error(response, 503, "StoreUnavailable")
                assert int(response.headers["Retry-After"]) > 0
            failed = 'threadmatch_cluster_calls_failed_total{engine="store",kind="read",outcome="unavailable"}'
            assert failed in (await client.get("/metrics")).text
            await until(lambda: state_of(app).default.engine_away)  # seen by whoever looks for newer generations
            assert state_of(app).default.newer_refused is None, "an engine that is away refuses no generation"
            store.start()
            assert (await post(client, photo(1))).status_code == 200
        gallery.close()


def test_the_command_line_searches_it(place: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "street.jpg"
    picture.write_bytes(photo(3))
    options = ("--gallery", place, "--model", str(tiny_model_folder), "--device", "cpu", "--json", "--top-k", "1")
    options += ("--box", "0,0,120,160", "--no-rerank")
    done = subprocess.run(
        command("search", str(picture), *options),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (match,) = json.loads(done.stdout)["matches"]
    assert match["distance"] < 1e-3
