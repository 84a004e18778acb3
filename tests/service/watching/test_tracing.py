"""Traces as a collector receives them: a real OTLP receiver on loopback, the real SDK, the real app."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.checkout import ROOT
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
from threadmatch.service.config import load_settings

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True)
class Received:
    """A span as it came over the wire."""

    name: str
    trace: str
    identity: str
    parent: str
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """What a collector was sent."""

    address: str = ""
    spans: list[Received] = field(default_factory=list)

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _values(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    identity = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    failed = span.status.code == span.status.STATUS_CODE_ERROR
                    self.spans.append(Received(span.name, *identity, failed, _values(span.attributes), about))


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    received = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            received.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_search_is_a_trace_of_its_stages(
    collector: Collector, gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder, otlp_endpoint=collector.address), model=model, gallery=gallery)
    async with running(app) as client:
        begun = model.begun
        model.gate.clear()
        first = asyncio.create_task(post(client, photo(1)))
        await until(lambda: model.begun > begun)  # the first is with the model, so the others wait for it together
        others = [asyncio.create_task(post(client, photo(number))) for number in (2, 3, 4)]
        await until_waiting(app, 3)
        model.gate.set()
        assert {response.status_code for response in await asyncio.gather(first, *others)} == {200}
        response = await client.post(
            "/v1/search", files={"image": ("a.jpg", photo(5))}, data={"explain": "true", "candidates": "7"},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "mine"},
        )  # fmt: skip
        assert response.status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        is_error(await post(client, b"no photo"), 422, "InvalidImage")

    (asked,) = [span for span in collector.named("POST /v1/search") if span.trace == TRACE]
    assert asked.parent == PARENT
    assert asked.resource["service.name"] == "threadmatch"
    assert asked.attributes["http.response.status_code"] == 200
    assert asked.attributes["threadmatch.request_id"] == "mine"
    stages = {span.name: span for span in collector.spans if span.parent == asked.identity}
    assert stages.keys() == {"decode", "encode", "shortlist", "gather", "rerank", "pick", "explain"}
    assert {span.trace for span in stages.values()} == {TRACE}
    assert stages["rerank"].attributes["threadmatch.batch.size"] == 7
    assert stages["gather"].attributes["threadmatch.candidates"] == 7
    assert sorted(span.attributes["threadmatch.batch.size"] for span in collector.named("encode")) == [1, 1, 3, 3, 3]
    assert all(span.attributes["threadmatch.waited_ms"] >= 0 for span in collector.named("encode"))
    requests = collector.named("POST /v1/search")
    (refused,) = [span for span in requests if span.attributes["http.response.status_code"] == 422]
    assert not refused.failed, "a client's mistake is not ours"
    (tripped,) = [span for span in collector.spans if span.parent == refused.identity]
    assert (tripped.name, tripped.failed) == ("decode", True)
    assert len(requests) == 6
    assert not collector.named("GET /health/ready")


async def test_a_failure_marks_the_request(
    collector: Collector, gallery_folder: Path, gallery: Gallery, tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder, otlp_endpoint=collector.address), model=model, gallery=gallery)
    async with running(app) as client:
        model.fails["score_many"] = 1
        failed = await post(client)
        is_error(failed, 503, "ModelFailed")
    (request,) = collector.named("POST /v1/search")
    assert request.failed
    records = [record for record in caplog.records if record.message == "batch failed"]
    assert [record.requests for record in records] == [[failed.headers["X-Request-ID"]]]  # type: ignore[attr-defined]
    lines = [record for record in caplog.records if getattr(record, "path", "") == "/v1/search"]
    assert [record.trace_id for record in lines] == [request.trace]  # type: ignore[attr-defined]


async def test_a_collector_that_is_away_costs_no_answer(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder, otlp_endpoint="http://127.0.0.1:9"), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        assert (await post(client)).status_code == 200


def test_the_standard_variable_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4318")
    assert load_settings(gallery=Path("g")).otlp_endpoint == "http://standard:4318"
    monkeypatch.setenv("THREADMATCH_OTLP_ENDPOINT", "http://ours:4318")
    assert load_settings(gallery=Path("g")).otlp_endpoint == "http://ours:4318"


def test_without_an_endpoint_nothing_of_opentelemetrys_sdk_is_imported() -> None:
    code = """
import asyncio, sys
from threadmatch.service.watching.tracing import Tracing, span
async def main():
    async with Tracing("") as tracing:
        with tracing.request("GET", {}), span("decode") as one:
            one.set({"a": 1})
asyncio.run(main())
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "threadmatch.service.watching.tracing" in done.stdout
    loaded = {name for name in done.stdout.split() if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))}
    assert not loaded
    for path in (ROOT / "service").rglob("*.py"):
        assert path.name == "tracing.py" or "opentelemetry" not in path.read_text("utf-8"), "one module knows of it"
