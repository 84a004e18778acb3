"""The client against the real service, and against answers that no service of ours should give."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import ODD_IDS
from tests.support.patience import until
from tests.support.serving import (
    WatchedModel,
    photo,
    settings,
)
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.client import (
    AnswerNotUnderstoodError,
    AsyncClient,
    Client,
    RequestFailedError,
    Retries,
    ServiceUnreachableError,
    TryAgainLaterError,
)
from threadmatch.service.client.calls import SearchFields
from threadmatch.service.client.retries import retry_after_s
from threadmatch.service.client.transport import with_scheme
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.shared import state_of

AT_ONCE = Retries(first_s=0.0)


def test_every_call_is_answered_by_a_real_service(address: str, tmp_path: Path) -> None:
    path = tmp_path / "street.jpg"
    path.write_bytes(photo(3))
    with Client(address) as client:
        assert client.ready().status == "ready"
        assert client.gallery().items == 40
        answer = client.search(path, top_k=4, candidates=20, box=(0, 0, 100, 100.5), rerank=True, filter="price < 30")
        assert [match.rank for match in answer.matches] == [1, 2, 3, 4]
        assert answer.query.box == (0, 0, 100, 100.5)
        assert answer == client.search(
            path.read_bytes(), top_k=4, candidates=20, box="0,0,100,100.5", filter="price < 30"
        ).model_copy(update={"timings_ms": answer.timings_ms, "request_id": answer.request_id})
        assert all(match.metadata["price"] < 30 for match in answer.matches)
        cheap = [item.id for item in client.items("price < 30")]
        assert {match.id for match in answer.matches} <= set(cheap)
        assert len(list(client.items())) == 40


@pytest.mark.parametrize("item_id", ODD_IDS)
def test_an_id_may_hold_any_character(address: str, item_id: str) -> None:
    with Client(address) as client:
        assert client.item(item_id).id == item_id
        assert client.item_photo(item_id).startswith(b"\xff\xd8")


@pytest.mark.parametrize("item_id", [".", "..", "nosuch", "\x00"])
def test_an_id_that_is_not_there_says_so(address: str, item_id: str) -> None:
    with Client(address) as client, pytest.raises(RequestFailedError) as caught:
        client.item(item_id)
    assert (caught.value.status, caught.value.error) == (404, "ItemNotFound")


def test_an_error_carries_what_the_service_said(address: str) -> None:
    with Client(address) as client, pytest.raises(RequestFailedError) as caught:
        client.search(b"no photo")
    error = caught.value
    assert (error.status, error.error) == (422, "InvalidImage")
    assert "JPEG" in error.detail
    assert len(error.request_id) == 32
    assert error.request_id in str(error)


def test_no_service_is_named_with_its_address() -> None:
    with Client("http://127.0.0.1:9", retries=AT_ONCE) as client, pytest.raises(ServiceUnreachableError, match=":9"):
        client.ready()


async def test_overload_is_waited_out(gallery_folder: Path, gallery: Gallery, tiny_model: Model) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder, max_searches=1), model=model, gallery=gallery)
    patient = Retries(first_s=0.05, most=20, draw=lambda: 1.0)
    async with (
        app.router.lifespan_context(app),
        AsyncClient("http://127.0.0.1", transport=httpx.ASGITransport(app), retries=patient) as client,
        AsyncClient("http://127.0.0.1", transport=httpx.ASGITransport(app), retries=Retries(most=0)) as hasty,
    ):
        model.gate.clear()
        first = asyncio.create_task(client.search(photo(1)))
        await until(lambda: state_of(app).searches.taken == 1)
        with pytest.raises(TryAgainLaterError) as caught:
            await hasty.search(photo(2))
        assert (caught.value.status, caught.value.error, caught.value.retry_after_s) == (429, "Overloaded", 1.0)
        second = asyncio.create_task(client.search(photo(2)))
        await asyncio.sleep(0.1)
        model.gate.set()
        assert (await first).matches
        assert (await second).matches


class Scripted(BaseHTTPRequestHandler):
    """Gives the answers of a list in turn; None breaks the connection off."""

    answers: list[tuple[int, dict[str, str], bytes] | None]
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        answer = self.answers.pop(0)
        if answer is None:
            self.connection.close()
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def scripted() -> Iterator[tuple[type[Scripted], str]]:
    handler = type("Handler", (Scripted,), {"answers": [], "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


ITEM = (
    b'{"id": "a", "product_id": null, "width": 1, "height": 1, "box": [0, 0, 1, 1], "image_url": "/", "metadata": {},'
    b' "gallery": {"generation": "000001", "items": 1}, "of a later version": true}'
)


def test_refusals_and_broken_connections_are_tried_again_within_bounds(scripted: tuple[type[Scripted], str]) -> None:
    handler, address = scripted
    with Client(address, retries=AT_ONCE, key="secret") as client:
        handler.answers[:] = [(503, {"Retry-After": "0"}, b""), None, (429, {}, b""), (200, {}, ITEM)]
        assert client.item("a").id == "a"
        assert handler.seen == ["Bearer secret"] * 4
        handler.answers[:] = [(429, {}, b"")] * 5 + [(200, {}, ITEM)]
        with pytest.raises(TryAgainLaterError):
            client.item("a")
        assert len(handler.answers) == 1, "four repetitions, no more"
        handler.answers[:] = [(503, {"Retry-After": "3600"}, b""), (200, {}, ITEM)]
        with pytest.raises(TryAgainLaterError) as caught:
            client.item("a")
        assert caught.value.retry_after_s == 3600
        handler.answers[:] = [(503, {}, b""), (200, {}, ITEM)]
        with pytest.raises(TryAgainLaterError):
            client.ready()


def test_an_answer_of_something_else_is_no_result(scripted: tuple[type[Scripted], str]) -> None:
    handler, address = scripted
    with Client(address, retries=AT_ONCE) as client:
        handler.answers[:] = [(502, {}, b"<h1>Bad gateway</h1>")]
        with pytest.raises(RequestFailedError, match="Bad gateway") as caught:
            client.item("a")
        assert (caught.value.status, caught.value.error, caught.value.request_id) == (502, "", "")
        handler.answers[:] = [(200, {}, b'{"hello": "world"}')]
        with pytest.raises(AnswerNotUnderstoodError, match="another form"):
            client.item("a")
        handler.answers[:] = [(302, {"Location": "http://elsewhere.test/"}, b"")]
        with pytest.raises(RequestFailedError):
            client.item("a")


def test_pauses_grow_are_drawn_and_keep_to_their_bounds() -> None:
    longest = Retries(most=6, first_s=1.0, longest_s=4.0, total_s=100.0, draw=lambda: 1.0)
    pauses = [longest.pause_s(retry, asked_s=None, waited_s=0.0) for retry in range(7)]
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0, 4.0, None]
    assert Retries(draw=lambda: 0.0).pause_s(0, asked_s=7.0, waited_s=0.0) == 7.0, "never shorter than asked for"
    assert longest.pause_s(0, asked_s=99.5, waited_s=0.0) is None
    assert longest.pause_s(0, asked_s=None, waited_s=99.5) is None
    drawn = {Retries().pause_s(3, asked_s=None, waited_s=0.0) for _ in range(5)}
    assert len(drawn) == 5


def test_retry_after_is_a_number_or_a_date() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s({"Retry-After": "5"}) == 5.0
    assert retry_after_s({"Retry-After": "Thu, 01 Jan 2026 12:00:30 GMT"}, now=now) == 30.0
    assert retry_after_s({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, now=now) == 0.0
    assert retry_after_s({"Retry-After": "soon"}) is None
    assert retry_after_s({}) is None


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("localhost", "http://localhost"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("10.0.0.5:8000/shop", "http://10.0.0.5:8000/shop"),
        ("search.shop.example", "https://search.shop.example"),
        ("search.shop.example:443", "https://search.shop.example:443"),
        ("http://search.shop.example", "http://search.shop.example"),
    ],
)
def test_an_address_without_a_scheme_is_understood(given: str, understood: str) -> None:
    assert with_scheme(given) == understood


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, str]:
        own = {name: call for name, call in vars(kind).items() if not name.startswith("_") and "close" not in name}
        return {name: str(inspect.signature(call)).replace("AsyncIterator", "Iterator") for name, call in own.items()}

    assert calls(Client) == calls(AsyncClient)


def test_the_search_fields_are_the_services() -> None:
    assert typing.get_type_hints(SearchFields).keys() == SearchOptions.model_fields.keys() - {"gallery"}


def test_importing_the_client_imports_nothing_heavy() -> None:
    code = "import sys, threadmatch.service.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "faiss", "fastapi", "numpy", "PIL", "threadmatch.model", "threadmatch.indexer"} & set(
        done.stdout.split()
    )
