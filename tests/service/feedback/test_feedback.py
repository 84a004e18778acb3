"""POST /v1/feedback and what is made of it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from PIL import Image
from typer.testing import CliRunner

from tests.support.disks import fill, mounted
from tests.support.serving import is_error, photo, post, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.data.pairs import read_labelled
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.cli import app as cli
from threadmatch.service.errors import FeedbackStoreError, StartError
from threadmatch.service.feedback.verdicts import FILE, FeedbackReader, FeedbackStore
from threadmatch.service.search.recent_searches import RecentSearch
from threadmatch.service.shared import state_of


@pytest_asyncio.fixture
async def client(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings(gallery_folder, feedback=str(tmp_path / "said")), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        yield client


async def say(client: httpx.AsyncClient, request_id: str, item_id: str, verdict: str) -> httpx.Response:
    body = {"request_id": request_id, "item_id": item_id, "verdict": verdict}
    return await client.post("/v1/feedback", json=body)


async def searched(client: httpx.AsyncClient, seed: int = 5, **fields: object) -> dict[str, Any]:
    answer: dict[str, Any] = (await post(client, photo(seed), **fields)).json()
    return answer


async def test_a_verdict_is_on_disk_when_it_is_acknowledged(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await searched(client)
    said = await say(client, answer["request_id"], answer["matches"][0]["id"], "match")
    assert said.status_code == 202
    assert said.json()["replaced"] is False
    folder = tmp_path / "said"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    reader = FeedbackReader(folder)
    (verdict,) = reader.verdicts("default")
    assert (verdict.item_id, verdict.decision) == (answer["matches"][0]["id"], "match")
    crop = Image.open(io.BytesIO(reader.crop("default", answer["request_id"])))
    assert crop.size == (120, 160)


async def test_a_later_verdict_counts_and_the_earlier_one_stays(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await searched(client)
    request_id, item_id = answer["request_id"], answer["matches"][0]["id"]
    replaced = [(await say(client, request_id, item_id, verdict)).json()["replaced"] for verdict in
                ("match", "no_match", "no_match")]  # fmt: skip
    assert replaced == [False, True, True]
    await say(client, request_id, answer["matches"][1]["id"], "match")
    reader = FeedbackReader(tmp_path / "said")
    assert [verdict.decision for verdict in reader.verdicts("default")] == ["no_match", "match"]
    assert reader.history == 4


async def test_the_photos_of_a_batch_are_judged_one_by_one(client: httpx.AsyncClient, tmp_path: Path) -> None:
    files = [("images", (f"{n}.jpg", photo(n), "image/jpeg")) for n in range(3)]
    results = (await client.post("/v1/search/batch", files=files)).json()["results"]
    for result in results:
        answer = result["answer"]
        assert (await say(client, answer["request_id"], answer["matches"][0]["id"], "match")).status_code == 202
    assert len(FeedbackReader(tmp_path / "said").verdicts("default")) == 3


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"request_id": "never-was", "item_id": "plain", "verdict": "match"}, 404, "SearchNotFound"),
        ({"request_id": "REAL", "item_id": "nobody", "verdict": "match"}, 404, "ItemNotFound"),
        ({"request_id": "REAL", "item_id": "plain", "verdict": "maybe"}, 422, "InvalidField"),
        ({"request_id": "REAL", "item_id": "plain"}, 422, "InvalidField"),
        ({"request_id": "REAL", "item_id": "", "verdict": "match"}, 422, "InvalidField"),
        ({"request_id": "x" * 500, "item_id": "plain", "verdict": "match"}, 422, "InvalidField"),
        ({"request_id": ["a"], "item_id": "plain", "verdict": "match"}, 422, "InvalidField"),
        ({"request_id": "REAL", "item_id": "plain", "verdict": "match", "extra": 1}, 422, "InvalidField"),
        ({"request_id": "REAL", "item_id": "plain", "verdict": "match", "gallery": "no"}, 404, "UnknownGallery"),
        ([], 422, "InvalidField"),
    ],
)
async def test_what_cannot_be_kept_says_why(client: httpx.AsyncClient, body: Any, status: int, error: str) -> None:
    if isinstance(body, dict) and body["request_id"] == "REAL":
        body = {**body, "request_id": (await searched(client))["request_id"]}
    is_error(await client.post("/v1/feedback", json=body), status, error)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b'{"request_id": "\\ud800"}', b"\xff", b"[" * 9000])
async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    is_error(await client.post("/v1/feedback", content=body, headers=headers), 422, "InvalidField")


async def test_a_body_of_another_kind_or_size_is_refused(client: httpx.AsyncClient) -> None:
    is_error(await client.post("/v1/feedback", data={"verdict": "match"}), 415, "UnsupportedMediaType")
    is_error(await client.post("/v1/feedback", json={"request_id": "x" * 20_000}), 413, "TooLarge")


async def test_a_service_without_feedback_says_how_to_turn_it_on(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    async with running(create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)) as client:
        answer = await searched(client)
        refused = await say(client, answer["request_id"], answer["matches"][0]["id"], "match")
        assert "THREADMATCH_FEEDBACK" in is_error(refused, 404, "FeedbackOff")


async def test_a_service_that_forgets_its_searches_takes_no_feedback(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, tmp_path: Path
) -> None:
    app = create_app(
        settings(gallery_folder, feedback=str(tmp_path / "said"), recent_minutes=0), model=tiny_model, gallery=gallery
    )
    with pytest.raises(StartError, match="THREADMATCH_RECENT_MINUTES"):
        async with running(app):
            pass


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(StartError, match="chmod 700"):
        FeedbackStore(tmp_path / "open", max_bytes=2**20)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StartError, match="THREADMATCH_FEEDBACK"):
        FeedbackStore(tmp_path / "file", max_bytes=2**20)


def _search(number: int, crop: bytes = b"jpeg") -> RecentSearch:
    import numpy as np

    from threadmatch.model.images import Box

    return RecentSearch(
        gallery="default", request_id=f"r{number}", crop=crop, width=1, height=1, box=Box(0, 0, 1, 1),
        features={"regions": np.zeros((1, 1), np.float16)}, matcher="grnet",
        item_ids=(), generation="000001", model="m",
    )  # fmt: skip


async def test_several_processes_write_to_one_folder_and_none_is_lost(tmp_path: Path) -> None:
    stores = [FeedbackStore(tmp_path / "said", max_bytes=2**24) for _ in range(3)]
    await asyncio.gather(*(stores[n % 3].add(_search(n), f"item-{n % 7}", "match") for n in range(60)))
    for store in stores:
        store.close()
    assert len(FeedbackReader(tmp_path / "said").verdicts("default")) == 60


async def test_on_a_full_disk_searches_are_answered_and_what_cannot_be_kept_says_so(
    gallery_folder: Path, tiny_model: Model, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", size_kib=6144) as disk, contextlib.ExitStack() as elsewhere:
        folder = disk / "gallery"
        shutil.copytree(gallery_folder, folder)
        said = tmp_path / "said"

        async def asked(feedback: Path) -> tuple[dict[str, Any], httpx.Response]:
            given = settings(folder, recent=str(disk / "recent"), feedback=str(feedback))
            app = create_app(given, model=tiny_model, gallery=elsewhere.enter_context(opened(folder)))
            async with running(app) as client:
                answer = await searched(client, explain=True)
                return answer, await say(client, answer["request_id"], answer["matches"][0]["id"], "match")

        ballast = fill(disk)
        answer, taken = await asked(said)
        assert answer["matches"][0]["evidence"]
        assert taken.status_code == 202, "the verdicts' own disk has room"
        assert [verdict.decision for verdict in FeedbackReader(said).verdicts("default")] == ["match"]
        answer, refused = await asked(disk / "said")
        assert answer["matches"]
        assert "disk is full" in is_error(refused, 503, "FeedbackStore")
        ballast.unlink()
        assert (await asked(disk / "said"))[1].status_code == 202


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Gallery]:
    gallery = Gallery.open(folder)
    try:
        yield gallery
    finally:
        gallery.close()


async def test_a_full_store_keeps_what_it_has_and_says_so(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "said", max_bytes=200_000)
    kept, refused = 0, set()
    for number in range(50):
        try:
            await store.add(_search(number, b"x" * 20_000), "item", "match")
            kept += 1
        except FeedbackStoreError as error:
            refused.add(str(error))
    assert 3 < kept < 12
    assert all("full" in reason for reason in refused)
    store.close()
    assert len(FeedbackReader(tmp_path / "said").verdicts("default")) == kept
    assert sqlite3.connect(tmp_path / "said" / FILE).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


async def test_verdicts_become_pairs_and_hard_negatives(
    client: httpx.AsyncClient, gallery_folder: Path, gallery: Gallery, tmp_path: Path
) -> None:
    product = {item.id: item.product_id for item in gallery.current.stored_items()}
    first, second, third = [await searched(client, seed, top_k=40) for seed in (5, 6, 7)]
    right, wrong = first["matches"][0], first["matches"][1]
    other_view = next(m for m in first["matches"][1:] if m["product_id"] == right["product_id"])
    wrong = next(m for m in first["matches"] if m["product_id"] != right["product_id"])
    await say(client, first["request_id"], right["id"], "match")
    await say(client, first["request_id"], wrong["id"], "no_match")
    await say(client, first["request_id"], other_view["id"], "no_match")  # contradicts the first
    await say(client, second["request_id"], wrong["id"], "no_match")  # nothing confirmed: a negative alone
    products = {}
    for match in third["matches"]:
        products.setdefault(match["product_id"], match["id"])
    for item_id in list(products.values())[:2]:  # two products confirmed: nobody knows which
        await say(client, third["request_id"], item_id, "match")
    state = state_of(client._transport.app)  # type: ignore[attr-defined]
    assert state.feedback is not None
    await state.feedback.add(_search(9), "sold-out", "match")

    out = tmp_path / "set"
    arguments = ["data", "from-feedback", str(tmp_path / "said"), "--gallery", str(gallery_folder), "--out", str(out)]
    done = await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["verdicts"], counts["history"]) == (7, 7)
    assert (counts["queries"], counts["negatives"], counts["items"]) == (1, 2, 3)
    assert counts["left_out"] == {
        "item refused, its product confirmed": 1, "search confirmed for several products": 2,
        "item no longer in the gallery": 1,
    }  # fmt: skip

    queries = read_labelled(out / "queries.csv")
    items = {image.id: image for image in read_labelled(out / "gallery.csv")}
    assert [query.product_id for query in queries] == [right["product_id"]]
    assert items.keys() == {right["id"], other_view["id"], wrong["id"]}
    assert all(image.product_id == product[image.id] for image in items.values())
    negatives = rows(out / "negatives.csv")
    assert [row["id"] for row in negatives] == [wrong["id"]] * 2
    assert negatives[0]["image"] == queries[0].path.relative_to(out).as_posix()
    for path in [*(query.path for query in queries), *(item.path for item in items.values())]:
        assert Image.open(path).size == (120, 160)

    again = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    assert again.exit_code == 1
    assert "not empty" in again.stderr
    nobody = [*arguments[:-1], str(tmp_path / "new"), "--gallery-name", "women"]
    assert "women" in (await asyncio.to_thread(CliRunner().invoke, cli, nobody)).stderr
    nothing = ["data", "from-feedback", str(tmp_path), *arguments[3:-1], str(tmp_path / "new")]
    assert "THREADMATCH_FEEDBACK" in (await asyncio.to_thread(CliRunner().invoke, cli, nothing)).stderr
