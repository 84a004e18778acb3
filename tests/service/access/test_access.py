"""Keys on disk, Host and Origin, CORS, rates, small bodies, and the service that refuses to be reached without keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from tests.support.serving import is_error, photo, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.access.keys import KeyRing, add_key, read_keys, revoke_key
from threadmatch.service.access.origins import check_host, check_origin, is_loopback
from threadmatch.service.access.roles import NOBODY, Access
from threadmatch.service.access.wiring import check_reach
from threadmatch.service.app import create_app
from threadmatch.service.cli import app as command_line
from threadmatch.service.config import Settings, load_settings
from threadmatch.service.errors import ForeignHostError, ForeignOriginError, KeysError, SettingsError, StartError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def make(gallery_folder: Path, gallery: Gallery, tiny_model: Model) -> Any:
    """Builds an app over the small gallery with other settings."""
    return lambda **changes: create_app(settings(gallery_folder, **changes), model=tiny_model, gallery=gallery)


@pytest_asyncio.fixture
async def client(make: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with running(make()) as client:
        yield client


# Keys on disk


def test_the_file_holds_no_key_and_is_for_its_owner_only(file: Path) -> None:
    key, stored = add_key(file, role="search", galleries=("default",), label="shop")
    text = file.read_text()
    assert key not in text
    assert key.split("_", 2)[2] not in text
    assert file.stat().st_mode & 0o777 == 0o600
    assert KeyRing(file).find(key) == stored


def test_keys_made_at_the_same_time_are_all_kept(file: Path) -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(add_key(file, role="search", galleries=("a",))[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring = KeyRing(file)
    assert len(made) == 8
    assert all(ring.find(key) for key in made)


def test_revoking_is_repeatable_and_stays_in_the_list(file: Path) -> None:
    key, stored = add_key(file, role="admin", galleries=("*",))
    ring = KeyRing(file)
    assert ring.find(key)
    first = revoke_key(file, stored.id)
    assert revoke_key(file, stored.id) == first
    assert ring.find(key) is None
    assert len(read_keys(file).keys) == 1
    with pytest.raises(KeysError, match="no key 'ffffffff'"):
        revoke_key(file, "ffffffff")


@pytest.mark.parametrize("spoil", ["{", '{"format": 2}', '{"keys": [{"id": "x"}]}', "\x00"])
async def test_a_damaged_file_lets_nobody_in_until_it_is_mended(file: Path, make: Any, spoil: str) -> None:
    key, _ = add_key(file, role="search", galleries=("default",))
    good = file.read_text()
    async with running(make(keys=file)) as client:
        client.headers["X-API-Key"] = key
        assert (await client.get("/v1/gallery")).status_code == 200
        file.write_text(spoil)
        assert "log" in is_error(await client.get("/v1/gallery"), 503, "NotReady")
        assert (await client.get("/health/live")).status_code == 200
        file.write_text(good)
        assert (await client.get("/v1/gallery")).status_code == 200
        file.unlink()
        is_error(await client.get("/v1/gallery"), 401, "Unauthorized")


async def test_a_file_that_others_may_change_lets_nobody_in_while_the_service_runs(file: Path, make: Any) -> None:
    key, _ = add_key(file, role="search", galleries=("default",))
    async with running(make(keys=file)) as client:
        client.headers["X-API-Key"] = key
        assert (await client.get("/v1/gallery")).status_code == 200
        file.chmod(0o666)
        is_error(await client.get("/v1/gallery"), 503, "NotReady")
        file.chmod(0o600)
        assert (await client.get("/v1/gallery")).status_code == 200


async def test_an_address_that_tries_wrong_keys_is_slowed_and_a_right_key_is_let_through(file: Path, make: Any) -> None:
    key, _ = add_key(file, role="search", galleries=("default",))
    async with running(make(keys=file, wrong_keys="5/minute")) as client:
        wrong = [await client.get("/v1/gallery", headers={"X-API-Key": f"{key[:-4]}{n:04}"}) for n in range(8)]
        assert [answer.status_code for answer in wrong] == [401] * 5 + [429] * 3
        assert int(wrong[-1].headers["Retry-After"]) >= 1
        assert (await client.get("/v1/gallery", headers={"X-API-Key": key})).status_code == 200


def test_a_file_that_others_may_change_is_refused(file: Path) -> None:
    add_key(file, role="search", galleries=("default",))
    file.chmod(0o666)
    with pytest.raises(KeysError, match="chmod 600"):
        check_reach(Settings(gallery=Path("g"), keys=file))


def test_the_commands_make_list_and_revoke(file: Path) -> None:
    run = CliRunner().invoke
    options = ["--keys", str(file), "--json"]
    made = run(command_line, ["keys", "add", "--role", "write", "--gallery", "women", "--label", "Ann", *options])
    assert made.exit_code == 0, made.output
    answer = json.loads(made.stdout)
    assert (answer["role"], answer["galleries"], answer["label"]) == ("write", ["women"], "Ann")
    assert KeyRing(file).find(answer["key"])
    listed = json.loads(run(command_line, ["keys", "list", *options]).stdout)
    assert [row["id"] for row in listed["keys"]] == [answer["id"]]
    assert not any("sha256" in name for name in listed["keys"][0])
    assert "Ann" in run(command_line, ["keys", "list", "--keys", str(file)]).stdout
    assert run(command_line, ["keys", "revoke", answer["id"], *options]).exit_code == 0
    assert KeyRing(file).find(answer["key"]) is None
    assert run(command_line, ["keys", "revoke", "nobody", *options]).exit_code == 1
    assert run(command_line, ["keys", "add", "--role", "king", *options]).exit_code == 2
    assert run(command_line, ["keys", "add", "--role", "search", "--gallery", "../x", *options]).exit_code == 2
    assert run(command_line, ["keys", "list", "--keys", str(file.with_name("none"))]).exit_code == 1


def test_an_admin_of_one_gallery_does_not_read_the_counters_of_all() -> None:
    assert not Access(role="admin", galleries=frozenset({"women"})).may("metrics")
    assert Access(role="admin", galleries=None).may("metrics")
    assert NOBODY.may("nothing")
    assert not NOBODY.may("search")


# Where a service may be reached


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "shop.example", "10.0.0.1"])
def test_without_keys_other_machines_are_not_served_unless_that_is_said(host: str, file: Path) -> None:
    with pytest.raises(StartError, match=r"refused to listen.*THREADMATCH_ALLOW_ANONYMOUS"):
        check_reach(Settings(gallery=Path("g"), host=host))
    check_reach(Settings(gallery=Path("g"), host=host, allow_anonymous=True))
    add_key(file, role="search", galleries=("default",))
    check_reach(Settings(gallery=Path("g"), host=host, keys=file))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    check_reach(Settings(gallery=Path("g"), host=host))


async def test_an_app_without_keys_that_another_server_opened_to_others_answers_nobody(make: Any) -> None:
    async with running(make()) as inside:
        answer = await inside.get("http://192.168.1.7:8000/v1/gallery", headers={"Host": "localhost"})
        assert "no keys" in is_error(answer, 401, "Unauthorized")
    async with running(make(allow_anonymous=True, allowed_hosts="192.168.1.7")) as inside:
        assert (await inside.get("http://192.168.1.7:8000/v1/gallery")).status_code == 200


async def test_a_name_that_is_made_to_point_here_is_refused(client: httpx.AsyncClient) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.evil.example"):
        is_error(await client.get("/v1/gallery", headers={"Host": host}), 400, "ForeignHost")
        assert (await client.get("/health/live", headers={"Host": host})).status_code == 200, "probes go by address"
    for host in ("localhost", "LOCALHOST:9", "127.0.0.1:1", "[::1]", "[::1]:8000"):
        assert (await client.get("/v1/gallery", headers={"Host": host})).status_code == 200


def test_hosts_and_origins() -> None:
    check_host("anything", ())
    check_host("a.shop.example:443", ("*.shop.example",))
    for foreign in ("shop.example", "ashop.example", "a.shop.example.evil"):
        with pytest.raises(ForeignHostError):
            check_host(foreign, ("*.shop.example",))
    check_origin("POST", "https://shop.example", "shop.example", ())
    check_origin("POST", None, "shop.example", ())
    check_origin("GET", "https://evil.example", "shop.example", ())
    check_origin("POST", "https://partner.example", "shop.example", ("https://partner.example",))
    for origin in ("null", "https://evil.example", "https://shop.example:444", "https://shop.example.evil", "", "x"):
        with pytest.raises(ForeignOriginError):
            check_origin("POST", origin, "shop.example", ())


async def test_another_sites_page_can_neither_send_nor_read(client: httpx.AsyncClient) -> None:
    foreign = {"Origin": "https://evil.example"}
    sent = await client.post("/v1/search", files={"image": photo(1)}, headers=foreign)
    is_error(sent, 403, "ForeignOrigin")
    read = await client.get("/v1/gallery", headers=foreign)
    assert not any(name.lower().startswith("access-control-allow") for name in read.headers)
    assert read.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    asked = {**foreign, "Access-Control-Request-Method": "POST"}
    assert not (await client.options("/v1/search", headers=asked)).headers.get("Access-Control-Allow-Origin")
    own = await client.post("/v1/search", files={"image": photo(1)}, headers={"Origin": "http://127.0.0.1"})
    assert own.status_code == 200


async def test_a_named_origin_may_ask_with_a_key(make: Any, file: Path) -> None:
    key, _ = add_key(file, role="search", galleries=("default",))
    shop = "https://shop.example"
    async with running(make(keys=file, cors_origins=shop)) as client:
        asked = {"Origin": shop, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        preflight = await client.options("/v1/search", headers=asked)
        assert preflight.headers["Access-Control-Allow-Origin"] == shop
        assert "Access-Control-Allow-Credentials" not in preflight.headers
        headers = {"Origin": shop, "X-API-Key": key}
        sent = await client.post("/v1/search", files={"image": photo(1)}, headers=headers)
        assert (sent.status_code, sent.headers["Access-Control-Allow-Origin"]) == (200, shop)
        other = await client.get("/v1/gallery", headers={**headers, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers
        assert (await client.options("/v1/search", headers={**asked, "Origin": "https://a.b"})).status_code == 400


@pytest.mark.parametrize("value", ["*", "https://shop.example/", "null"])
def test_an_origin_that_opens_to_all_or_never_matches_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("THREADMATCH_CORS_ORIGINS", value)
    with pytest.raises(SettingsError, match="name each one"):
        load_settings(gallery=Path("g"))


# Rates and sizes


async def test_a_key_that_asks_too_often_is_told_when_it_may_again(make: Any, file: Path) -> None:
    first, second = (add_key(file, role="search", galleries=("default",))[0] for _ in range(2))
    async with running(make(keys=file, rate_limit="3/2 seconds")) as client:
        let_through = 0  # three, and more where a busy machine takes two seconds for them
        while (refused := await client.get("/v1/gallery", headers={"X-API-Key": first})).status_code == 200:
            let_through += 1
        assert let_through >= 3
        assert "wait" in is_error(refused, 429, "RateLimited")
        wait_s = int(refused.headers["Retry-After"])
        assert 1 <= wait_s <= 2
        assert (await client.get("/v1/gallery", headers={"X-API-Key": second})).status_code == 200
        assert (await client.get("/health/ready", headers={"X-API-Key": first})).status_code == 200
        time.sleep(wait_s)
        assert (await client.get("/v1/gallery", headers={"X-API-Key": first})).status_code == 200


@pytest.mark.parametrize("rate", ["fast", "0/minute", "-1/minute", "5"])
def test_a_rate_that_cannot_be_read_stops_the_start(rate: str) -> None:
    with pytest.raises(SettingsError, match="THREADMATCH_RATE_LIMIT"):
        create_app(Settings(gallery=Path("g"), rate_limit=rate))


async def test_a_body_that_is_not_a_form_is_bounded(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    headers = {"Content-Type": "application/json"}
    for content in (b"x" * 300_000, endless()):
        is_error(await client.post("/v1/session", content=content, headers=headers), 413, "TooLarge")
    for content in (b"", b"[]", b"{", b'{"key": 1}', b'{"key": "' + b"x" * 300 + b'"}', b'{"kye": "x"}'):
        is_error(await client.post("/v1/session", content=content, headers=headers), 422, "InvalidField")


async def test_a_service_without_keys_says_so(client: httpx.AsyncClient) -> None:
    everything = {"keys_required": False, "role": "admin", "galleries": ["default"]}
    assert (await client.get("/v1/session")).json() == everything
    signed = await client.post("/v1/session", json={"key": "whatever"})
    assert signed.json() == everything
    assert "Set-Cookie" not in signed.headers


async def test_over_https_the_cookie_is_bound_to_it(make: Any, file: Path) -> None:
    key, _ = add_key(file, role="search", galleries=("default",))
    async with running(make(keys=file)) as client:
        client.base_url = httpx.URL("https://shop.example")
        cookie = (await client.post("/v1/session", json={"key": key})).headers["Set-Cookie"]
        assert cookie.startswith("__Host-threadmatch-session=")
        assert "Secure" in cookie
        assert (await client.get("/v1/gallery")).status_code == 200


async def test_the_description_tells_what_a_route_needs(make: Any, file: Path) -> None:
    for keys, without in ((None, [{}]), (file, [])):
        async with running(make(keys=keys)) as client:
            api = (await client.get("/openapi.json")).json()
            search = api["paths"]["/v1/search"]["post"]
            assert search["x-needs"] == "search"
            assert search["security"] == [*without, {"bearer": []}, {"header": []}, {"session": []}]
            assert {"400", "401", "403", "429"} <= search["responses"].keys()
            for methods in api["paths"].values():
                for operation in methods.values():
                    assert ("security" in operation) == ("x-needs" in operation)
