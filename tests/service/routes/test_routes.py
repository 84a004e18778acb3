"""Every route and every method; items with odd ids; pages; the OpenAPI file."""

from __future__ import annotations

import inspect
import io
import json
from importlib import import_module
from pkgutil import iter_modules
from urllib.parse import quote

import httpx
import pytest
from PIL import Image
from pydantic import TypeAdapter

import threadmatch.indexer.errors as indexer_errors
import threadmatch.model.errors as model_errors
import threadmatch.service.errors as service_errors
from tests.support.serving import is_error, settings
from threadmatch.service.access import session_forms
from threadmatch.service.app import create_app
from threadmatch.service.errors import STATUS, RequestError, ServiceError, error_name, status_of
from threadmatch.service.http import schemas
from threadmatch.service.http.schemas.gallery import GalleryAnswer, ItemAnswer
from threadmatch.service.http.schemas.health import ReadyAnswer
from threadmatch.service.http.schemas.matches import SEARCH_EXAMPLE, SearchAnswer
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.openapi import COMMITTED, description

GET_ROUTES = (
    "/", "/docs", "/page/page.js", "/openapi.json", "/metrics", "/health/live", "/health/ready", "/v1/gallery",
    "/v1/items", "/v1/items/plain", "/v1/items/plain/image",
)  # fmt: skip
POST_ROUTES = ("/search", "/v1/search", "/v1/search/batch", "/v1/feedback")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW")


def _classes(module: object) -> list[type[Exception]]:
    return [one for _, one in inspect.getmembers(module, inspect.isclass) if issubclass(one, Exception)]


def test_every_error_of_a_request_has_a_status() -> None:
    ours = {one for one in _classes(service_errors) if issubclass(one, RequestError)} - {RequestError}
    assert ours <= STATUS.keys()


def test_every_error_of_the_rooms_below_that_a_request_can_meet_has_a_status() -> None:
    for error in _classes(indexer_errors):
        assert 400 <= status_of(error.__new__(error)) < 600
    assert status_of(model_errors.InvalidImageError("x", reason="y")) == 422


def test_the_error_tree_in_the_docstring_is_the_whole_tree() -> None:
    for error in _classes(service_errors):
        if issubclass(error, ServiceError):
            assert error.__name__ in (service_errors.__doc__ or "")


def test_error_names_are_unlike_each_other() -> None:
    assert len({error_name(error) for error in STATUS}) == len(STATUS)


@pytest.mark.parametrize("path", [*GET_ROUTES, *POST_ROUTES, "/nothing", "/v1/items/", "/page/secret.py", "/search/"])
async def test_every_route_and_method_answers_well(client: httpx.AsyncClient, path: str) -> None:
    for method in METHODS:
        if path == "/v1/items/plain" and method in ("PUT", "PATCH", "DELETE"):
            continue  # they change the gallery that others share: see test_edits
        _answers_well(await client.request(method, path), path, method)


def _answers_well(response: httpx.Response, path: str, method: str) -> None:
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" in response.headers
    assert response.headers["X-Request-ID"]
    known = path in (*GET_ROUTES, *POST_ROUTES)
    if path in GET_ROUTES and method in ("GET", "HEAD"):
        assert response.status_code == 200, response.text
        assert (response.content == b"") == (method == "HEAD")
        assert int(response.headers["Content-Length"]) > 0
    elif known and method == "OPTIONS":
        assert response.status_code == 204
        allowed = {"GET", "HEAD", "OPTIONS"} if path in GET_ROUTES else {"POST", "OPTIONS"}
        allowed |= {"PUT", "PATCH", "DELETE"} if path == "/v1/items/plain" else set()
        assert set(response.headers["Allow"].split(", ")) == allowed
    elif path in POST_ROUTES and method == "POST":
        is_error(response, 415, "UnsupportedMediaType")
    else:
        assert response.status_code in ((405,) if known else (204, 404, 405))
        if method not in ("HEAD", "OPTIONS"):
            is_error(response, response.status_code, response.json()["error"])
        if known:
            assert "OPTIONS" in response.headers["Allow"]


async def test_a_request_id_is_kept_when_it_is_a_sound_one(client: httpx.AsyncClient) -> None:
    given = await client.get("/health/live", headers={"X-Request-ID": "shop-42.a"})
    assert given.headers["X-Request-ID"] == "shop-42.a"
    for unsound in ("x" * 200, "two words", "a\tb"):
        made = await client.get("/health/live", headers={"X-Request-ID": unsound})
        assert made.headers["X-Request-ID"] != unsound
        assert len(made.headers["X-Request-ID"]) == 32


async def test_every_item_and_photo_is_found_under_its_own_address(
    client: httpx.AsyncClient, item_ids: list[str]
) -> None:
    for number, identity in enumerate(item_ids):
        response = await client.get(f"/v1/items/{quote(identity, safe='')}")
        item = response.json()
        assert response.status_code == 200, (identity, item)
        ItemAnswer.model_validate(item)
        assert item["id"] == identity
        assert item["metadata"]["name"] == f"Garment {number}"
        image = await client.get(item["image_url"])
        assert image.headers["Content-Type"] == "image/jpeg"
        assert Image.open(io.BytesIO(image.content)).size == (120, 160)


async def test_an_unknown_item_is_404(client: httpx.AsyncClient) -> None:
    for path in ("/v1/items/nobody", "/v1/items/nobody/image", "/v1/items/plain/", "/v1/items/%00", "/v1/items/%ff"):
        is_error(await client.get(path), 404, "ItemNotFound")


async def test_a_photo_is_kept_by_caches_and_revalidated(client: httpx.AsyncClient) -> None:
    first = await client.get("/v1/items/plain/image")
    assert "max-age" in first.headers["Cache-Control"]
    again = await client.get("/v1/items/plain/image", headers={"If-None-Match": f'"other", {first.headers["ETag"]}'})
    assert again.status_code == 304
    assert again.content == b""
    assert (await client.get("/v1/items/item-01/image")).headers["ETag"] != first.headers["ETag"]


async def test_api_answers_are_not_kept(client: httpx.AsyncClient) -> None:
    for path in ("/v1/gallery", "/v1/items/plain", "/health/ready", "/metrics"):
        assert (await client.get(path)).headers["Cache-Control"] == "no-store"


async def test_the_gallery_says_what_it_is(client: httpx.AsyncClient) -> None:
    answer = GalleryAnswer.model_validate((await client.get("/v1/gallery")).json())
    assert (answer.generation, answer.items, answer.newer_refused) == ("000001", 40, None)
    assert {column.name: column.kind for column in answer.columns} == {"name": "string", "price": "integer"}
    assert [(column.values, column.min, column.max) for column in answer.columns] == [(None,) * 3, (None, 10, 49)]
    ready = ReadyAnswer.model_validate((await client.get("/health/ready")).json())
    assert ready.model == answer.model


async def test_pages_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs"):
        page = await client.get(path)
        assert page.headers["Content-Type"].startswith("text/html")
        policy = page.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "http://" not in page.text
        assert "https://" not in page.text
        assert "style=" not in page.text
        for name in ("page.css", "icon.svg"):
            assert f'"page/{name}"' in page.text, "from where the page is, so that it works below a proxy's path"
    assert (await client.get("/favicon.ico")).headers["Content-Type"] == "image/svg+xml"
    for name in ("page.css", "search.css", "page.js", "compare.js", "docs.css", "docs.js", "icon.svg", "index.html"):
        file = await client.get(f"/page/{name}")
        assert file.status_code == 200
        again = await client.get(f"/page/{name}", headers={"If-None-Match": file.headers["ETag"]})
        assert again.status_code == 304


def test_the_openapi_description_equals_the_committed_file() -> None:
    assert description() == COMMITTED.read_text("utf-8"), (
        "changed; `python -m threadmatch.service.openapi` writes it anew"
    )


def test_the_examples_are_valid_answers() -> None:
    SearchAnswer.model_validate(SEARCH_EXAMPLE)
    api = json.loads(description())
    shown = api["paths"]["/v1/search"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert shown == SEARCH_EXAMPLE
    modules = [import_module(found.name) for found in iter_modules(schemas.__path__, f"{schemas.__name__}.")]
    modules.append(session_forms)
    for name in api["components"]["schemas"]:
        (home,) = (
            module for module in modules if name in vars(module) and vars(module)[name].__module__ == module.__name__
        )
        fields = getattr(home, name).model_fields
        for info in fields.values():
            for example in info.examples or []:
                TypeAdapter(info.annotation).validate_python(example)


async def test_the_form_in_the_description_is_the_form_that_is_read(client: httpx.AsyncClient) -> None:
    api = (await client.get("/openapi.json")).json()
    form = api["paths"]["/v1/search"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"].keys() == {"image"} | SearchOptions.model_fields.keys()


def test_every_route_describes_its_errors(tmp_path_factory: pytest.TempPathFactory) -> None:
    api = create_app(settings(tmp_path_factory.getbasetemp())).openapi()
    for path, methods in api["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert operation["description"], path
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, (path, status)
