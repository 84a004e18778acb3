"""Decoding processes that hang, crash and lie; the pool goes on."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.shop import photo
from threadmatch.indexer.catalogue.decoding.pool import Decoded, DecodePool, Same, Task
from threadmatch.indexer.catalogue.sources import ImageFolder, normal_box
from threadmatch.indexer.errors import IndexerError
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.images import load_image

MISCHIEF = """
import os, sys, time
from threadmatch.indexer.catalogue.decoding import worker as decode_worker
honest = decode_worker.answer
def answer(task, blobs):
    name = os.path.basename(task["path"])
    if name == "hang.jpg": time.sleep(1000)
    if name == "crash.jpg": os.kill(os.getpid(), 9)
    if name == "once.jpg" and os.path.exists(task["path"] + "-first"):
        os.unlink(task["path"] + "-first")
        os._exit(3)
    print("a library that prints")
    return honest(task, blobs)
decode_worker.serve.__defaults__ = (answer,)
decode_worker.main()
"""


def test_a_process_decodes_as_the_one_preprocessing_does(tmp_path: Path) -> None:
    data = photo(1, size=(300, 200))
    (tmp_path / "a.jpg").write_bytes(data)
    with DecodePool(1, image_px=32) as pool:
        decoded = pool.decode(Task(path=str(tmp_path / "a.jpg")))
        again = pool.decode(Task(data=data))
        boxed = pool.decode(Task(data=data, box="10,20,100,900"))
        assert isinstance(decoded, Decoded)
        assert isinstance(again, Decoded)
        assert isinstance(boxed, Decoded)
        assert pool.decode(Task(data=data, known=frozenset({decoded.sha256}))) == Same(decoded.sha256)
    prepared, _ = load_image(data, image_px=32)
    assert (decoded.pixels == prepared.pixels).all()
    assert (again.pixels == prepared.pixels).all()
    assert (decoded.width, decoded.height, decoded.sha256) == (300, 200, again.sha256)
    assert boxed.box == (10, 20, 100, 200)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.jpg", "missing_file"), ("folder", "not_a_file"), ("pipe", "not_a_file"),
     ("huge", "too_many_bytes")]
)  # fmt: skip
def test_what_is_no_image_file_is_refused_without_waiting(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10**9)
    with DecodePool(1, image_px=32) as pool, pytest.raises(InvalidImageError) as caught:
        pool.decode(Task(path=str(tmp_path / name)))
    assert caught.value.reason == reason


def test_a_process_that_hangs_or_dies_costs_one_image(tmp_path: Path) -> None:
    for name in ("good.jpg", "hang.jpg", "crash.jpg", "once.jpg", "once.jpg-first"):
        (tmp_path / name).write_bytes(photo(1))
    with DecodePool(1, image_px=16, time_limit_s=PATIENCE_S, program=("-c", MISCHIEF)) as pool:
        outcomes = []
        for name in ("good.jpg", "hang.jpg", "good.jpg", "crash.jpg", "once.jpg", "good.jpg"):
            pool.time_limit_s = 0.5 if name == "hang.jpg" else PATIENCE_S  # a good one may take long on a busy machine
            try:
                outcomes.append(type(pool.decode(Task(path=str(tmp_path / name)))).__name__)
            except InvalidImageError as error:
                outcomes.append(error.reason)
    assert outcomes == ["Decoded", "too_slow", "Decoded", "decoder_crashed", "Decoded", "Decoded"]


def test_many_threads_share_few_processes_while_some_are_killed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(photo(1))
    with DecodePool(2, image_px=16) as pool, ThreadPoolExecutor(6) as threads:
        futures = [threads.submit(pool.decode, Task(path=str(tmp_path / "a.jpg"))) for _ in range(60)]
        futures[5].result()
        for worker in list(pool._all)[:1]:
            os.kill(worker._process.pid, signal.SIGKILL)
        assert all(isinstance(future.result(), Decoded) for future in futures)


def test_processes_that_never_start_are_an_error_of_the_job_not_of_each_image() -> None:
    with DecodePool(1, image_px=16, program=("-c", "raise SystemExit(1)")) as pool, pytest.raises(IndexerError):
        pool.decode(Task(data=photo(1)))


def test_leaving_the_pool_ends_its_processes(tmp_path: Path) -> None:
    with DecodePool(1, image_px=16) as pool:
        pool.decode(Task(data=photo(1)))
        (worker,) = pool._all
    assert worker._process.poll() is not None


def test_paths_stay_below_the_images_folder(tmp_path: Path) -> None:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.jpg").write_bytes(b"x")
    (root / "inside.jpg").symlink_to(root / "sub" / "a.jpg")
    (root / "outside").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(root)
    folder = ImageFolder(tmp_path / "link")
    assert folder.find("sub/a.jpg")[1] == "sub/a.jpg"
    assert folder.find("./sub/../sub/a.jpg")[1] == "sub/a.jpg"
    assert folder.find("inside.jpg")[1] == "sub/a.jpg"
    assert folder.find(str(root / "sub" / "a.jpg"))[1] == "sub/a.jpg"
    for escape in ("../x.jpg", "outside/x.jpg", "/etc/passwd", "", ".", "sub/../../x", "a\0b"):
        with pytest.raises(InvalidImageError):
            folder.find(escape)


def test_a_box_has_one_written_form() -> None:
    assert normal_box("") == ""
    assert normal_box(" 1, 2,3.50 ,4") == normal_box("1,2,3.5,4.0") == "1.0,2.0,3.5,4.0"


def test_a_call_that_comes_after_the_end_is_answered_not_left_waiting() -> None:
    pool = DecodePool(1, image_px=32)
    pool.close()
    threads = ThreadPoolExecutor(2)
    late = [threads.submit(pool.decode, Task(data=photo(1))) for _ in range(3)]
    try:
        for call in late:
            with pytest.raises(InvalidImageError):
                call.result(timeout=PATIENCE_S)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
