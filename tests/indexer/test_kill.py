"""A real `threadmatch ingest`, killed with SIGKILL at many moments, then run again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.forked import Forked, PipedCommand
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.shop import Shop, answers, committed, contents, main
from tests.support.webserver import web_server
from threadmatch.indexer.store import generations
from threadmatch.indexer.upkeep import verify
from threadmatch.model.inference import Model

COUNT = 48


Process = subprocess.Popen[str] | Forked | PipedCommand


def start(shop: Shop, catalogue: Path, *, held_after: int | None = None) -> Forked:
    """The ingestion of `threadmatch ingest`, in a program that starts at once.

    Args:
        held_after: photos after which that program stands still, until `finish`.
    """
    held = [] if held_after is None else [str(held_after)]
    return Forked(main, str(catalogue), str(shop.gallery), str(shop.images), *held)


def words(shop: Shop, catalogue: Path, model: Path) -> list[str]:
    """The command itself, with a model."""
    command = ["ingest", str(catalogue), "--gallery", str(shop.gallery), "--images", str(shop.images)]
    command += ["--model", str(model), "--batch-size", "4", "--workers", "1", "--device", "cpu", "--json"]
    return [*command, "--allow-host", "127.0.0.1", "--box", "none"]


def start_anew(command: list[str]) -> subprocess.Popen[str]:
    """As a user would."""
    return subprocess.Popen(
        [sys.executable, "-c", "from threadmatch.service.cli import main; main()", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_forked(command: list[str]) -> PipedCommand:
    """From a process that has imported what the command does."""
    return PipedCommand(["threadmatch", *command], os.environ, ROOT)


def finish(process: Process) -> dict[str, object]:
    out, log = process.communicate("\n", timeout=PATIENCE_S)
    assert process.returncode == 0, log
    result: dict[str, object] = json.loads(out)
    return result


def kill_when(
    process: Process,
    reached: Callable[[], bool],
    how: int = signal.SIGKILL,
    *,
    every_s: float = 0.0005,
) -> str:
    """Wait for a moment, or the end; send a signal; what the process wrote to stderr.

    Args:
        every_s: how often to look; seldom where the moment stays, since looking takes time from who is looked at.
    """
    wait_until(lambda: reached() or process.poll() is not None, "the moment comes", every_s=every_s)
    process.send_signal(how)
    return process.communicate(timeout=PATIENCE_S)[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """An uninterrupted ingestion to compare with."""
    shop = Shop(tmp_path_factory.mktemp("whole"))
    shop.ingest(shop.rows(COUNT), batch_size=4)
    return shop


def being_written(folder: Path, name: str = "") -> bool:
    """Whether a generation without its last name has such a file; it may get its name while we look."""
    with contextlib.suppress(FileNotFoundError):
        return any((folder / "generations").glob(f".*.partial/{name}".rstrip("/")))
    return False


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the database exists": lambda folder: (folder / "gallery.sqlite3").exists(),
    "some batches are done": lambda folder: committed(folder) >= 12,
    "more batches are done": lambda folder: committed(folder) >= 36,
    "the generation is being written": lambda folder: being_written(folder),
    "the index is there": lambda folder: being_written(folder, "index.faiss"),
    "side files are written": lambda folder: being_written(folder, "feature-*"),
    "the manifest is there": lambda folder: being_written(folder, "manifest.json"),
    "the generation has its name": lambda folder: (folder / "generations" / "000001").exists(),
    "it is in service": lambda folder: (folder / "CURRENT").exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_when(moment: str, tmp_path: Path, whole: Shop) -> None:
    shop = Shop(tmp_path / "shop")
    catalogue = shop.write(shop.rows(COUNT))
    kill_when(start(shop, catalogue), lambda: MOMENTS[moment](shop.gallery))
    done = committed(shop.gallery)
    if generations.current_name(shop.gallery) is not None:
        assert contents(shop.open()) == contents(whole.open())  # in service means whole

    result = finish(start(shop, catalogue))
    assert result["encoded"] == COUNT - done
    assert (result["items"], result["rejected"], result["generation"]) == (COUNT, 0, "000001")
    assert contents(shop.open()) == contents(whole.open())
    assert answers(shop.open()) == answers(whole.open())
    assert verify(shop.gallery).problems == []
    assert sorted(path.name for path in (shop.gallery / "generations").iterdir()) == ["000001"]


def test_a_gallery_in_service_is_untouched_by_a_killed_update(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.ingest(shop.rows(8))
    serving = shop.open()
    before = contents(serving), answers(serving)
    changed = [shop.row(number, price=-1) for number in range(COUNT)]
    kill_when(start(shop, shop.write(changed), held_after=20), lambda: committed(shop.gallery) >= 20, every_s=0.01)
    assert serving.refresh() is False
    assert (contents(serving), answers(serving)) == before
    assert (contents(shop.open()), answers(shop.open())) == before


def test_the_command_itself_killed_and_run_again(tmp_path: Path, tiny_model: Model, tiny_model_folder: Path) -> None:
    """Photos that a web server holds back let it come so far and no farther."""
    shop, whole = Shop(tmp_path / "shop"), Shop(tmp_path / "whole")
    most = [16]
    with web_server(most) as (address, _):
        rows = [shop.row(n, image=f"http://{address}/photo{n}") for n in range(COUNT)]
        catalogue = shop.write(rows)
        command = words(shop, catalogue, tiny_model_folder)
        kill_when(start_forked(command), lambda: committed(shop.gallery) >= 12, every_s=0.05)
        done = committed(shop.gallery)
        assert 12 <= done <= 16
        most[0] = 32
        log = kill_when(
            start_anew(command),
            lambda: committed(shop.gallery) >= done + 8,
            signal.SIGINT,
            every_s=0.05,
        )
        assert "same command again" in log
        done = committed(shop.gallery)
        assert done <= 32
        most[0] = COUNT
        result = finish(start_forked(command))
        assert result["encoded"] == COUNT - done
        whole.ingest(rows, tiny_model, images=shop.images, allow_hosts=("127.0.0.1",))
    assert contents(shop.open()) == contents(whole.open())
    for mine, theirs in zip(answers(shop.open()), answers(whole.open()), strict=True):
        assert dict(mine) == pytest.approx(dict(theirs), abs=1e-4)
