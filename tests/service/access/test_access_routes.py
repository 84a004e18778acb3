"""Every route with every kind of client, against a real server: no key, wrong, revoked, each role."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.support.patience import PATIENCE_S
from tests.support.processes import serving
from tests.support.serving import build_gallery, photo
from threadmatch.model.inference import Model
from threadmatch.service.access.keys import add_key, revoke_key
from threadmatch.service.access.roles import Access, Need, declared_need, every_route
from threadmatch.service.app import create_app
from threadmatch.service.config import Settings

ITEM = "plain"
APP = create_app(Settings(gallery=Path("gallery")))
SETTLED: dict[tuple[str, str], Need] = {
    ("GET", "/"): "nothing",
    ("GET", "/docs"): "nothing",
    ("GET", "/page/{name}"): "nothing",
    ("GET", "/openapi.json"): "nothing",
    ("GET", "/health/live"): "nothing",
    ("GET", "/health/ready"): "nothing",
    ("GET", "/v1/session"): "nothing",
    ("POST", "/v1/session"): "nothing",
    ("DELETE", "/v1/session"): "nothing",
    ("GET", "/metrics"): "metrics",
    ("POST", "/search"): "search",
    ("POST", "/v1/search"): "search",
    ("GET", "/v1/gallery"): "search",
    ("GET", "/v1/items/{item_id:path}"): "search",
    ("GET", "/v1/items/{item_id:path}/image"): "search",
}


def operations(app: FastAPI) -> list[tuple[str, str, Need | None]]:
    """(method, path, need) of every route."""
    return sorted(
        (method, str(getattr(route, "path", "")), declared_need(route))
        for route in every_route(app.routes)
        for method in getattr(route, "methods", None) or ["GET"]
        if method != "HEAD"
    )


def test_every_route_says_who_may_call_it() -> None:
    silent = [f"{method} {path}" for method, path, need in operations(APP) if need is None]
    assert not silent, f"no @needs(...) below the router line of: {', '.join(silent)}; see service/routes/__init__.py"


def test_the_open_routes_are_these_and_no_other() -> None:
    needs = {(method, path): need for method, path, need in operations(APP)}
    assert {one: needs[one] for one in SETTLED} == SETTLED
    opened = {one for one, need in needs.items() if need == "nothing"}
    assert opened - SETTLED.keys() <= {("GET", "/favicon.ico")}


def test_whatever_changes_something_needs_more_than_a_search_key() -> None:
    for method, path, need in operations(APP):
        if method in ("PUT", "DELETE", "PATCH") and path != "/v1/session":
            assert need in ("write", "admin"), f"{method} {path}"


@dataclass(frozen=True)
class Served:
    address: str
    file: Path
    keys: dict[str, str]
    log: list[str]

    def client(self, who: str | None) -> httpx.Client:
        headers = {} if who is None else {"Authorization": f"Bearer {self.keys[who]}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=PATIENCE_S)


ACCESS = {
    "search": Access(role="search", galleries=frozenset({"default"})),
    "write": Access(role="write", galleries=frozenset({"default"})),
    "admin": Access(role="admin", galleries=frozenset({"default"})),
    "metrics": Access(role="metrics", galleries=None),
    "admin of all": Access(role="admin", galleries=None),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model, tiny_model_folder: Path) -> Iterator[Served]:
    """A service with three galleries and keys of every kind."""
    root = tmp_path_factory.mktemp("access")
    folders = {
        name: build_gallery(root / name, tiny_model, [ITEM, f"{name}-1"], first_seed=seed)
        for name, seed in (("default", 10), ("women", 20), ("men", 30))
    }
    file = root / "keys.json"
    keys = {
        who: add_key(file, role=access.role or "search", galleries=tuple(access.galleries or "*"), label=who)[0]
        for who, access in ACCESS.items()
    }
    keys["women"] = add_key(file, role="write", galleries=("women",))[0]
    keys["women and men"] = add_key(file, role="search", galleries=("women", "men"))[0]
    keys["gone"], stored = add_key(file, role="admin", galleries=("*",))
    revoke_key(file, stored.id)
    keys["wrong"] = keys["search"][:-4] + "AAAA"
    keys["odd"] = "tm_zz"
    options = ("--gallery", str(folders["default"]), "--model", str(tiny_model_folder), "--device", "cpu")
    further = [f"--named-gallery={name}={folders[name]}" for name in ("women", "men")]
    # hundreds of wrong keys in a moment: what becomes of those has a test of its own
    with serving(*options, *further, "--keys", str(file), THREADMATCH_WRONG_KEYS="") as (log, address):
        yield Served(address, file, keys, log)


def ask(client: httpx.Client, method: str, path: str) -> httpx.Response:
    """A request that a client who may would get an answer to: of an item that is there, or of one that is not."""
    path = path.replace("{item_id:path}", ITEM if method == "GET" else "not-there").replace("{name}", "page.css")
    return client.request(method, re.sub(r"\{[^}]*\}", "x", path))


@pytest.mark.parametrize("who", [None, "wrong", "odd", "gone", *ACCESS])
def test_each_route_lets_through_whom_it_says(served: Served, who: str | None) -> None:
    with served.client(who) as client:
        for method, path, need in operations(APP):
            answer = ask(client, method, path)
            where = f"{who}: {method} {path}: {answer.status_code} {answer.text[:200]}"
            access = ACCESS.get(who or "")
            assert need is not None
            if need == "nothing":
                assert answer.status_code not in (403, 500), where
                assert answer.status_code != 401 or path == "/v1/session", where
            elif access is None:
                assert answer.status_code == 401, where
                assert answer.json()["error"] == "Unauthorized", where
                assert answer.headers["WWW-Authenticate"].startswith("Bearer"), where
            elif not access.may(need):
                assert answer.status_code == 403, where
                assert answer.json()["error"] == "Forbidden", where
            else:
                assert answer.status_code not in (401, 403, 500), where
        assert client.get("/nothing-here").status_code == (404 if who in ACCESS else 401)


def test_the_last_one_of_a_wrong_and_of_a_revoked_key_is_answered_alike(served: Served) -> None:
    bodies = set()
    for who in ("wrong", "gone", "odd"):
        with served.client(who) as client:
            answer = client.get("/v1/gallery").json()
            bodies.add((answer["error"], answer["detail"]))
    assert len(bodies) == 1


def test_a_gallery_of_others_is_answered_like_one_that_is_not_there(served: Served) -> None:
    with served.client("women") as client:
        for method, path in (
            ("GET", "/v1/gallery"), ("GET", f"/v1/items/{ITEM}"), ("GET", f"/v1/items/{ITEM}/image"),
            ("GET", "/v1/items/nobody"), ("GET", "/v1/items/nobody/image"),
        ):  # fmt: skip
            told = {}
            for name in ("men", "default", "nowhere"):
                answer = client.request(method, path, params={"gallery": name})
                assert answer.status_code == 404
                told[name] = {**answer.json(), "request_id": ""}
                told[name]["detail"] = told[name]["detail"].replace(f"'{name}'", "NAME")
            assert told["men"] == told["default"] == told["nowhere"]
            assert "men" not in told["men"]["detail"].replace("women", "")
        for name in ("men", "default", "nowhere"):
            sent = client.post("/v1/search", files={"image": photo(1)}, data={"gallery": name})
            assert (sent.status_code, sent.json()["error"]) == (404, "UnknownGallery")


def test_a_key_of_one_gallery_need_not_name_it_and_one_of_two_must(served: Served) -> None:
    with served.client("women") as client:
        answer = client.post("/v1/search", files={"image": photo(1)}).json()
        assert {match["id"] for match in answer["matches"]} == {ITEM, "women-1"}
        assert client.get(answer["matches"][0]["image_url"]).status_code == 200
        assert client.get("/v1/session").json() == {"keys_required": True, "role": "write", "galleries": ["women"]}
        assert client.get("/health/ready").json()["galleries"].keys() == {"women"}
    with served.client("women and men") as client:
        assert "women" in client.get("/v1/gallery").json()["detail"]
        assert client.get("/v1/gallery").status_code == 422
        assert client.get("/v1/gallery", params={"gallery": "men"}).json()["name"] == "men"


def test_readiness_tells_details_to_keys_only(served: Served) -> None:
    with served.client(None) as client:
        assert client.get("/health/ready").json() == {"status": "ready", "detail": None}
    with served.client("wrong") as client:
        assert client.get("/health/ready").json() == {"status": "ready", "detail": None}
    with served.client("admin of all") as client:
        assert client.get("/health/ready").json()["galleries"].keys() == {"default", "women", "men"}


def test_photos_are_kept_by_the_asking_browser_only(served: Served) -> None:
    with served.client("search") as client:
        headers = client.get(f"/v1/items/{ITEM}/image").headers
        assert headers["Cache-Control"].startswith("private")
        assert "Cookie" in headers["Vary"]


def test_the_other_header_takes_a_key_too_and_a_wrong_key_is_not_made_good_by_it(served: Served) -> None:
    with served.client(None) as client:
        assert client.get("/v1/gallery", headers={"X-API-Key": served.keys["search"]}).status_code == 200
        both = {"Authorization": f"Bearer {served.keys['wrong']}", "X-API-Key": served.keys["search"]}
        assert client.get("/v1/gallery", headers=both).status_code == 401
        for value in ("Bearer", "Basic abc", "Bearer \u00e4", f"bearer  {served.keys['search']}x"):
            assert client.get("/v1/gallery", headers={b"Authorization": value.encode()}).status_code == 401


def test_keys_count_and_end_without_a_restart(served: Served) -> None:
    key, stored = add_key(served.file, role="search", galleries=("default",))
    headers = {"Authorization": f"Bearer {key}"}
    with served.client(None) as client:
        assert client.get("/v1/gallery", headers=headers).status_code == 200
        revoke_key(served.file, stored.id)
        assert client.get("/v1/gallery", headers=headers).status_code == 401


def test_a_session_stands_for_its_key_and_ends_with_it(served: Served) -> None:
    key, stored = add_key(served.file, role="search", galleries=("women",))
    with served.client(None) as client:
        assert client.post("/v1/session", json={"key": served.keys["wrong"]}).status_code == 401
        assert client.get("/v1/session").json() == {"keys_required": True, "role": None, "galleries": []}
        begun = client.post("/v1/session", json={"key": key})
        assert begun.json() == {"keys_required": True, "role": "search", "galleries": ["women"]}
        cookie = begun.headers["Set-Cookie"]
        for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
            assert word in cookie
        assert key not in cookie
        assert key.split("_", 2)[2] not in cookie
        value = client.cookies["threadmatch-session"]
        assert client.get("/v1/session").json() == begun.json()
        assert client.get("/v1/gallery").json()["name"] == "women"
        _forgeries_are_refused(served, value)
        assert client.get("/v1/gallery", headers={"X-API-Key": value.split(".")[2]}).status_code == 401
        client.delete("/v1/session")
        assert "threadmatch-session" not in client.cookies
        assert client.get("/v1/gallery").status_code == 401
        client.cookies.set("threadmatch-session", value)
        assert client.get("/v1/gallery").status_code == 200
        revoke_key(served.file, stored.id)
        assert client.get("/v1/gallery").status_code == 401
        assert client.get("/v1/session").json()["role"] is None


def _forgeries_are_refused(served: Served, value: str) -> None:
    identity, until, token, signature = value.split(".")
    for forged in (
        f"{identity}.{int(until) + 9999}.{token}.{signature}", f"{identity}.{until}.{'0' * 64}.{signature}",
        f"{identity}.{until}.{token}.{'0' * 64}", f"{identity}.1.{token}.{signature}", "a.b.c.d", "...", value + "0",
        f"{identity}.{until}.{token}",
    ):  # fmt: skip
        answer = httpx.get(
            f"{served.address}/v1/gallery", headers={"Cookie": f"threadmatch-session={forged}"}, timeout=PATIENCE_S
        )
        assert answer.status_code == 401, forged


def test_a_key_never_stands_in_the_log_and_its_id_does(served: Served) -> None:
    with served.client("search") as client:
        client.get("/v1/gallery")
    assert any('"key": "' + served.keys["search"].split("_")[1] in line for line in served.log)
    for key in served.keys.values():
        assert not any(key in line for line in served.log)
