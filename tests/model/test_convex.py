"""Convex fits beside what algebra and another library say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from threadmatch.model.convex import logistic, minimise


def test_the_minimum_of_a_quadratic_is_the_solution_of_its_equations() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 4)), rng.normal(size=9)
    solved = np.linalg.lstsq(a, b, rcond=None)[0]
    x, y, start = torch.from_numpy(a), torch.from_numpy(b), torch.ones(4, dtype=torch.float64)
    found = minimise(lambda w: (x @ w - y).square().sum(), start)
    assert found.numpy() == pytest.approx(solved, abs=1e-4)
    assert start.tolist() == [1.0] * 4
    assert not found.requires_grad


def _told(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    values = rng.normal([5.0, -3.0], [4.0, 0.1], (n, 2))
    chance = 1 / (1 + np.exp(-(0.5 * values[:, 0] - 6 * values[:, 1] - 20)))
    return values, rng.random(n) < chance


def test_the_logistic_fit_is_where_its_gradient_vanishes() -> None:
    """Of the loss alone, so with nothing pulled: the mean of counts x (told less fitted) x value is zero."""
    values, holds = _told(400, np.random.default_rng(1))
    counts = np.random.default_rng(2).uniform(0.5, 1.5, 400)
    weights, offset = logistic(values, holds, counts, pull=0.0)
    missed = counts * (holds - 1 / (1 + np.exp(-(values @ weights + offset))))
    assert missed.mean() == pytest.approx(0, abs=1e-4)
    assert missed @ values / 400 == pytest.approx([0, 0], abs=1e-4)


def test_an_observation_that_counts_twice_is_two_of_them() -> None:
    values, holds = _told(60, np.random.default_rng(3))
    twice = logistic(values, holds, np.where(np.arange(60) < 10, 2.0, 1.0), pull=0.0)
    both = np.concatenate([np.arange(60), np.arange(10)])
    written = logistic(values[both], holds[both], np.ones(70), pull=0.0)
    assert twice[0] == pytest.approx(written[0], rel=1e-4)
    assert twice[1] == pytest.approx(written[1], rel=1e-4)


def test_a_pull_shrinks_and_a_value_that_never_changes_gets_nothing() -> None:
    values, holds = _told(200, np.random.default_rng(4))
    flat = np.hstack([values, np.full((200, 1), 7.0)])
    free, pulled = (logistic(flat, holds, np.ones(200), pull=pull)[0] for pull in (1e-6, 1.0))
    assert np.abs(pulled[:2] * values.std(axis=0)).sum() < np.abs(free[:2] * values.std(axis=0)).sum() / 2
    assert free[2] == 0
