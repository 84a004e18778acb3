"""Recent searches: what is kept, for whom, for how long, and that keeping them never harms a search."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.checkout import IMPORT_PATH
from tests.support.disks import fill, mounted
from tests.support.serving import photo, post, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.images import Box, load_image
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.config import DEFAULT_GALLERY
from threadmatch.service.errors import SearchNotFoundError, StartError
from threadmatch.service.search.recent_searches import BUSY_S, FILE, RecentSearch, RecentSearches, remembering
from threadmatch.service.shared import state_of

KIB = 1024
LATER_S = [0.0]
"""By how much the clock of `recent` is ahead."""


def search(
    request_id: str = "one", *, gallery: str = "shop", crop: bytes = b"\xff\xd8crop", at: float = 0
) -> RecentSearch:
    regions = np.random.default_rng(len(request_id)).standard_normal((24, 5)).astype(np.float16)
    return RecentSearch(
        gallery=gallery, request_id=request_id, crop=crop, width=300, height=400, box=Box(1.5, 2, 30, 40),
        features={"regions": regions}, matcher="grnet",
        item_ids=("a/b", "日本"), generation="000007", model="f00d", at=at or time.time(),
    )  # fmt: skip


@pytest.fixture
def recent(tmp_path: Path) -> Iterator[RecentSearches]:
    kept = RecentSearches(
        tmp_path / "recent", max_age_s=60, max_bytes=100 * KIB, clock=lambda: time.time() + LATER_S[0]
    )
    LATER_S[0] = 0.0
    yield kept
    kept.close()


async def test_a_search_comes_back_as_it_was_put(recent: RecentSearches) -> None:
    asked = search()
    assert await recent.put(asked)
    found = await recent.get("shop", "one")
    np.testing.assert_array_equal(found.features["regions"], asked.features["regions"])
    assert found.features["regions"].dtype == np.float16
    for name in ("matcher", "crop", "width", "height", "box", "item_ids", "generation", "model", "at"):
        assert getattr(found, name) == getattr(asked, name)


async def test_the_same_id_in_two_galleries_is_two_searches(recent: RecentSearches) -> None:
    await recent.put(search(gallery="mine", crop=b"mine"))
    await recent.put(search(gallery="yours", crop=b"yours"))
    assert (await recent.get("mine", "one")).crop == b"mine"
    assert (await recent.get("yours", "one")).crop == b"yours"
    with pytest.raises(SearchNotFoundError, match="'one'"):
        await recent.get("nobody's", "one")


async def test_of_two_searches_with_one_id_the_later_wins(recent: RecentSearches) -> None:
    await recent.put(search(crop=b"first"))
    await recent.put(search(crop=b"second"))
    assert (await recent.get("shop", "one")).crop == b"second"


async def test_what_is_too_old_is_neither_found_nor_left_on_disk(recent: RecentSearches) -> None:
    secret = os.urandom(5000)
    await recent.put(search("old", crop=secret))
    assert (await recent.get("shop", "old")).crop == secret
    LATER_S[0] = 61.0
    with pytest.raises(SearchNotFoundError, match="1 minutes at most"):
        await recent.get("shop", "old")
    await recent.sweep()
    left = b"".join(path.read_bytes() for path in recent.folder.iterdir())
    assert secret[:64] not in left


async def test_beyond_the_limit_the_oldest_go_first_and_the_file_stays_bounded(recent: RecentSearches) -> None:
    for number in range(60):
        await recent.put(search(f"search-{number}", crop=bytes(9 * KIB), at=time.time() + number / 1000))
    assert (await recent.get("shop", "search-59")).crop
    with pytest.raises(SearchNotFoundError):
        await recent.get("shop", "search-40")
    assert (recent.folder / FILE).stat().st_size < 2 * 100 * KIB
    assert not await recent.put(search("huge", crop=bytes(101 * KIB)))
    assert (await recent.get("shop", "search-59")).crop, "what does not fit pushes nothing out"


async def test_another_process_reads_what_this_one_wrote(recent: RecentSearches) -> None:
    await recent.put(search(crop=b"shared"))
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from threadmatch.service.search.recent_searches import RecentSearches\n"
        "kept = RecentSearches(Path(sys.argv[1]), max_age_s=60, max_bytes=10**6)\n"
        "print(asyncio.run(kept.get('shop', 'one')).crop.decode())"
    )
    done = subprocess.run([sys.executable, "-c", code, recent.folder], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "shared", done.stderr


async def test_a_locked_or_broken_database_is_no_failure_of_a_search(
    recent: RecentSearches, caplog: pytest.LogCaptureFixture
) -> None:
    other = sqlite3.connect(recent.folder / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    took_s = BUSY_S
    for _ in range(5):  # whoever waits for the lock takes BUSY_S each time; a busy machine may at times
        started = time.monotonic()
        assert not await recent.put(search("during"))
        if (took_s := time.monotonic() - started) < BUSY_S - 0.5:
            break
    assert took_s < BUSY_S - 0.5, "a search does not wait for a lock"
    other.execute("DROP TABLE searches")
    other.execute("COMMIT")
    other.close()
    assert not await recent.put(search("after"))
    assert await recent.get("shop", "after"), "held in memory"
    with pytest.raises(SearchNotFoundError, match="cannot be kept at the moment: no such table"):
        await recent.get("shop", "before")
    assert "cannot be kept" in caplog.text


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(StartError, match="chmod 700"):
        RecentSearches(folder, max_age_s=60, max_bytes=KIB)


def test_a_torn_file_is_begun_anew_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "for" / "us"
    RecentSearches(folder, max_age_s=60, max_bytes=KIB).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    (folder / FILE).write_bytes(b"not a database at all" * 500)
    RecentSearches(folder, max_age_s=60, max_bytes=KIB).close()


async def test_a_search_over_http_is_kept_with_its_crop_and_its_matches(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        answer = await post(client, photo(3), box="20,30,100,150", top_k=4)
        recent = state_of(app).recent
        assert recent is not None
        folder = recent.folder
        found = await recent.get(DEFAULT_GALLERY, answer.json()["request_id"])
    assert not folder.exists(), "the temporary folder ends with the service"
    assert list(found.item_ids) == [match["id"] for match in answer.json()["matches"]]
    assert found.box == Box(20, 30, 100, 150)
    assert Image.open(BytesIO(found.crop)).size == (80, 120)
    prepared, _ = load_image(photo(3), image_px=tiny_model.image_px, box=found.box)
    expected = tiny_model.encode(prepared.pixels[None])["regions"][0]
    np.testing.assert_allclose(found.features["regions"], expected, atol=2e-3)


async def test_with_zero_minutes_nothing_is_kept(gallery_folder: Path, gallery: Gallery, tiny_model: Model) -> None:
    app = create_app(settings(gallery_folder, recent_minutes=0), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        assert (await post(client)).status_code == httpx.codes.OK
        assert state_of(app).recent is None


KILLED = """
import asyncio, os, signal, sys
from threadmatch.service.config import Settings
from threadmatch.service.search.recent_searches import remembering

async def main():
    async with remembering(Settings(gallery=".")) as recent:
        print(recent.folder, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_a_killed_service_remembered_goes_when_the_next_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    left = Path(killed.stdout.strip())
    assert left.parent == tmp_path, killed.stderr
    assert (left / FILE).is_file()
    async with remembering(settings(tmp_path)) as recent:
        assert recent is not None
        assert not left.exists()
    assert not recent.folder.exists()


async def test_what_could_not_be_kept_is_found_for_a_while_and_else_the_reason_is_told(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        ballast = fill(disk)
        recent = RecentSearches(disk / "recent", max_age_s=60, max_bytes=8192 * KIB)
        try:
            large = bytes(500 * KIB)
            for number in range(10):
                assert not await recent.put(search(f"search-{number}", crop=large))
            assert (await recent.get("shop", "search-9")).crop == large, "the latest are held in memory"
            with pytest.raises(SearchNotFoundError, match=r"'search-0' was answered and not kept: its disk is full"):
                await recent.get("shop", "search-0")
            with pytest.raises(SearchNotFoundError, match=r"cannot be kept at the moment: its disk is full"):
                await recent.get("shop", "of another process")
            ballast.unlink()
            assert await recent.put(search("search-10"))
            with pytest.raises(SearchNotFoundError, match="1 minutes at most"):
                await recent.get("shop", "never seen")
        finally:
            recent.close()
