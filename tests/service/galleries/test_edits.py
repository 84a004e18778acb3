"""PUT, PATCH and DELETE /v1/items/{id}, and their list: found at once, safe to repeat, refused with a reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from tests.service.conftest import ODD_IDS
from tests.support.patience import PATIENCE_S
from tests.support.serving import WatchedModel, build_gallery, is_error, photo, post, running, settings
from tests.support.street import passer_by
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.upkeep import verify
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app

NEW_PHOTO = 500


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> Path:
    return build_gallery(tmp_path_factory.mktemp("edits"), tiny_model, [f"item-{n}" for n in range(6)])


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A gallery of its own for each test."""
    import shutil

    return Path(shutil.copytree(pristine, tmp_path / "gallery"))


@pytest_asyncio.fixture
async def shop(folder: Path, tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings(folder), model=tiny_model, gallery=Gallery.open(folder))
    async with running(app) as client:
        yield client


async def put(client: httpx.AsyncClient, item_id: str, seed: int, **fields: Any) -> httpx.Response:
    files = {"image": ("photo.jpg", photo(seed), "image/jpeg")}
    return await client.put(f"/v1/items/{quote(item_id, safe='')}", files=files, data=fields)


async def found(client: httpx.AsyncClient, seed: int, **fields: object) -> list[dict[str, Any]]:
    response = await post(client, photo(seed), **fields)
    assert response.status_code == 200, response.text
    matches: list[dict[str, Any]] = response.json()["matches"]
    return matches


async def test_a_garment_is_found_in_an_items_photo_where_asked_for_or_as_the_last_ingestion_did(
    tmp_path: Path, tiny_model: Model
) -> None:
    street = passer_by()
    (tmp_path / "worn.jpg").write_bytes(street)
    (tmp_path / "shop.csv").write_text("id,image,name\ncoat,worn.jpg,Wool coat\n")
    ingest(tmp_path / "shop.csv", tmp_path / "gallery", model=tiny_model, options=IngestOptions(workers=1, box="auto"))
    asked = settings(tmp_path / "gallery", detector=DEFAULT_PARSER)
    app = create_app(asked, model=tiny_model, gallery=Gallery.open(tmp_path / "gallery"))
    boxes = {}
    async with running(app) as client:
        for name, fields in {
            "as ingested": {"metadata": '{"name": "Wool coat"}'},
            "jeans": {"metadata": '{"name": "Slim jeans"}'},
            "auto": {"metadata": '{"name": "Wool coat"}', "box": "auto"},
            "none": {"metadata": '{"name": "Wool coat"}', "box": "none"},
        }.items():
            files = {"image": ("photo.jpg", street, "image/jpeg")}
            response = await client.put(f"/v1/items/{quote(name)}", files=files, data=fields)
            assert response.status_code == 201, response.text
            boxes[name] = response.json()["box"]
        ingested = (await client.get("/v1/items/coat")).json()
    assert boxes["as ingested"] == boxes["auto"] == ingested["box"]
    assert boxes["jeans"] != boxes["auto"]
    assert boxes["none"] == [0, 0, ingested["width"], ingested["height"]] != boxes["auto"]


async def test_where_no_ingestion_looked_for_garments_a_photo_is_taken_whole(shop: httpx.AsyncClient) -> None:
    files = {"image": ("photo.jpg", passer_by(), "image/jpeg")}
    whole = (await shop.put("/v1/items/a", files=files)).json()
    assert whole["box"] == [0, 0, whole["width"], whole["height"]]
    refused = await shop.put("/v1/items/a", files=files, data={"box": "auto"})
    assert "grabcut, is no parser" in is_error(refused, 422, "InvalidField")


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"price": "7"}, "send 7 without quotes"),
        ({"name": 3}, "name is a number here"),
        ({"price": [7]}, "price is a list here"),
        ({"price": 7.5, "color": "red", "new": 1}, ""),
        ({"price": None}, ""),
    ],
)
async def test_a_value_that_filters_will_pass_over_is_taken_with_a_warning(
    shop: httpx.AsyncClient, metadata: dict[str, Any], says: str
) -> None:
    response = await put(shop, "new", NEW_PHOTO, metadata=json.dumps(metadata))
    assert response.status_code == 201
    warnings = response.json()["warnings"]
    assert len(warnings) == bool(says)
    assert says in "".join(warnings)


@pytest.mark.parametrize("item_id", ["%2E", "%2E%2E"])
async def test_an_id_that_no_address_can_hold_is_refused(shop: httpx.AsyncClient, item_id: str) -> None:
    files = {"image": ("photo.jpg", photo(NEW_PHOTO), "image/jpeg")}
    response = await shop.put(f"/v1/items/{item_id}", files=files)
    assert "no part of an address" in is_error(response, 422, "InvalidField")


@pytest.mark.parametrize("item_id", ["👩\u200d🦰", "\u200fقميص"])
async def test_an_id_with_joiners_and_direction_marks_is_taken(shop: httpx.AsyncClient, item_id: str) -> None:
    assert (await put(shop, item_id, NEW_PHOTO)).status_code == 201
    assert (await shop.get(f"/v1/items/{quote(item_id, safe='')}")).json()["id"] == item_id


async def test_an_item_is_found_by_the_search_after_its_put(shop: httpx.AsyncClient) -> None:
    made = await put(shop, "new", NEW_PHOTO, product_id="p", metadata='{"color": "red", "price": 3}', box="5,5,100,150")
    assert made.status_code == 201
    item = made.json()
    assert (item["id"], item["product_id"], item["box"]) == ("new", "p", [5, 5, 100, 150])
    assert item["gallery"] == {"generation": "000001", "items": 7}
    assert (await shop.get("/v1/items/new")).json() == item
    matches = await found(shop, NEW_PHOTO, box="5,5,100,150", rerank=False)
    assert matches[0]["id"] == "new"
    assert matches[0]["distance"] < 1e-4
    assert [m["id"] for m in await found(shop, NEW_PHOTO, filter='color == "red" and price < 4')] == ["new"]
    assert (await shop.get(item["image_url"])).headers["Content-Type"] == "image/jpeg"
    explained = await found(shop, NEW_PHOTO, explain=True, filter='id == "new"')
    assert explained[0]["evidence"]
    about = (await shop.get("/v1/gallery")).json()
    assert about["items"] == 7

    replaced = await put(shop, "new", NEW_PHOTO + 1)
    assert replaced.status_code == 200
    assert replaced.json()["metadata"] == {}
    assert (await found(shop, NEW_PHOTO + 1, rerank=False))[0]["id"] == "new"
    assert len(await found(shop, NEW_PHOTO + 1)) == 7

    gone = await shop.delete("/v1/items/new")
    assert (gone.status_code, gone.json()) == (200, {"id": "new", "deleted": True})
    assert "new" not in {match["id"] for match in await found(shop, NEW_PHOTO + 1)}
    is_error(await shop.get("/v1/items/new"), 404, "ItemNotFound")


async def change(client: httpx.AsyncClient, item_id: str, body: object, **options: Any) -> httpx.Response:
    return await client.patch(f"/v1/items/{quote(item_id, safe='')}", json=body, **options)


async def test_metadata_is_changed_without_the_photo(shop: httpx.AsyncClient) -> None:
    await put(shop, "new", NEW_PHOTO, product_id="p", metadata='{"color": "red", "price": 3}')
    shown = (await shop.get("/v1/items/new/image")).content
    changed = await change(shop, "new", {"metadata": {"price": 4, "color": None, "size": "M"}})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["metadata"], changed.json()["product_id"]) == ({"price": 4, "size": "M"}, "p")
    assert (await shop.get("/v1/items/new")).json() == changed.json()
    assert (await shop.get("/v1/items/new/image")).content == shown
    assert [m["id"] for m in await found(shop, NEW_PHOTO, filter='price == 4 and size == "M"')] == ["new"]
    assert (await change(shop, "new", {"product_id": None})).json()["product_id"] is None
    merge_patch = {"Content-Type": "application/merge-patch+json"}
    response = await shop.patch("/v1/items/new", content=b'{"metadata": {"size": "L"}}', headers=merge_patch)
    assert response.json()["metadata"] == {"price": 4, "size": "L"}
    odd = await change(shop, "item-1", {"metadata": {"price": "7"}})
    assert "send 7 without quotes" in odd.json()["warnings"][0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "body"),
        (b'{"metadata": 3}', "metadata"),
        (b'{"price": 3}', "price"),
        (b'{"metadata": {"a": 1, "a": 2}}', "twice"),
        (b'{"metadata": {"a": NaN}}', "no JSON number"),
        (b'{"metadata": {"id": "x"}}', "places of their own"),
        (b'{"metadata": ' + b'{"a": ' * 40 + b"1" + b"}" * 40 + b"}", "deep"),
        (b"[" * 15_000, "deep"),
        (b'{"product_id": "a\\u0000b"}', "printed"),
        (b'{"metadata": {"a": "\\ud800"}}', "Unicode"),
        (b"\xff", "JSON"),
    ],
)
async def test_a_change_that_no_item_can_hold_is_refused(shop: httpx.AsyncClient, body: bytes, said: str) -> None:
    headers = {"Content-Type": "application/json"}
    refused = is_error(await shop.patch("/v1/items/item-1", content=body, headers=headers), 422, "InvalidField")
    assert said in refused
    assert (await shop.get("/v1/gallery")).json()["unfolded"] == 0


async def test_a_change_of_what_is_not_there_is_refused(shop: httpx.AsyncClient) -> None:
    is_error(await change(shop, "nosuch", {"metadata": {"a": 1}}), 404, "ItemNotFound")
    is_error(await change(shop, "item-1/image", {"metadata": {"a": 1}}), 404, "ItemNotFound")
    assert (await shop.patch("/v1/items/item-1/image", json={})).status_code == 405
    text = await shop.patch("/v1/items/item-1", content=b"{}", headers={"Content-Type": "text/plain"})
    is_error(text, 415, "UnsupportedMediaType")


async def test_items_are_listed_page_by_page(shop: httpx.AsyncClient) -> None:
    await put(shop, "new/1", NEW_PHOTO, metadata='{"color": "red"}')
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await shop.get("/v1/items", params={"limit": "2", **cursor})).json()
        ids += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert ids == [*(f"item-{n}" for n in range(6)), "new/1"]
    assert page["items"][-1]["image_url"] == "/v1/items/new%2F1/image"
    assert page["gallery"]["items"] == 7
    red = (await shop.get("/v1/items", params={"filter": 'id == "new/1"'})).json()["items"]
    assert [(item["id"], item["metadata"]) for item in red] == [("new/1", {"color": "red"})]
    is_error(await shop.get("/v1/items", params={"filter": "color ="}), 422, "Filter")
    assert "take `next`" in is_error(await shop.get("/v1/items", params={"cursor": "x"}), 422, "InvalidField")
    assert (await shop.get("/v1/items", params={"limit": "501"})).status_code == 422


async def test_the_same_request_again_changes_nothing(shop: httpx.AsyncClient, folder: Path) -> None:
    for expected in (201, 200, 200):
        assert (await put(shop, "a", 600, metadata='{"x": 1}')).status_code == expected
    for expected in (True, False, False):
        assert (await shop.delete("/v1/items/a")).json()["deleted"] is expected
    assert (await shop.get("/v1/gallery")).json()["unfolded"] == 2
    text = (await shop.get("/metrics")).text
    for outcome, count in {"created": 1, "unchanged": 2, "deleted": 1, "absent": 2}.items():
        assert f'threadmatch_gallery_edits_total{{gallery="default",outcome="{outcome}"}} {count}.0' in text
    assert verify(folder).problems == []


@pytest.mark.parametrize("item_id", [*ODD_IDS, "x" * 512, "a//b", "%2F", "a/../b", "ends/image"])
async def test_any_id_that_a_catalogue_may_hold_can_be_put(shop: httpx.AsyncClient, item_id: str) -> None:
    assert (await put(shop, item_id, 700)).status_code == 201
    assert (await shop.get(f"/v1/items/{quote(item_id, safe='')}")).json()["id"] == item_id
    assert (await found(shop, 700, rerank=False))[0]["id"] == item_id
    gone = await shop.delete(f"/v1/items/{quote(item_id, safe='')}")
    assert gone.json() == {"id": item_id, "deleted": True}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("x" * 513, {}, "1 to 512 printable"),
    ("bell\x07", {}, "printable"),
    (" space", {}, "no space at its ends"),
    ("a", {"metadata": "{"}, "metadata is not JSON"),
    ("a", {"metadata": "[1]"}, "no JSON object"),
    ("a", {"metadata": '{"x": NaN}'}, "NaN is no JSON number"),
    ("a", {"metadata": '{"x": 1, "x": 2}'}, "there twice"),
    ("a", {"metadata": '{"id": "b"}'}, "may not hold id"),
    ("a", {"metadata": '{"x": "\\ud800"}'}, "not valid Unicode"),
    ("a", {"metadata": '{"x": ' + "[" * 40 + "]" * 40 + "}"}, "nested"),
    ("a", {"metadata": '{"x": ' + "[" * 7000}, "metadata is not JSON"),
    ("a", {"box": "1,2,3"}, "box"),
    ("a", {"box": "500,500,600,600"}, "box"),
    ("a", {"meta": "{}"}, "did you mean 'metadata'"),
    ("a", {"product_id": "a\x07b"}, "product_id"),
]


@pytest.mark.parametrize(("item_id", "fields", "says"), REFUSED)
async def test_what_cannot_be_put_is_refused_with_a_reason(
    shop: httpx.AsyncClient, item_id: str, fields: dict[str, Any], says: str
) -> None:
    response = await put(shop, item_id, 800, **fields)
    assert response.status_code == 422, response.text
    assert says in response.json()["detail"]
    assert (await shop.get("/v1/gallery")).json()["unfolded"] == 0


async def test_bodies_and_addresses_that_are_none_are_refused(shop: httpx.AsyncClient) -> None:
    is_error(await shop.put("/v1/items/a", content=b"x"), 415, "UnsupportedMediaType")
    is_error(await shop.put("/v1/items/a", files={"image": ("a.jpg", b"no photo")}), 422, "InvalidImage")
    is_error(await shop.put("/v1/items/a", files={"photo": ("a.jpg", photo(1))}), 422, "InvalidField")
    is_error(await shop.put("/v1/items/%ff", files={"image": ("a.jpg", photo(1))}), 422, "InvalidField")
    is_error(await shop.delete("/v1/items/%00"), 422, "InvalidField")
    is_error(await shop.put("/v1/items/", files={"image": ("a.jpg", photo(1))}), 404, "NotFound")
    is_error(await shop.put("/v1/items/a?gallery=no", files={"image": ("a.jpg", photo(1))}), 404, "UnknownGallery")
    for method in ("PUT", "DELETE"):
        refused = await shop.request(method, "/v1/items/item-1/image")
        is_error(refused, 405, "MethodNotAllowed")
        assert set(refused.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    allowed = (await shop.options("/v1/items/item-1")).headers["Allow"]
    assert set(allowed.split(", ")) == {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}
    assert (await shop.get("/v1/gallery")).json()["items"] == 6


async def test_edits_share_batches_and_beyond_the_bound_are_told_to_wait(folder: Path, tiny_model: Model) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(folder, max_edits=4), model=model, gallery=Gallery.open(folder))
    async with running(app) as client:
        model.gate.clear()
        waiting = [asyncio.create_task(put(client, f"n-{n}", 900 + n)) for n in range(3)]  # three quarters of them
        while model.begun < 2 or app.state.service.edits.taken < 3:  # the start's own probe, then one of ours
            await asyncio.sleep(0.01)
        refused = await put(client, "one too many", 990)
        is_error(refused, 429, "Overloaded")
        assert refused.headers["Retry-After"]
        model.gate.set()
        assert [response.status_code for response in await asyncio.gather(*waiting)] == [201] * 3
        assert (await put(client, "one too many", 990)).status_code == 201


async def test_enough_changes_are_folded_in_the_background(folder: Path, tiny_model: Model) -> None:
    app = create_app(settings(folder, fold_edits=3), model=tiny_model, gallery=Gallery.open(folder))
    async with running(app) as client:
        for number in range(3):
            assert (await put(client, f"new-{number}", 1000 + number)).status_code == 201
        async with asyncio.timeout(PATIENCE_S):
            while (about := (await client.get("/v1/gallery")).json())["unfolded"]:
                assert len(await found(client, 1000)) == 9  # searches go on
                await asyncio.sleep(0.1)
        assert (about["generation"], about["items"]) == ("000002", 9)
        assert (await found(client, 1000, rerank=False))[0]["id"] == "new-0"
        async with asyncio.timeout(PATIENCE_S):
            while (
                'threadmatch_gallery_folds_total{gallery="default",outcome="folded"} 1.0'
                not in (await client.get("/metrics")).text
            ):
                await asyncio.sleep(0.05)
    assert verify(folder).problems == []


async def test_a_gallery_that_cannot_be_written_says_so_and_goes_on_searching(folder: Path, tiny_model: Model) -> None:
    app = create_app(settings(folder, max_unfolded=1), model=tiny_model, gallery=Gallery.open(folder))
    async with running(app) as client:
        assert (await put(client, "a", 1100)).status_code == 201
        refused = await put(client, "b", 1101)
        assert "gallery compact" in is_error(refused, 503, "Backlog")
        assert refused.headers["Retry-After"] == "60"
        assert len(await found(client, 1)) == 7
        body = json.loads(refused.text)
        assert str(folder) not in body["detail"]
