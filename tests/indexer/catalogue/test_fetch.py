"""Fetching against a real server on loopback."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.support.patience import PATIENCE_S, wait_until
from tests.support.shop import PixelEncoder, Shop, contents, photo
from tests.support.webserver import web_server
from threadmatch.indexer.catalogue.decoding.pool import Decoded, DecodePool, Same
from threadmatch.indexer.catalogue.fetch import Fetcher, FetchLimits, HostList, is_public
from threadmatch.indexer.catalogue.host_manners import WENT_WELL, HostHeaders, Manners, parse_header, retry_after
from threadmatch.indexer.catalogue.sources import ImageFolder, Loader
from threadmatch.model.errors import InvalidImageError

LIMITS = FetchLimits(total_s=PATIENCE_S, connect_s=PATIENCE_S, max_bytes=100_000)
HASTY = replace(LIMITS, total_s=1.0)
"""For servers that never end: on a busy machine an honest answer can take longer."""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    with web_server() as running:
        yield running


def fetched(address: str, *hosts: str, private: bool = False, limits: FetchLimits = LIMITS) -> bytes:
    with Fetcher(HostList(hosts, private=private), limits) as fetcher:
        return fetcher.fetch(address)


def refused(address: str, *hosts: str, private: bool = False, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(InvalidImageError) as caught:
        fetched(address, *hosts, private=private, limits=limits)
    return caught.value.reason


def test_a_photo_is_fetched_from_an_allowed_host(server: tuple[str, list[str]]) -> None:
    address, seen = server
    assert fetched(f"http://{address}/photo3?size=1", "127.0.0.1") == photo(3)
    assert seen[-1] == f"{address} /photo3?size=1"
    assert fetched(f"http://{address}/photo3", address) == photo(3)
    port = address.split(":")[1]
    assert fetched(f"http://localhost:{port}/photo3", "LOCALHOST") == photo(3)
    assert seen[-1] == f"localhost:{port} /photo3"


def test_a_redirect_is_followed_and_each_target_checked(server: tuple[str, list[str]]) -> None:
    address, seen = server
    port = address.split(":")[1]
    assert fetched(f"http://{address}/to:!photo4", "127.0.0.1") == photo(4)
    before = len(seen)
    forbidden = f"http://{address}/to:http:!!localhost:{port}!photo4"
    assert refused(forbidden, "127.0.0.1") == "url_host_not_allowed"
    assert len(seen) == before + 1  # the target was never asked
    assert fetched(forbidden, "127.0.0.1", "localhost") == photo(4)
    assert refused(f"http://{address}/to:file:!!!etc!passwd", "127.0.0.1") == "url_scheme"
    assert refused(f"http://{address}/to:http:!!me:secret@127.0.0.1:{port}!photo1", "127.0.0.1") == "url_credentials"
    assert refused(f"http://{address}/loop", "127.0.0.1") == "url_redirects"


@pytest.mark.parametrize(
    ("path", "reason", "limits"),
    [
        ("announced", "url_too_large", LIMITS),
        ("endless", "url_too_large", LIMITS),
        ("slow", "url_timeout", HASTY),
        ("slow-header", "url_timeout", HASTY),
        ("short", "url_failed", LIMITS),
        ("gzip", "url_failed", LIMITS),
        ("nothing", "url_status", LIMITS),
    ],
)
def test_a_server_that_misbehaves_costs_little(
    server: tuple[str, list[str]], path: str, reason: str, limits: FetchLimits
) -> None:
    """The slow ones would go on for ever."""
    assert refused(f"http://{server[0]}/{path}", "127.0.0.1", limits=limits) == reason


def test_a_busy_server_is_asked_again(server: tuple[str, list[str]]) -> None:
    assert fetched(f"http://{server[0]}/busy1", "127.0.0.1", limits=FetchLimits()) == photo(1)


@pytest.mark.parametrize(
    "encoding", ["", "identity", "Identity", "aws-chunked", "AWS-Chunked", "gzip", "aws-chunked,gzip", "GZIP", "x-gzip"]
)
def test_what_is_not_packed_or_packed_with_gzip_is_taken(server: tuple[str, list[str]], encoding: str) -> None:
    assert fetched(f"http://{server[0]}/as:{encoding}", "127.0.0.1") == photo(1)


def test_other_packing_and_what_grows_too_large_is_refused(server: tuple[str, list[str]]) -> None:
    assert refused(f"http://{server[0]}/as:br", "127.0.0.1") == "url_failed"
    assert refused(f"http://{server[0]}/bomb", "127.0.0.1") == "url_too_large"


def test_a_host_that_says_when_is_asked_again_then_and_not_more_often(server: tuple[str, list[str]]) -> None:
    address, seen = server
    started = time.monotonic()
    assert fetched(f"http://{address}/later1", "127.0.0.1", limits=FetchLimits()) == photo(1)
    assert time.monotonic() - started >= 3
    assert sum(line.endswith("/later1") for line in seen) == 4


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("", None)]
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds


async def test_a_host_is_slowed_down_and_comes_back_slowly() -> None:
    manners = Manners(8)
    manners.slow_down(0)
    manners.slow_down(0)
    assert manners.at_once == 2
    for _ in range(WENT_WELL):
        manners.went_well()
    assert manners.at_once == 3


def test_a_header_goes_to_its_host_alone(server: tuple[str, list[str]]) -> None:
    address, _ = server
    port = address.split(":")[1]
    headers = HostHeaders([parse_header("127.0.0.1 Authorization: Bearer secret", ["127.0.0.1", "localhost"])])
    hosts = HostList(["127.0.0.1", "localhost"])
    with Fetcher(hosts, LIMITS, headers=headers) as fetcher:
        assert fetcher.fetch(f"http://{address}/private") == photo(1)
        for other in (f"http://localhost:{port}/private", f"http://{address}/to:http:!!localhost:{port}!private"):
            with pytest.raises(InvalidImageError, match="answered 401"):
                fetcher.fetch(other)
    assert "secret" not in repr(headers)
    assert headers.of("127.0.0.1", secure=True)
    assert not HostHeaders([("img.example", "X-Key", "k")]).of("img.example", secure=False)


def test_a_header_is_read_with_its_host_or_for_the_only_one() -> None:
    assert parse_header("X-Key: a:b", ["img.example"]) == ("img.example", "X-Key", "a:b")
    assert parse_header("a.cdn.example X-Key: v", ["*.cdn.example", "b.example"]) == ("a.cdn.example", "X-Key", "v")


@pytest.mark.parametrize(
    ("text", "hosts", "says"),
    [
        ("X-Key: v", ["a.example", "b.example"], "for which host"),
        ("X-Key: v", ["*.cdn.example"], "for which host"),
        ("X-Key v", ["a.example"], "is given as"),
        ("X-Key:", ["a.example"], "is given as"),
        ("c.example X-Key: v", ["a.example"], "--allow-host c.example"),
        ("Host: other", ["a.example"], "cannot be set"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(text: str, hosts: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_header(text, hosts)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://other.example/a.jpg", "url_host_not_allowed"),
        ("http://sub.shop.example/a.jpg", "url_host_not_allowed"),
        ("http://shop.example.evil.example/a.jpg", "url_host_not_allowed"),
        ("http://127.0.0.1/a.jpg", "url_host_not_allowed"),
        ("http://me:secret@shop.example/a.jpg", "url_credentials"),
        ("ftp://shop.example/a.jpg", "url_scheme"),
        ("http:///a.jpg", "bad_url"),
        ("http://shop.example:99999/a.jpg", "bad_url"),
        ("http://[::1/a.jpg", "bad_url"),
        ("http://only-port.example:81/a.jpg", "url_host_not_allowed"),
    ],
)
def test_addresses_that_are_not_asked_at_all(address: str, reason: str) -> None:
    assert refused(address, "shop.example", "only-port.example:80") == reason


def test_hosts_match_whole_names_and_stars_match_subdomains() -> None:
    hosts = HostList(["Shop.Example", "*.cdn.example", "[2001:db8::1]", "p.example:8080"])
    for good in (
        "http://shop.example/a",
        "https://SHOP.example:444/a",
        "http://a.b.cdn.example/x",
        "http://[2001:db8::1]/x",
        "http://p.example:8080/",
        "http://shop.example./a",
    ):
        hosts.check(httpx.URL(good))
    with pytest.raises(InvalidImageError):
        hosts.check(httpx.URL("http://cdn.example/x"))


def test_a_name_that_leads_to_a_private_address_needs_permission() -> None:
    hosts = HostList(["shop.example", "10.0.0.5", "localhost"])
    with pytest.raises(InvalidImageError) as caught:
        hosts.usable("shop.example", ["127.0.0.1", "10.1.2.3"])
    assert caught.value.reason == "url_private_address"
    assert hosts.usable("shop.example", ["10.1.2.3", "93.184.216.34"]) == "93.184.216.34"
    assert hosts.usable("10.0.0.5", ["10.0.0.5"]) == "10.0.0.5"
    assert hosts.usable("localhost", ["127.0.0.1"]) == "127.0.0.1"
    assert HostList(["shop.example"], private=True).usable("shop.example", ["127.0.0.1"]) == "127.0.0.1"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1", "::1",
     "fe80::1%eth0",
     "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::"],
)  # fmt: skip
def test_private_addresses_in_all_their_forms(address: str) -> None:
    assert not is_public(address)


def test_public_addresses() -> None:
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")
    assert is_public("::ffff:93.184.216.34")


def test_a_catalogue_of_addresses(shop: Shop, server: tuple[str, list[str]]) -> None:
    address, _ = server
    names = ["photo0", "photo1", "nothing", "html", "empty", "announced", "photo2"]
    rows = [shop.row(n, image=f"http://{address}/{name}") for n, name in enumerate(names)]
    rows.append(shop.row(8, id="", image=f"http://{address}/photo8"))
    result = shop.ingest(rows, allow_hosts=("127.0.0.1",))
    assert result.rejects_file is not None
    rejected = [json.loads(line) for line in Path(result.rejects_file).read_text().splitlines()]
    assert [(reject["row"], reject["reason"]) for reject in rejected] == [
        (3, "url_status"),
        (4, "unsupported_format"),
        (5, "empty"),
        (6, "url_too_large"),
    ]
    assert set(contents(shop.open())) == {"item-0", "item-1", "item-6", f"http://{address}/photo8"}
    model = PixelEncoder()
    assert shop.ingest(rows, model, allow_hosts=("127.0.0.1",)).skipped == 4
    assert model.encoded == 0


@pytest.mark.parametrize("path", ["photo9", "slow", "slow-header"])
def test_an_ingestion_that_is_stopped_does_not_wait_for_a_server_that_hangs_or_drips(path: str, tmp_path: Path) -> None:
    pool = DecodePool(1, image_px=16)
    limits = FetchLimits(total_s=10 * PATIENCE_S)
    with web_server([5]) as (address, seen):
        hosts = HostList(["127.0.0.1"])
        loader = Loader(ImageFolder(tmp_path), pool, workers=1, hosts=hosts, fetching=limits)
        loads: list[Future[Decoded | Same]] = []

        def ingestion() -> None:
            with contextlib.suppress(KeyboardInterrupt), loader:
                loads.extend(loader.submit(f"http://{address}/{path}", box="", known=frozenset()) for _ in range(20))
                wait_until(lambda: len(seen) == limits.at_once, "as many as may be asked at a time are asked")
                raise KeyboardInterrupt

        ended = threading.Thread(target=ingestion, daemon=True)
        ended.start()
        wait_until(lambda: not ended.is_alive(), "the loader has ended although the server has not answered")
        assert len(loads) == 20
        for load in loads:
            assert load.cancelled() or getattr(load.exception(), "reason", "") == "stopped"
        assert len(seen) == limits.at_once


def test_a_name_that_is_looked_up_for_ever_keeps_nobody() -> None:
    asked, over = threading.Event(), threading.Event()

    def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        asked.set()
        over.wait()
        return []

    said: list[str] = []
    fetcher = Fetcher(HostList(["shop.example"]), LIMITS, resolve=resolve)

    def fetch() -> None:
        with pytest.raises(InvalidImageError) as caught:
            fetcher.fetch("http://shop.example/1.jpg")
        said.append(caught.value.reason)

    with fetcher:
        thread = threading.Thread(target=fetch)
        thread.start()
        assert asked.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert said == ["stopped"]
    with pytest.raises(InvalidImageError, match="stopped"):
        fetcher.fetch("http://shop.example/1.jpg")
    over.set()
