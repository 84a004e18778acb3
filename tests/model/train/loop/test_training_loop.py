"""The one loop keeps the best weights, the start among them, and goes on after a kill to the same bits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from threadmatch.model.errors import ConfigError
from threadmatch.model.train.loop.optimisers import steady
from threadmatch.model.train.loop.run_folder import PhaseFiles, Run
from threadmatch.model.train.loop.training_loop import Course, TrainingLoop

FILES = PhaseFiles("toy", "toy.jsonl", "toy.pt")
COURSE = Course(files=FILES, steps=9, evaluate_every=3, chosen_by="mrr", seed=4)


class PowerCutError(RuntimeError):
    """What ends a process without notice."""


def _loop(run: Run, course: Course = COURSE, width: int = 3) -> TrainingLoop[nn.Linear]:
    torch.manual_seed(0)
    layer = nn.Linear(width, 1)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1)
    return TrainingLoop(layer, optimiser, steady(optimiser), course=course, run=run)


def _train(loop: TrainingLoop[nn.Linear], figures: list[float] | None = None) -> dict[str, float]:
    """Noise in, 1 out: torch's own random numbers are part of a step, as with dropout."""
    given = iter(figures or [])

    def losses(_: int) -> dict[str, Tensor]:
        return {"total": (loop.module(torch.randn(8, 3)) - 1).square().mean()}

    def evaluate(module: nn.Linear) -> dict[str, float]:
        return {"mrr": next(given) if figures else float(module.bias.detach())}

    return loop.train(losses, evaluate)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_killed_run_goes_on_to_the_same_bits_whatever_it_averages(tmp_path: Path, average: float) -> None:
    course = replace(COURSE, average=average, clip=0.5)
    whole = _loop(Run(tmp_path / "whole"), course)
    best = _train(whole)

    def cut(step: int, _: dict[str, float]) -> None:
        if step == 6:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        _train(_loop(Run(tmp_path / "torn", after_evaluation=cut), course))
    again = _loop(Run(tmp_path / "torn"), course)
    assert again.step == 6
    found = _train(again)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], value), name
    assert {**best, "seconds": 0} == {**found, "seconds": 0}
    lines = [(tmp_path / run / FILES.log).read_text().count("\n") for run in ("whole", "torn")]
    assert lines == [4, 4]


def test_the_best_weights_are_given_back_and_the_start_counts(tmp_path: Path) -> None:
    start = _loop(Run(tmp_path / "start"))
    before = {name: value.clone() for name, value in start.module.state_dict().items()}
    assert _train(start, [0.9, 0.1, 0.2, 0.3])["step"] == 0
    for name, value in start.module.state_dict().items():
        assert torch.equal(value, before[name]), "training only made it worse"
    later = _loop(Run(tmp_path / "later"))
    assert _train(later, [0.1, 0.2, 0.9, 0.3])["step"] == 6
    assert not torch.equal(later.module.bias, before["bias"])
    ended = _loop(Run(tmp_path / "later"))
    assert ended.step == 9, "a finished run is only finished again"
    assert _train(ended)["mrr"] == 0.9
    assert torch.equal(ended.module.bias, later.module.bias)


def test_the_state_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    _train(_loop(Run(tmp_path)))
    with pytest.raises(ConfigError, match=r"toy\.pt was left by a run of another recipe .* take another --run folder"):
        _loop(Run(tmp_path), width=5)


def test_a_head_that_an_older_release_left_half_trained_goes_on(tmp_path: Path) -> None:
    """Its state had other names for two of its parts."""
    whole = _loop(Run(tmp_path / "whole"))
    _train(whole)
    with pytest.raises(PowerCutError):
        _train(_loop(Run(tmp_path / "torn", after_evaluation=_cut)))
    state: dict[str, Any] = torch.load(tmp_path / "torn" / FILES.state, weights_only=True)
    older = {{"module": "parts", "schedule": "rate"}.get(name, name): value for name, value in state.items()}
    torch.save(older, tmp_path / "torn" / FILES.state)
    again = _loop(Run(tmp_path / "torn"))
    _train(again)
    assert torch.equal(again.module.weight, whole.module.weight)


def _cut(step: int, _: dict[str, float]) -> None:
    raise PowerCutError


def test_progress_hears_of_every_step_and_where_it_stands(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int, str]] = []
    run = Run(tmp_path, progress=lambda stage, done, total, note="": heard.append((stage, done, total, note)))
    _train(_loop(run), [0.25, 0.5, 0.1, 0.1])
    assert [done for _, done, _, _ in heard] == list(range(1, 10))
    assert {(stage, total) for stage, _, total, _ in heard} == {("training, toy", 9)}
    assert heard[0][3] == "mrr 0.250 at step 0"
    assert heard[-1][3] == "mrr 0.500 at step 3"
    for row, step in zip((tmp_path / FILES.log).read_text().splitlines(), (0, 3, 6, 9), strict=True):
        assert json.loads(row)["step"] == step


def test_a_long_gradient_is_clipped_and_zero_lets_any_pass(tmp_path: Path) -> None:
    moved = {}
    for clip in (0.0, 1e-3):
        layer = nn.Linear(2, 1)
        nn.init.zeros_(layer.weight)
        optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
        course = replace(COURSE, steps=1, clip=clip)
        run = Run(tmp_path / str(clip))
        loop = TrainingLoop(layer, optimiser, steady(optimiser), course=course, run=run)
        scores = iter([0.0, 1.0])
        loop.train(
            lambda _, layer=layer: {"total": 100 * layer.weight.sum()},  # type: ignore[misc]
            lambda _, scores=scores: {"mrr": next(scores)},  # type: ignore[misc]
        )
        moved[clip] = float(layer.weight.detach().norm())
    assert moved[0.0] == pytest.approx(100 * 2**0.5)
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-3)
