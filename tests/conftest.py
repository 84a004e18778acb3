"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import pytest

from tests.support.clusters import cluster_settings as cluster_settings
from tests.support.clusters import milvus_server as milvus_server
from tests.support.clusters import redis_server as redis_server
from tests.support.skips import skipped_line
from threadmatch.model.config import GRNetConfig
from threadmatch.service.process.collecting import collect_seldom
from threadmatch.service.process.threads import let_waiting_threads_sleep

if TYPE_CHECKING:
    from threadmatch.model.inference import Model


CACHE = Path(__file__).parents[1] / ".pytest_cache"
"""What all processes of a run share, and the next runs."""


def _one_authority(path: Path) -> Path:
    """A file of the first of certifi's certificates."""
    whole = Path(certifi.where()).read_text("ascii", "replace")
    end = "-----END CERTIFICATE-----\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(whole[whole.index("-----BEGIN") : whole.index(end) + len(end)], "ascii")
    return path


def pytest_configure() -> None:
    """Before torch is imported: its threads sleep when they wait, here and in the processes that tests start.

    And hear Ctrl-C, and let those processes hear it: a shell's background job begins with it ignored.
    """
    collect_seldom()
    let_waiting_threads_sleep()
    # Triton asks once, when something imports it: tests run its kernels in its interpreter, with a GPU or without.
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores, so each computes with one
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    else:  # each client of httpx reads its authorities, 140 of them in 30 ms; no test asks a stranger
        os.environ["SSL_CERT_FILE"] = str(_one_authority(CACHE / "authority.pem"))
    # Networks are converted once, for all tests and the processes that they start, and never into the user's own cache.
    os.environ["XDG_CACHE_HOME"] = str(CACHE / "xdg")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = (
    "tests/test_readme.py", "tests/model/train/loop/test_torchrun.py", "tests/service/demo/test_demo.py",
    "tests/test_notebooks.py", "tests/service/bench/test_bench.py", "tests/test_front_door.py",
    "tests/service/bench/test_load.py", "tests/service/routes/test_schemathesis.py", "tests/test_deploy.py",
    "tests/service/process/test_serve.py", "tests/indexer/test_kill.py", "tests/service/bench/test_gpu.py",
    "tests/model/test_encoding.py", "tests/model/gpu/test_compiling.py", "tests/indexer/reading/test_gallery.py",
    "tests/indexer/test_ingest.py", "tests/service/bench/test_siege.py", "tests/service/galleries/test_edits_faults.py",
    "tests/service/process/test_workers.py",
)  # fmt: skip
"""Files that take longest, longest first: they begin, so that two processes end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, all others in their own order; the same in every process."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONG)))


def pytest_unconfigure(config: pytest.Config) -> None:
    """The very last line says what was skipped and why: a test that is skipped in silence is no test."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly:
        return
    skips = [(report.nodeid.partition("::")[0], report.longrepr[2]) for report in reporter.stats.get("skipped", [])]
    reporter.write_line(skipped_line((file, reason.removeprefix("Skipped: ")) for file, reason in skips))


TINY_CONFIG = GRNetConfig(
    backbone="timm:test_efficientnet", image_px=64, neck_channels=24, similarity_channels=16, node_channels=8
)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a real but small GRNet with fixed random weights; encodes in about a millisecond."""
    import torch

    from threadmatch.model.checkpoint import save_checkpoint
    from threadmatch.model.grnet import GRNet

    folder = tmp_path_factory.mktemp("models") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(GRNet(TINY_CONFIG), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path) -> Model:
    """The same, loaded."""
    from threadmatch.model.inference import load_model

    return load_model(tiny_model_folder, device="cpu")


def _shared(name: str) -> Path:
    """A folder that stands beside some checkouts and not beside others: real photos, starting weights."""
    root = Path(os.environ.get("SHARED_DIR", Path(__file__).parents[2] / "shared"))
    if not (root / name).is_dir():
        pytest.skip(f"{root / name} is not here; set SHARED_DIR to the folder that holds {name}/")
    return (root / name).resolve()


@pytest.fixture(scope="session")
def commands() -> Iterator[Path]:
    """Where the commands of shells are run; see `tests.support.commands`."""
    from tests.support.commands import command_server

    with command_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real garment photos; tests that ask for it are skipped where it is not."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder of starting weights; tests that ask for it are skipped where it is not."""
    return _shared("weights")
