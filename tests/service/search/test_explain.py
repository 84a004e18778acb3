"""Explanations over HTTP: pairs of regions in pixels, heat maps by address and inline, and when there are none."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.patience import until
from tests.support.serving import WatchedModel, build_gallery, is_error, photo, post, running, scene, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.images import Box
from threadmatch.model.inference import Model, load_model
from threadmatch.service.app import create_app
from threadmatch.service.search.heat_picture import overlay


def rgba(png: bytes) -> NDArray[np.uint8]:
    assert png.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGBA"))


async def explained(client: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    response = await post(client, photo(7), explain=True, **fields)
    assert response.status_code == httpx.codes.OK, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_each_match_names_its_pairs_before_and_after_reasoning(client: httpx.AsyncClient) -> None:
    answer = await explained(client, box="10,20,110,150", top_k=3)
    for match in answer["matches"]:
        for pairs in (match["evidence"], match["evidence_before"]):
            assert 1 <= len(pairs) <= 5
            for pair in pairs:
                x0, y0, x1, y1 = pair["query_box"]
                assert 10 <= x0 < x1 <= 110
                assert 20 <= y0 < y1 <= 150
                x0, y0, x1, y1 = pair["item_box"]
                assert 0 <= x0 < x1 <= 120
                assert 0 <= y0 < y1 <= 160
                assert 0 <= pair["weight"] <= 1
                assert 0 <= pair["edge"] <= 1
                assert pair["scale"] != "1x1"
        assert all(isinstance(pair["contribution"], float) for pair in match["evidence"])
        assert all(pair["contribution"] is None for pair in match["evidence_before"])
        assert match["evidence"] != match["evidence_before"]


@pytest.mark.parametrize("method", ["graph", "gradcam"])
async def test_the_links_lead_to_overlays_of_the_right_proportions(client: httpx.AsyncClient, method: str) -> None:
    answer = await explained(client, box="10,20,110,150", top_k=40)
    for match in answer["matches"]:
        if match["id"] not in ("a/b/image", "q?x=1#frag", "../up", "日本"):
            continue
        for side, size in (("query", (100, 130)), ("item", (120, 160))):
            response = await client.get(match["heatmaps"][side] + f"&method={method}")
            assert response.status_code == httpx.codes.OK, response.text
            assert response.headers["content-type"] == "image/png"
            assert "private" in response.headers["cache-control"]
            assert rgba(response.content).shape == (size[1], size[0], 4)


async def test_query_and_item_and_the_two_methods_differ(client: httpx.AsyncClient) -> None:
    answer = await explained(client, top_k=1)
    links = answer["matches"][0]["heatmaps"]
    seen = {(await client.get(link + f"&method={m}")).content for link in links.values() for m in ("graph", "gradcam")}
    assert len(seen) >= 3, "the tiny model is untrained, so that one of them may be all clear"


async def test_inline_heatmaps_are_the_linked_ones(client: httpx.AsyncClient) -> None:
    linked = await explained(client, top_k=12)
    inline = await explained(client, top_k=12, heatmaps="inline")
    for one, other in zip(linked["matches"][:10], inline["matches"][:10], strict=True):
        for side in ("query", "item"):
            head, _, data = other["heatmaps"][side].partition(",")
            assert head == "data:image/png;base64"
            by_link = rgba((await client.get(one["heatmaps"][side])).content).astype(int)
            assert (
                np.abs(rgba(base64.b64decode(data)).astype(int) - by_link).max() <= 16
            )  # a level, in a batch of another size
    assert inline["matches"][11]["heatmaps"]["query"].startswith("/v1/search/"), "beyond ten there are links"


async def test_a_match_is_explained_afterwards_as_it_would_have_been_with_the_search(client: httpx.AsyncClient) -> None:
    answer = await explained(client, top_k=12, box="10,20,110,150")
    plain = (await post(client, photo(7), top_k=12, box="10,20,110,150")).json()
    for match, other in zip(answer["matches"], plain["matches"], strict=True):
        assert "evidence" not in other
        address = f"/v1/search/{plain['request_id']}/matches/{quote(match['id'], safe='')}/explanation"
        told = (await client.get(address)).json()
        assert (told["id"], told["matcher"]) == (match["id"], "grnet")
        for name in ("evidence", "evidence_before"):
            # By weights: the photo is kept in half precision, and of pairs that weigh the same any may come first.
            weights = [pair["weight"] for pair in match[name]]
            assert [pair["weight"] for pair in told[name]] == pytest.approx(weights, abs=1e-3)
            assert all(10 <= pair["query_box"][0] < pair["query_box"][2] <= 110 for pair in told[name])
        assert (await client.get(told["heatmaps"]["item"])).status_code == httpx.codes.OK
    nobody = f"/v1/search/{plain['request_id']}/matches/nobody/explanation"
    assert "not among" in is_error(await client.get(nobody), 404, "SearchNotFound")


async def test_a_matcher_that_compares_items_explains_them_together_afterwards_too(tmp_path: Path) -> None:
    model = load_model(device="cpu")
    folder = build_gallery(tmp_path, model, [f"item-{n}" for n in range(6)])
    gallery = Gallery.open(folder, features_fingerprint=model.features_fingerprint)
    async with running(create_app(settings(folder), model=model, gallery=gallery)) as client:
        answer = await explained(client, depth=4, collapse_duplicates=False)
        for match in answer["matches"]:
            address = f"/v1/search/{answer['request_id']}/matches/{match['id']}/explanation"
            told = (await client.get(address)).json()
            assert told["matcher"] == "sparse"
            if match["stage"] == "sparse":
                given = [pair["contribution"] for pair in match["evidence"]]
                assert [pair["contribution"] for pair in told["evidence"]] == pytest.approx(given, abs=5e-3)
            else:
                assert told["evidence"], "as if it had been reached"


async def test_the_photo_of_a_search_comes_back_small_and_without_what_a_camera_wrote_into_it(
    client: httpx.AsyncClient,
) -> None:
    found = (await post(client, scene(orientation=6), box="auto")).json()
    for answer, size in (
        (found, (400, 300)),
        ((await post(client, scene(), box="0,0,100,200")).json(), (100, 200)),
    ):
        response = await client.get(f"/v1/search/{answer['request_id']}/photo")
        assert response.headers["content-type"] == "image/jpeg"
        assert "private" in response.headers["cache-control"]
        with Image.open(io.BytesIO(response.content)) as picture:
            assert (picture.size, len(picture.getexif())) == (size, 0), "upright, or the part that was sent as a box"
    is_error(await client.get("/v1/search/nobody/photo"), 404, "SearchNotFound")


async def test_a_plain_ground_can_be_left_clear(client: httpx.AsyncClient) -> None:
    painted = cleared = 0
    for match in (await explained(client, top_k=6))["matches"]:
        whole, clear = [
            rgba((await client.get(f"{match['heatmaps']['item']}&ground={ground}")).content)[..., 3].astype(int)
            for ground in ("painted", "clear")
        ]
        assert (clear <= whole).all()
        painted, cleared = painted + whole.sum(), cleared + clear.sum()
    assert 0 < cleared < painted


async def test_a_heatmap_is_for_matches_of_searches_that_are_remembered(client: httpx.AsyncClient) -> None:
    answer = await explained(client, top_k=2)
    search, shown = answer["request_id"], answer["matches"][0]["id"]
    is_error(await client.get(f"/v1/search/nobody/matches/{quote(shown, safe='')}/heatmap.png"), 404, "SearchNotFound")
    shown_ids = {match["id"] for match in answer["matches"]}
    other = next(f"item-{n:02}" for n in range(26) if f"item-{n:02}" not in shown_ids)
    told = is_error(await client.get(f"/v1/search/{search}/matches/{other}/heatmap.png"), 404, "SearchNotFound")
    assert "not among the 2 matches" in told
    for wrong in ("side=left", "method=guess"):
        address = f"/v1/search/{search}/matches/{quote(shown, safe='')}/heatmap.png?{wrong}"
        assert (await client.get(address)).status_code == httpx.codes.UNPROCESSABLE_ENTITY


async def test_heatmaps_without_an_explanation_are_refused(client: httpx.AsyncClient) -> None:
    assert "explain=true" in is_error(await post(client, heatmaps="inline"), 422, "InvalidField")


async def test_where_nothing_is_remembered_only_inline_heatmaps_exist(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder, recent_minutes=0), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        answer = await explained(client, top_k=1)
        assert "heatmaps" not in answer["matches"][0]
        address = f"/v1/search/{answer['request_id']}/matches/{answer['matches'][0]['id']}/heatmap.png"
        assert "THREADMATCH_RECENT_MINUTES" in is_error(await client.get(address), 404, "SearchNotFound")
        inline = await explained(client, top_k=1, heatmaps="inline")
        assert inline["matches"][0]["heatmaps"]["item"].startswith("data:image/png")


async def test_too_many_heatmaps_at_once_are_told_429(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder, max_searches=2), model=model, gallery=gallery)
    async with running(app) as client:
        link = (await explained(client, top_k=1))["matches"][0]["heatmaps"]["item"] + "&method=gradcam"
        model.gate.clear()
        asked = [asyncio.create_task(client.get(link)) for _ in range(6)]
        await until(lambda: sum(one.done() for one in asked) == 4)
        model.gate.set()
        statuses = [response.status_code for response in await asyncio.gather(*asked)]
        assert sorted(statuses) == [200, 200, 429, 429, 429, 429]


async def test_a_failed_heatmap_is_503_and_the_next_one_works(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    model = WatchedModel(tiny_model)
    async with running(create_app(settings(gallery_folder), model=model, gallery=gallery)) as client:
        link = (await explained(client, top_k=1))["matches"][0]["heatmaps"]["query"]
        model.fails["heat"] = 1
        assert "secret" not in is_error(await client.get(link), 503, "ModelFailed")
        assert (await client.get(link)).status_code == httpx.codes.OK


def test_an_overlay_is_hottest_where_the_map_is_and_clear_where_it_is_cold() -> None:
    heat = np.zeros((7, 7), np.float32)
    heat[1, 5] = 3
    picture = rgba(overlay(heat, (140, 210)))
    y, x = np.unravel_index(picture[..., 3].argmax(), picture.shape[:2])
    assert (y // 30, x // 20) == (1, 5)
    assert picture[200, 10, 3] == 0
    assert 150 < picture[..., 3].max() < 255, "the photo stays visible"


def test_an_overlay_is_clear_outside_the_item_s_box_and_where_nothing_differs() -> None:
    heat = np.arange(9, dtype=np.float32).reshape(3, 3)
    alpha = rgba(overlay(heat, (100, 50), inside=Box(0.5, 0.2, 0.9, 1.0)))[..., 3]
    rows, columns = np.nonzero(alpha)
    assert (rows.min(), columns.min()) >= (10, 50)
    assert rows.max() == 49
    assert columns.max() == 89
    assert not rgba(overlay(np.full((3, 3), 2, np.float32), (20, 20)))[..., 3].any()
    assert rgba(overlay(heat, (3, 1), inside=Box(0.999, 0.0, 1.0, 1.0))).shape == (1, 3, 4)
