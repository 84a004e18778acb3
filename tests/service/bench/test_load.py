"""The short form of the load test, and that its checks can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import IMPORT_PATH
from tests.support.serving import photo, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.bench.ledger import Ledger, State, Truth, faults_of
from threadmatch.service.bench.load import LoadOptions, lost_writes, run_load

TRUTH = Truth(distances={"a": 0.1, "b": 0.2, "c": 0.3}, scores={"a": 1.0, "b": 3.0, "c": 2.0}, order=["a", "b", "c"])


def answer(*matches: tuple[str, float, float]) -> dict[str, object]:
    keys = ("rank", "id", "distance", "score")
    return {"matches": [dict(zip(keys, (rank, *match), strict=True)) for rank, match in enumerate(matches, start=1)]}


def test_clients_writes_a_fold_and_the_end_leave_nothing_lost_and_nothing_wrong(
    gallery_folder: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", IMPORT_PATH)
    writes = "put" in create_app(settings(gallery_folder)).openapi()["paths"]["/v1/items/{item_id}"]
    result = run_load(
        LoadOptions(
            gallery=gallery_folder, photos=[photo(seed) for seed in range(4)], model=str(tiny_model_folder),
            work=tmp_path, clients=6, seconds=2.0, workers=1, seed=7, writes=writes,
        )
    )  # fmt: skip
    assert result["faults"] == []
    assert result["writes_lost"] == []
    assert result["passed"]
    assert (result["writes_acknowledged"] > 0) == writes
    assert all("exit code 0" in line for line in result["faults_made"]), result["faults_made"]


def test_a_right_answer_has_no_faults() -> None:
    assert not faults_of(answer(("b", 0.2, 3.0), ("load-1-1", 0.05, 2.5), ("c", 0.3, 2.0)), TRUTH, reranked=True)
    assert not faults_of(answer(("load-1-1", 0.05, 0.0), ("a", 0.1, 0.0), ("b", 0.2, 0.0)), TRUTH, reranked=False)


@pytest.mark.parametrize(
    ("matches", "reranked", "says"),
    [
        ([("b", 0.2, 3.0), ("b", 0.2, 3.0)], True, "repeat"),
        ([("x", 0.2, 3.0)], True, "not in the gallery"),
        ([("b", 0.25, 3.0)], True, "distance"),
        ([("b", 0.2, 3.5)], True, "score"),
        ([("c", 0.3, 2.0), ("b", 0.2, 3.0)], True, "order"),
        ([("b", 0.2, 0.0)], False, "missing"),
    ],
)
def test_a_wrong_answer_is_named(matches: list[tuple[str, float, float]], reranked: bool, says: str) -> None:
    assert any(says in fault for fault in faults_of(answer(*matches), TRUTH, reranked=reranked))


def test_a_lost_write_is_named(gallery_folder: Path, gallery: Gallery, tiny_model: Model) -> None:
    ledger = Ledger()
    ledger.note("plain", State.THERE, 0)
    ledger.note("nowhere", State.GONE, 0)
    ledger.note("perhaps", State.UNKNOWN, 0)
    assert lost_writes(gallery_folder, ledger) == []
    ledger.note("plain", State.GONE, 0)
    ledger.note("nowhere", State.THERE, 0)
    assert [line.split(":")[0] for line in lost_writes(gallery_folder, ledger)] == ["nowhere", "plain"]
