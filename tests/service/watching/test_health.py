"""Overload, a failing model, callers who leave, a gallery that moves or is not there yet."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import sqlite3
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.support.patience import PATIENCE_S, until
from tests.support.serving import (
    WatchedModel,
    build_gallery,
    is_error,
    make_catalogue,
    photo,
    post,
    running,
    settings,
    until_waiting,
)
from tests.support.side_files import take_away
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model, load_model
from threadmatch.service.app import create_app
from threadmatch.service.http.middleware import RequestMiddleware
from threadmatch.service.shared import state_of
from threadmatch.service.watching.logs import JsonFormatter


def watched_app(folder: Path, gallery: Gallery, model: Model, **changes: object) -> tuple[FastAPI, WatchedModel]:
    watched = WatchedModel(model)
    return create_app(settings(folder, **changes), model=watched, gallery=gallery), watched


async def test_beyond_the_limit_searches_are_told_429_at_once(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app, model = watched_app(gallery_folder, gallery, tiny_model, max_searches=3)
    async with running(app) as client:
        model.gate.clear()
        taken = [asyncio.create_task(post(client)) for _ in range(3)]
        await until(lambda: state_of(app).searches.taken == 3)
        refused = await asyncio.gather(*(post(client) for _ in range(4)))
        for response in refused:
            assert "3 searches" in is_error(response, 429, "Overloaded")
            assert int(response.headers["Retry-After"]) >= 1
        assert (await client.get("/health/ready")).status_code == 200
        model.gate.set()
        assert [response.status_code for response in await asyncio.gather(*taken)] == [200] * 3
        assert (await post(client)).status_code == 200
        text = (await client.get("/metrics")).text
        assert 'threadmatch_rejected_requests_total{reason="Overloaded"} 4.0' in text


async def test_searches_in_progress_hold_a_bounded_number_of_candidates(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app, model = watched_app(gallery_folder, gallery, tiny_model, max_pairs=2000)
    async with running(app) as client:
        model.gate.clear()
        tasks = [asyncio.create_task(post(client, candidates=2000)) for _ in range(60)]  # 40 items each
        await until(lambda: sum(task.done() for task in tasks) >= 23)
        model.gate.set()
        statuses = [response.status_code for response in await asyncio.gather(*tasks)]
        assert statuses.count(200) == 37, "three quarters of 50 are the most that one client holds"
        assert statuses.count(429) == 23


@pytest.mark.parametrize("call", ["encode", "score_many", "evidence"])
async def test_a_failed_model_call_answers_everybody_and_readiness_recovers(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, model = watched_app(gallery_folder, gallery, tiny_model)
    async with running(app) as client:
        model.fails[call] = 100
        responses = await asyncio.gather(*(post(client, explain=True) for _ in range(5)))
        for response in responses:
            detail = is_error(response, 503, "ModelFailed")
            assert "secret" not in detail
        assert "illegal memory access" in caplog.text
        if call != "evidence":
            assert "probe" in is_error(await client.get("/health/ready"), 503, "NotReady")
        model.fails[call] = 0
        assert (await client.get("/health/ready")).status_code == 200
        assert (await post(client, explain=True)).status_code == 200
        failed = (await client.get("/metrics")).text
        stage = {"encode": "encode", "score_many": "rerank", "evidence": "explain"}[call]
        assert f'threadmatch_model_failures_total{{stage="{stage}"}}' in failed


async def test_a_search_that_works_also_ends_the_doubt(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app, model = watched_app(gallery_folder, gallery, tiny_model)
    async with running(app) as client:
        model.fails["score_many"] = 1
        is_error(await post(client), 503, "ModelFailed")
        assert (await post(client)).status_code == 200
        begun = model.begun
        assert (await client.get("/health/ready")).status_code == 200
        assert model.begun == begun, "no probe was needed"


async def test_a_model_call_that_hangs_shows_in_readiness(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app, model = watched_app(gallery_folder, gallery, tiny_model, stall_s=1)
    async with running(app) as client:
        model.gate.clear()
        task = asyncio.create_task(post(client))
        queues = state_of(app).queues
        assert queues is not None
        await until(lambda: queues.thread.busy_s() > 1)
        said = is_error(await client.get("/health/ready"), 503, "NotReady")
        assert re.search(r"has taken \d+ s so far", said)
        assert (await client.get("/health/live")).status_code == 200
        model.gate.set()
        assert (await task).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200


async def test_a_search_that_takes_too_long_is_given_up(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app, model = watched_app(gallery_folder, gallery, tiny_model, search_timeout_s=0.2)
    async with running(app) as client:
        model.gate.clear()
        is_error(await post(client), 503, "SearchTimeout")
        model.gate.set()
        await until(lambda: state_of(app).searches.taken == 0)


async def test_a_client_that_leaves_is_not_searched_for(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app, model = watched_app(gallery_folder, gallery, tiny_model)
    async with running(app) as client:
        model.encoded.clear()
        model.gate.clear()
        begun = model.begun
        stays = asyncio.create_task(post(client))
        await until(lambda: model.begun == begun + 1)
        request = client.build_request("POST", "/search", files={"image": ("a.jpg", photo())})
        body, gone = await request.aread(), asyncio.Event()
        sent: list[object] = []

        async def receive() -> dict[str, object]:
            if not sent:
                sent.append("body")
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: object) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/search",
            "raw_path": b"/search",
            "query_string": b"",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }
        leaves = asyncio.create_task(app(scope, receive, send))
        await until(lambda: state_of(app).searches.taken == 2)
        await until_waiting(app, 1)
        gone.set()
        await leaves
        assert state_of(app).searches.taken == 1
        model.gate.set()
        assert (await stays).status_code == 200
        assert model.encoded == [1]
        assert 'status="499"' in (await client.get("/metrics")).text


async def test_shutting_down_answers_searches_in_progress(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app, model = watched_app(gallery_folder, gallery, tiny_model)
    async with running(app) as client:
        queues = state_of(app).queues
        assert queues is not None
        begun = model.begun
        model.gate.clear()
        tasks = [asyncio.create_task(post(client)) for _ in range(3)]
        await until(lambda: state_of(app).searches.taken == 3)
        await until(lambda: model.begun > begun)
        asyncio.get_running_loop().call_later(0.2, model.gate.set)
        stopping = asyncio.create_task(queues.stop(5))
        responses = await asyncio.gather(*tasks)
        await stopping
        assert [response.status_code for response in responses] == [200] * 3
        is_error(await post(client), 503, "Stopped")


async def test_an_unexpected_error_is_a_logged_500_without_detail(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = watched_app(gallery_folder, gallery, tiny_model)

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("secret inner workings")

    async with running(app) as client:
        assert "secret" not in is_error(await client.get("/broken"), 500, "Unexpected")
    assert "secret inner workings" in caplog.text


async def test_a_newer_generation_is_taken_without_a_restart(tmp_path: Path, tiny_model: Model) -> None:
    folder = build_gallery(tmp_path, tiny_model, ["a", "b", "c"])
    gallery = Gallery.open(folder, features_fingerprint=tiny_model.features_fingerprint)
    app, model = watched_app(folder, gallery, tiny_model)
    async with running(app) as client:
        assert (await post(client)).json()["gallery"] == {"generation": "000001", "items": 3}
        catalogue = make_catalogue(tmp_path / "shop", ["a", "b", "c", "d", "e"])
        options = IngestOptions(images=tmp_path / "shop" / "images")
        model.gate.clear()
        begun = asyncio.create_task(post(client))
        await until(lambda: state_of(app).searches.taken == 1)
        await asyncio.to_thread(ingest, catalogue, folder, model=tiny_model, options=options)
        await until(lambda: gallery.generation == "000002")
        model.gate.set()
        assert (await begun).status_code == 200
        assert (await post(client)).json()["gallery"] == {"generation": "000002", "items": 5}
        assert 'threadmatch_gallery_generation{gallery="default"} 2.0' in (await client.get("/metrics")).text


async def test_a_generation_of_another_model_is_refused_and_the_old_one_stays(
    tmp_path: Path, tiny_model: Model
) -> None:
    config = GRNetConfig(
        backbone="timm:test_efficientnet", image_px=64, neck_channels=20, similarity_channels=16, node_channels=8
    )
    save_checkpoint(GRNet(config), tmp_path / "other-model")
    other = load_model(tmp_path / "other-model", device="cpu")
    folder = build_gallery(tmp_path / "one", tiny_model, ["a", "b", "c"])
    foreign = build_gallery(tmp_path / "two", other, ["a", "b", "c", "d"])
    gallery = Gallery.open(folder, features_fingerprint=tiny_model.features_fingerprint)
    async with running(create_app(settings(folder), model=tiny_model, gallery=gallery)) as client:
        shutil.copytree(foreign / "generations" / "000001", folder / "generations" / "000002")
        manifest = folder / "generations" / "000002" / "manifest.json"
        manifest.write_text(manifest.read_text("utf-8").replace('"generation": "000001"', '"generation": "000002"'))
        (folder / "CURRENT").write_text((folder / "CURRENT").read_text().replace("000001", "000002"))
        async with asyncio.timeout(PATIENCE_S):
            while "refused" not in ((ready := (await client.get("/health/ready")).json())["detail"] or ""):
                await asyncio.sleep(0.05)
        assert ready["gallery"]["generation"] == "000001"
        assert (await client.get("/v1/gallery")).json()["newer_refused"]
        assert 'threadmatch_gallery_newer_refused{gallery="default"} 1.0' in (await client.get("/metrics")).text
        assert (await post(client)).json()["gallery"]["generation"] == "000001"


async def test_waiting_for_a_gallery_is_not_ready_until_it_is_there(
    tmp_path: Path, tiny_model: Model, tiny_model_folder: Path
) -> None:
    app = create_app(settings(tmp_path / "gallery", wait_for_gallery=True, model=str(tiny_model_folder), device="cpu"))
    async with running(app) as client:
        assert (await client.get("/health/live")).status_code == 200
        is_error(await client.get("/health/ready"), 503, "NotReady")
        is_error(await post(client), 503, "NotReady")
        is_error(await client.get("/v1/gallery"), 503, "NotReady")
        is_error(await client.get("/v1/items/a"), 503, "NotReady")
        assert (await client.get("/")).status_code == 200
        await asyncio.to_thread(build_gallery, tmp_path, tiny_model, ["a", "b"])
        async with asyncio.timeout(PATIENCE_S):
            while (await client.get("/health/ready")).status_code != 200:
                await asyncio.sleep(0.05)
        assert (await post(client)).json()["candidates"] == 2


async def test_a_damaged_item_is_left_out_and_the_rest_is_answered(tmp_path: Path, tiny_model: Model) -> None:
    folder = build_gallery(tmp_path, tiny_model, ["a", "b", "c"])
    database = next(folder.glob("*.sqlite*"))
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE features SET data = zeroblob(length(data)) WHERE content = 2 AND name = 'regions'")
    take_away(folder)
    gallery = Gallery.open(folder, features_fingerprint=tiny_model.features_fingerprint)
    assert folder.stat().st_mode & 0o077 == 0, "photos and metadata are nobody else's affair"
    async with running(create_app(settings(folder), model=tiny_model, gallery=gallery)) as client:
        for _ in range(2):
            assert (await post(client)).json()["candidates"] == 2
        ready = await client.get("/health/ready")
        assert ready.status_code == 200
        assert "1 items of 'default' are damaged" in ready.json()["detail"]
        assert 'threadmatch_gallery_damaged_items{gallery="default"} 1.0' in (await client.get("/metrics")).text
    async with running(create_app(settings(folder, max_damaged=0), model=tiny_model, gallery=gallery)) as client:
        assert (await client.get("/health/ready")).status_code == 200
        await post(client)
        assert "damaged" in is_error(await client.get("/health/ready"), 503, "NotReady")


async def test_each_request_is_one_log_line_with_its_id_and_stage_times(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=RequestMiddleware.__module__):
        answer = (await post(client)).json()
    lines = [record for record in caplog.records if record.message == "request"]
    assert len(lines) == 1
    line = json.loads(JsonFormatter().format(lines[0]))
    assert line["path"] == "/v1/search"
    assert line["status"] == 200
    assert line["timings_ms"] == answer["timings_ms"]
    assert line["level"] == "info"


async def test_metrics_count_stages_batches_and_answers(client: httpx.AsyncClient) -> None:
    await post(client)
    await post(client, top_k=0)
    text = (await client.get("/metrics")).text
    for stage in ("decode", "encode", "shortlist", "gather", "rerank", "total"):
        assert f'threadmatch_search_stage_seconds_count{{stage="{stage}"}} 1.0' in text
    assert 'threadmatch_model_batch_size_sum{stage="rerank"}' in text
    assert 'threadmatch_queue_waiting{stage="encode"} 0.0' in text
    assert 'threadmatch_gallery_items{gallery="default"} 40.0' in text
    assert 'threadmatch_http_requests_total{method="POST",route="/v1/search",status="200"} 1.0' in text
    assert 'threadmatch_rejected_requests_total{reason="InvalidField"} 1.0' in text
    other = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert other.headers["Content-Type"].startswith("application/openmetrics-text")
    assert other.text.endswith("# EOF\n")
