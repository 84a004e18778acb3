"""POST /v1/search/batch: photos share the model's batches, errors stay with their photo, bounds hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.patience import until
from tests.support.serving import (
    WatchedModel,
    is_error,
    photo,
    post,
    running,
    settings,
    until_waiting,
)
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.config import MIB
from threadmatch.service.http.schemas.matches import BatchAnswer
from threadmatch.service.shared import state_of


async def batch(client: httpx.AsyncClient, photos: Sequence[bytes], **fields: object) -> httpx.Response:
    files = [("images", (f"photo-{n}.jpg", data, "image/jpeg")) for n, data in enumerate(photos)]
    return await client.post("/v1/search/batch", files=files, data={name: str(v) for name, v in fields.items()})


async def results_of(client: httpx.AsyncClient, photos: Sequence[bytes], **fields: object) -> list[dict[str, Any]]:
    response = await batch(client, photos, **fields)
    assert response.status_code == 200, response.text
    BatchAnswer.model_validate(response.json())
    assert response.json()["request_id"] == response.headers["X-Request-ID"]
    results: list[dict[str, Any]] = response.json()["results"]
    assert [result["index"] for result in results] == list(range(len(photos)))
    return results


async def test_each_photo_is_answered_as_it_would_be_alone(client: httpx.AsyncClient) -> None:
    photos = [photo(40 + n, size=(90 + 9 * n, 150)) for n in range(5)]
    results = await results_of(client, photos, top_k=5, group_by="product", filter="price < 40")
    for data, result in zip(photos, results, strict=True):
        assert result["error"] is None
        alone = (await post(client, data, top_k=5, group_by="product", filter="price < 40")).json()
        answer = result["answer"]
        assert answer["query"] == alone["query"]
        distances = {match["id"]: match["distance"] for match in alone["matches"]}
        assert {match["id"]: match["distance"] for match in answer["matches"]} == pytest.approx(distances, abs=1e-5)
    assert [result["filename"] for result in results] == [f"photo-{n}.jpg" for n in range(5)]
    identities = {result["answer"]["request_id"] for result in results}
    assert len(identities) == 5, "feedback and heat maps tell the photos of a batch apart"


async def test_photos_of_a_batch_share_the_model_s_batches(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder, encode_batch=8, decode_threads=8), model=model, gallery=gallery)
    async with running(app) as client:
        model.gate.clear()
        before, begun = len(model.encoded), model.begun
        first = asyncio.create_task(post(client))
        await until(lambda: model.begun > begun)
        searched = asyncio.create_task(results_of(client, [photo(n) for n in range(8)]))
        await until_waiting(app, 8)
        model.gate.set()
        await asyncio.gather(first, searched)
    assert model.encoded[before:] == [1, 8]
    assert sum(map(len, model.scored)) == 8 + 2  # the one before them, and the probe at the start
    assert len(model.scored) < 10


async def test_what_is_wrong_with_one_photo_is_its_own_error(client: httpx.AsyncClient) -> None:
    sent = [photo(1), b"", b"hello", photo(2), photo(3)[:200]]
    results = await results_of(client, sent, top_k=1)
    assert [result["answer"] is None for result in results] == [False, True, True, False, True]
    assert [result["error"] and result["error"]["error"] for result in results] == [
        None, "InvalidField", "InvalidImage", None, "InvalidImage",
    ]  # fmt: skip
    assert all(result["error"]["detail"] for result in results if result["error"])
    text = (await client.get("/metrics")).text
    assert 'threadmatch_rejected_requests_total{reason="InvalidField"} 1.0' in text


async def test_a_photo_too_large_is_its_own_error_and_a_body_too_large_is_the_batch_s(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    limits = settings(gallery_folder, max_image_bytes=8000, max_batch_bytes=100_000)
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        yield b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        while True:
            read += 16_384
            yield b"x" * 16_384

    async with running(create_app(limits, model=tiny_model, gallery=gallery)) as client:
        results = await results_of(client, [photo(1), b"x" * 9000])
        assert [result["error"] and result["error"]["error"] for result in results] == [None, "TooLarge"]
        assert "together" in is_error(await batch(client, [b"x" * 8000] * 25), 413, "TooLarge")
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        is_error(await client.post("/v1/search/batch", content=endless(), headers=headers), 413, "TooLarge")
        assert read < 300_000
        declared = {**headers, "Content-Length": str(500 * MIB)}
        is_error(await client.post("/v1/search/batch", content=b"", headers=declared), 413, "TooLarge")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"filter": "nosuch == 3"}, "Filter"),
        ({"box": "1,2,3"}, "InvalidImage"),
        ({"top_k": "0"}, "InvalidField"),
        ({"matcher": "greedy", "explain": "true"}, "InvalidField"),
        ({"topk": "3"}, "InvalidField"),
        ({"image": "3"}, "InvalidField"),
    ],
)
async def test_what_is_wrong_with_all_photos_is_an_error_of_the_whole(
    client: httpx.AsyncClient, fields: dict[str, str], error: str
) -> None:
    is_error(await batch(client, [photo(1), photo(2)], **fields), 422, error)


async def test_a_box_outside_of_one_photo_is_that_photo_s_error(client: httpx.AsyncClient) -> None:
    results = await results_of(client, [photo(1, size=(300, 300)), photo(2, size=(100, 100))], box="150,150,290,290")
    assert [result["error"] and result["error"]["error"] for result in results] == [None, "InvalidImage"]


async def test_a_batch_has_1_to_64_photos(client: httpx.AsyncClient) -> None:
    assert "64" in is_error(await batch(client, [b"x"] * 65), 422, "InvalidField")
    assert "64" in is_error(await batch(client, [b"x"] * 90), 422, "InvalidField")
    none = await client.post("/v1/search/batch", files={"image": ("a.jpg", photo())})
    assert "'images'" in is_error(none, 422, "InvalidField")
    text = await client.post("/v1/search/batch", files={"images": (None, b"abc")})
    assert "file" in is_error(text, 422, "InvalidField")
    assert len(await results_of(client, [b"x"] * 64)) == 64


async def test_a_file_name_of_any_kind_can_be_answered(client: httpx.AsyncClient) -> None:
    for name in ("a\u202eb.jpg", "日本.jpg", "x" * 900, "../../etc/passwd", 'q"uote.jpg'):
        files = [("images", (name, b"no image", "image/jpeg"))]
        response = await client.post("/v1/search/batch", files=files)
        assert response.status_code == 200, response.text
        assert len(response.json()["results"][0]["filename"]) <= 200
    raw = b'--b\r\nContent-Disposition: form-data; name="images"; filename="\xff\xfe\x00"\r\n\r\nx\r\n--b--\r\n'
    response = await client.post(
        "/v1/search/batch", content=raw, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert response.status_code in (200, 422)


async def test_a_full_service_refuses_the_whole_batch_at_once(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder, max_searches=4, encode_batch=4), model=model, gallery=gallery)
    async with running(app) as client:
        model.gate.clear()
        first = asyncio.create_task(post(client))
        await until(lambda: state_of(app).searches.taken == 1)
        begun = model.begun
        refused = await batch(client, [photo(1), photo(2), photo(3)])
        is_error(refused, 429, "Overloaded")
        assert int(refused.headers["Retry-After"]) >= 1
        model.gate.set()
        assert (await first).status_code == 200
        assert model.begun - begun <= 2, "nothing of the batch was done"
        results = await results_of(client, [photo(n) for n in range(9)])
        assert all(result["answer"] for result in results), "a batch that is alone always fits"
        assert state_of(app).searches.taken == 0


async def test_the_candidates_of_a_batch_stay_within_those_of_all_searches(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder, max_pairs=2000), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        queues = state_of(app).queues
        assert queues is not None
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, queues.pairs.taken)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        await results_of(client, [photo(n) for n in range(20)], candidates=2000)
        watching.cancel()
        assert 40 < most <= 8 * 40
        with queues.pairs.take(1900):
            is_error(await batch(client, [photo(n) for n in range(20)]), 429, "Overloaded")


async def test_a_model_that_fails_and_a_batch_that_takes_too_long_answer_for_each_photo(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder), model=model, gallery=gallery)
    async with running(app) as client:
        model.fails["score_many"] = 1
        failed = [result["error"] for result in await results_of(client, [photo(n) for n in range(3)])]
        assert any(failed)
        assert {error["error"] for error in failed if error} == {"ModelFailed"}
        assert "secret" not in str(failed)
    app = create_app(settings(gallery_folder, batch_timeout_s=0.5), model=model, gallery=gallery)
    async with running(app) as client:
        model.gate.clear()
        slow = await results_of(client, [photo(n) for n in range(20)])
        model.gate.set()
        assert {result["error"]["error"] for result in slow} == {"SearchTimeout"}
        assert state_of(app).searches.taken == 0


async def test_a_client_that_leaves_ends_all_searches_of_its_batch(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder), model=model, gallery=gallery)
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + photo(n) + b"\r\n"
        for n in range(30)
    )
    messages = [{"type": "http.request", "body": body + b"--b--\r\n", "more_body": False}]
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        return None

    scope = {
        "type": "http", "method": "POST", "path": "/v1/search/batch", "raw_path": b"/v1/search/batch",
        "query_string": b"", "http_version": "1.1",
        "headers": [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b")],
        "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    async with running(app) as client:
        encoded, begun = sum(model.encoded), model.begun
        model.gate.clear()
        asked = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
        await until(lambda: state_of(app).searches.taken == 8 and model.begun > begun)
        left.set()
        await asked
        assert state_of(app).searches.taken == 0
        model.gate.set()
        assert (await post(client)).status_code == 200
        assert sum(model.encoded) - encoded < 30, "photos that had not begun were never encoded"
