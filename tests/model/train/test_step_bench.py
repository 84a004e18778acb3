"""The benchmark of steps measures both phases at the recipe's sizes and reads no data."""

from __future__ import annotations

from pathlib import Path

from tests.model.train.recipes import write_recipe
from threadmatch.model.train.recipe import read_recipe
from threadmatch.model.train.step_bench import step_seconds


def test_a_step_of_each_phase_takes_time(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, more="\n[finetune]\nfrom_stage = 3\nqueries = 4\n")
    for precision in ("float32", "bfloat16"):
        found = step_seconds(read_recipe(path), precision, steps=2)  # type: ignore[arg-type]
        assert set(found) == {"finetune", "head"}
        assert all(seconds > 0 for seconds in found.values())
