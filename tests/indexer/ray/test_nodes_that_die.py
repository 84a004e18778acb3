"""Ingestion on a real Ray cluster of two nodes: the gallery of one machine, nodes and drivers killed with -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.ray_nodes import Nodes, two_nodes
from tests.support.shop import Shop, answers, committed, contents, photo
from threadmatch.indexer.ingest_options import IngestResult
from threadmatch.indexer.upkeep import verify
from threadmatch.service.galleries.filling import ingest as ingest_with_a_model

pytestmark = pytest.mark.ray
COUNT = 41


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with two_nodes(tmp_path_factory.mktemp("ray")) as nodes:
        yield nodes


def rejected(result: IngestResult) -> list[str]:
    assert result.rejects_file is not None
    return Path(result.rejects_file).read_text("utf-8").splitlines()


def test_the_nodes_make_the_gallery_that_one_machine_makes(nodes: Nodes, tmp_path: Path) -> None:
    here, there = Shop(tmp_path / "here"), Shop(tmp_path / "there")
    results = []
    for shop, ray in ((here, None), (there, nodes.encoding())):
        rows = [*shop.rows(COUNT), shop.row(3, id="again"), shop.row(5, image="missing.jpg"), shop.row(6)]
        (shop.images / "torn.jpg").write_bytes(photo(7)[:200])
        results.append(shop.ingest([*rows, shop.row(99, image="torn.jpg")], ray=ray))
        assert verify(shop.gallery).problems == []
    assert [(one.items, one.rejected) for one in results] == [(results[0].items, results[0].rejected)] * 2
    told = [[json.loads(line) for line in rejected(one)] for one in results]
    assert [(one["row"], one["id"], one["reason"]) for one in told[0]] == [
        (one["row"], one["id"], one["reason"]) for one in told[1]
    ]
    assert contents(there.open()) == contents(here.open())
    assert answers(there.open()) == answers(here.open())
    again = there.ingest(there.rows(COUNT), ray=nodes.encoding())
    assert again.encoded == 0


def test_a_node_killed_in_the_midst_loses_nothing_and_doubles_nothing(nodes: Nodes, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    shop, whole = Shop(tmp_path / "killed"), Shop(tmp_path / "whole")
    lost = nodes.nodes[1]

    def kill_one() -> None:
        wait_until(lambda: len(list(gate.glob("held-*"))) == 2, "both nodes are at work")
        lost.kill()
        (gate / "go").touch()

    killing = threading.Thread(target=kill_one)
    killing.start()
    try:
        result = shop.ingest(shop.rows(COUNT), ray=nodes.encoding(gate, after=4))
    finally:
        (gate / "go").touch()
        killing.join()
    assert (result.items, result.encoded, result.rejected) == (COUNT, COUNT, 0)
    assert committed(shop.gallery) == COUNT
    whole.ingest(whole.rows(COUNT))
    assert contents(shop.open()) == contents(whole.open())
    assert answers(shop.open()) == answers(whole.open())
    lost.start()  # as a supervisor would; the next test has both


def test_a_killed_driver_goes_on_where_it_stopped(nodes: Nodes, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    shop, whole = Shop(tmp_path / "killed"), Shop(tmp_path / "whole")
    catalogue = shop.write(shop.rows(COUNT))
    command = [sys.executable, "-m", "tests.support.ray_nodes", str(catalogue), str(shop.gallery), str(shop.images)]
    driver = subprocess.Popen(
        [*command, nodes.address, str(gate), "8"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: committed(shop.gallery) >= 8 or driver.poll() is not None, "some photos are committed")
    driver.send_signal(signal.SIGKILL)
    _, said = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == -signal.SIGKILL, said
    (gate / "go").touch()
    result = shop.ingest(shop.rows(COUNT), ray=nodes.encoding())
    assert result.items == COUNT
    assert result.skipped >= 8
    assert result.encoded + result.skipped == COUNT
    assert committed(shop.gallery) == COUNT
    whole.ingest(whole.rows(COUNT))
    assert contents(shop.open()) == contents(whole.open())


def test_nodes_open_the_model_by_its_folder(nodes: Nodes, tmp_path: Path, tiny_model_folder: Path) -> None:
    shop = Shop(tmp_path / "shop")
    catalogue = shop.write(shop.rows(6))
    result = ingest_with_a_model(
        catalogue, shop.gallery, images=shop.images, model=tiny_model_folder, device="cpu", ray=nodes.address
    )
    assert (result.items, result.encoded) == (6, 6)
    assert verify(shop.gallery).problems == []
