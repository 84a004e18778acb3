"""A short siege: all attacks at once, and a bystander who is answered all the while."""

from __future__ import annotations

from pathlib import Path

from tests.support.serving import photo
from threadmatch.service.bench.hostile_files import FAR_FETCHED
from threadmatch.service.bench.siege import QUIET, Row, SiegeOptions, _faults, run_siege, table
from threadmatch.service.bench.siege_attacks import ALL

KINDS = 5


def test_a_bystander_is_answered_while_another_client_does_its_worst(
    gallery_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    result = run_siege(
        SiegeOptions(
            gallery=gallery_folder, photos=[photo(n) for n in range(4)], work=tmp_path, model=str(tiny_model_folder),
            seconds=1.0, least=4, workers=(1,), with_keys=(True,), only=(ALL,), kinds=KINDS, side_px=4000,
        )
    )  # fmt: skip
    quiet, besieged = result["rows"]
    assert (quiet["attack"], besieged["attack"]) == (QUIET, ALL)
    assert quiet["refused"] == besieged["refused"] == {}
    assert besieged["searches"] >= 4
    saw = besieged["attacker_saw"]
    assert not [answer for answer in saw if answer.startswith("two lengths") and answer[-9] not in "01"]
    assert sum(saw.values()) > 20, "it did attack"
    assert not any(answer.endswith(": 500") for answer in saw)
    assert len(FAR_FETCHED) >= KINDS
    assert ALL in table(result)


def test_the_table_says_what_the_bystander_has_to_complain_of() -> None:
    quiet = Row(QUIET, 1, False, 10, 0.1, 0.2, {}, 300.0)
    assert _faults(Row("x", 1, False, 10, 0.7, 3.0, {}, 300.0), quiet) == []
    slow = Row("x", 1, False, 10, 0.71, 3.01, {"503": 2}, 300.0, {"two lengths: 200, 2 answers": 1})
    assert len(_faults(slow, quiet)) == 4
