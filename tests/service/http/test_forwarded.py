"""Behind a proxy: a prefix, another name, and whom to believe; and real proxies in front of a real service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.patience import PATIENCE_S
from tests.support.processes import serving
from tests.support.proxies import PROXIES, in_front, program_of
from tests.support.serving import is_error, photo, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.config import load_settings
from threadmatch.service.errors import SettingsError
from threadmatch.service.http.forwarded import OWN, is_prefix

SHOP = {"X-Forwarded-Prefix": "/shop"}


@contextmanager
def trusting(monkeypatch: pytest.MonkeyPatch, hops: str) -> Iterator[None]:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", hops)
    yield


async def search(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> httpx.Response:
    return await client.post(path, files={"image": ("a.jpg", photo())}, data={"explain": "true"}, headers=headers)


def links_of(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    first = answer.json()["matches"][0]
    return {first["image_url"], *first["heatmaps"].values()}


@pytest.mark.parametrize("path", ["/v1/search", "/shop/v1/search"])
async def test_a_trusted_hop_s_prefix_stands_before_every_link_whether_it_was_taken_off_or_not(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, path: str
) -> None:
    app = create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        links = links_of(await search(client, path, SHOP))
        assert all(link.startswith("/shop/v1/") for link in links), links
        for link in links:
            assert (await client.get(link, headers=SHOP)).status_code == 200
        api = await client.get("/openapi.json", headers=SHOP)
        assert api.json()["servers"][0]["url"] == "/shop"
        assert "servers" not in (await client.get("/openapi.json")).json(), "nothing is left of it"
        plain = links_of(await search(client, "/v1/search", {}))
        assert all(link.startswith("/v1/") for link in plain)


@pytest.mark.parametrize("said", ["//evil.example", "https://evil.example", "/a/../b", "/v1", "/a b", "/" + "a" * 999])
async def test_what_is_no_prefix_changes_nothing(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, said: str
) -> None:
    app = create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        links = links_of(await search(client, "/v1/search", {"X-Forwarded-Prefix": said}))
    assert all(link.startswith("/v1/") for link in links)


async def test_a_hop_that_is_not_trusted_is_not_believed(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trusting(monkeypatch, "10.0.0.1"):
        app = create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        assert all(link.startswith("/v1/") for link in links_of(await search(client, "/v1/search", SHOP)))
        headers = {"Origin": "https://a.example", "X-Forwarded-Host": "a.example"}
        assert (await search(client, "/v1/search", headers)).status_code == 403


async def test_a_set_prefix_counts_whatever_a_header_says(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder, root_path="/a/b/"), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        for path in ("/v1/search", "/a/b/v1/search"):
            assert all(link.startswith("/a/b/v1/") for link in links_of(await search(client, path, SHOP)))
        there = await client.get("/a/b", follow_redirects=False)
        assert (there.status_code, there.headers["location"]) == (308, "/a/b/")
        page = await client.get("/a/b/")
        assert page.status_code == 200
        for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert (await client.get(str(httpx.URL("http://127.0.0.1/a/b/").join(address)))).status_code == 200, address
        assert (await client.get("/a/b/health/live")).status_code == 200


async def test_a_rewritten_host_is_made_good_by_what_a_trusted_hop_says_for_the_page_and_not_for_strangers_names(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)
    page = {"Origin": "https://shop.example"}
    async with running(app) as client:
        refused = await search(client, "/v1/search", page)
        assert "X-Forwarded-Host" in is_error(refused, 403, "ForeignOrigin")
        good = await search(client, "/v1/search", {**page, "X-Forwarded-Host": "shop.example"})
        assert good.status_code == 200
        rebound = {"Host": "evil.example", "Origin": "http://evil.example", "X-Forwarded-Host": "localhost"}
        assert (await search(client, "/v1/search", rebound)).status_code in (400, 403, 421)


def test_a_prefix_that_could_not_be_told_from_our_own_paths_is_refused(tmp_path: Path) -> None:
    for path in ("/v1/x", "shop", "/a//b", "/docs"):
        with pytest.raises(SettingsError, match="THREADMATCH_ROOT_PATH"):
            load_settings(gallery=tmp_path, root_path=path)


def test_every_first_part_of_our_own_paths_is_known(gallery_folder: Path) -> None:
    routes = create_app(settings(gallery_folder)).openapi()["paths"]
    parts = {path.split("/")[1] for path in routes}
    assert parts <= OWN
    assert not any(is_prefix(f"/{part}") for part in OWN)


@pytest.mark.parametrize("name", PROXIES)
def test_a_real_proxy_in_front_shows_the_service_below_a_prefix(
    name: str, gallery_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    if program_of(name) is None:
        pytest.skip(f"{name} is not installed ({PROXIES[name].source})")
    started = serving("--gallery", str(gallery_folder), "--model", str(tiny_model_folder), "--device", "cpu")
    with (
        started as (_, address),
        in_front(name, tmp_path, address) as front,
        httpx.Client(base_url=front, timeout=PATIENCE_S) as client,
    ):
        assert client.get("/shop", follow_redirects=False).headers["location"].endswith("/shop/")
        page = client.get("/shop/")
        assert page.status_code == 200
        for address_ in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert client.get(str(page.url.join(address_))).status_code == 200, address_
        answer = client.post(
            "/shop/v1/search", files={"image": ("a.jpg", photo())}, data={"explain": "true"}, headers={"Origin": front}
        )
        links = links_of(answer)
        assert all(link.startswith("/shop/v1/") for link in links)
        assert all(client.get(link).status_code == 200 for link in links)
        claimed = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-For": "1.2.3.4"}
        item = answer.json()["matches"][0]["id"]
        told = client.get(f"/shop/v1/items/{item}", headers=claimed)
        assert told.json()["image_url"].startswith("/shop/v1/"), "what the asker says of it is replaced"
        assert [client.get(path).status_code for path in ("/metrics", "/shop/metrics", "/other")] == [404, 404, 404]
