"""Edits of a real service with faults: workers and the whole service killed under writes, a full disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.patience import PATIENCE_S, wait_until
from tests.support.processes import started
from tests.support.serving import build_gallery, is_error, photo, post, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.upkeep import verify
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app


class Clients:
    """Threads that put and delete items of their own without end, and remember what was acknowledged."""

    def __init__(self, address: str, count: int) -> None:
        self.address, self.stop = address, threading.Event()
        self.put: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.failed = 0
        self.threads = [threading.Thread(target=self._work, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _work(self, client: int) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            name = f"c{client}-{number % 40}"
            try:
                # A connection each, so that any worker gets it.
                with httpx.Client(base_url=self.address, timeout=PATIENCE_S) as http:
                    if number % 5 == 0:
                        name = f"c{client}-{(number - 1) % 40}"
                        if http.delete(f"/v1/items/{name}").status_code == 200:
                            self.deleted.add(name)
                            self.put.pop(name, None)
                        continue
                    self.put.pop(name, None)  # from here on either version may be there
                    self.deleted.discard(name)
                    sent = {"metadata": f'{{"note": "{number}"}}'}
                    answer = http.put(f"/v1/items/{name}", files={"image": ("a", photo(number % 9))}, data=sent)
                    if answer.status_code in (200, 201):
                        self.put[name] = str(number)
                        assert http.get(f"/v1/items/{name}").json()["metadata"] == {"note": str(number)}
            except httpx.TransportError:
                self.failed += 1
                self.put.pop(name, None)
                self.deleted.discard(name)

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(pid: int) -> list[int]:
    """Processes of the service that listen; the resource tracker of multiprocessing is not one."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):  # one that is gone by now
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def test_no_acknowledged_write_is_lost_to_kills(tmp_path: Path, tiny_model: Model, tiny_model_folder: Path) -> None:
    folder = build_gallery(tmp_path, tiny_model, [f"item-{number}" for number in range(4)])
    options = ("--gallery", str(folder), "--model", str(tiny_model_folder), "--device", "cpu", "--workers", "2")
    with started(*options, THREADMATCH_FOLD_EDITS="40") as (service, address):
        wait_until(lambda: len(workers(service.process.pid)) == 2, "both workers run")
        clients = Clients(address, 3)
        for _ in range(2):
            wanted = len(clients.put) + 12
            wait_until(lambda most=wanted: len(clients.put) >= most, "a dozen more writes are acknowledged")
            os.kill(workers(service.process.pid)[0], signal.SIGKILL)
            time.sleep(0.2)  # the others go on beside the gap
        everyone = [service.process.pid, *workers(service.process.pid)]
        for pid in everyone:  # the whole service at once, in the middle of writes
            os.kill(pid, signal.SIGKILL)
        clients.end()
    assert len(clients.put) > 10
    assert clients.failed, "a kill that nobody noticed shows nothing"
    report = verify(folder)
    assert report.problems == []
    gallery = Gallery.open(folder)
    there = {stored.id: gallery.item(stored.id) for stored in gallery.current.stored_items()}
    lost = {name for name, note in clients.put.items() if name not in there or there[name].metadata != {"note": note}}
    assert lost == set()
    assert not clients.deleted & there.keys()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB; mounting needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_refuses_writes_and_searches_go_on(
    small_disk: Path, tmp_path: Path, tiny_model: Model
) -> None:
    built = build_gallery(tmp_path, tiny_model, [f"item-{number}" for number in range(4)])
    folder = Path(shutil.copytree(built, small_disk / "gallery"))
    app = create_app(settings(folder, fold_edits=0), model=tiny_model, gallery=Gallery.open(folder))
    kept: list[str] = []
    async with running(app) as client:

        async def put(name: str, seed: int) -> httpx.Response:
            return await client.put(f"/v1/items/{name}", files={"image": ("a.jpg", photo(seed, size=(400, 500)))})

        assert (await put("first", 50)).status_code == 201
        kept.append("first")
        ballast = small_disk / "ballast"
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(b"x" * max(0, free - 200_000))
        for number in range(100):
            answer = await put(f"n-{number}", 60 + number)
            if answer.status_code != 201:
                break
            kept.append(f"n-{number}")
        detail = is_error(answer, 507, "GalleryFull")
        assert "room" in detail
        assert str(folder) not in detail
        refused = f"n-{number}"
        found = {match["id"] for match in (await post(client, top_k=100)).json()["matches"]}
        assert found == {*(f"item-{n}" for n in range(4)), *kept}
        assert (await client.get(f"/v1/items/{refused}")).status_code == 404
        assert (await client.get("/health/ready")).status_code == 200
        ballast.unlink()
        assert (await put(refused, 60 + number)).status_code == 201
    assert verify(folder).problems == []
