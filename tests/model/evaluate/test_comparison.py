"""Models side by side, in words."""

from __future__ import annotations

import pytest

from threadmatch.model.evaluate.comparison import Compared, comparison_table, comparison_verdict


def model(name: str, gain: tuple[float, float, float] | None = None) -> Compared:
    rates = None if gain is None else dict(zip(("mean", "low", "high"), gain, strict=True))
    both = None if rates is None else {"top1": rates, "mrr": rates}
    return Compared(name, "grnet", 0.8, 0.9, 0.85, both, 20.0, 3.0, 100, 5000)


@pytest.mark.parametrize(
    ("gain", "judged"),
    [
        ((0.04, 0.01, 0.07), "ours against shipped: right first +4.0 [+1.0, +7.0] points; it is better."),
        ((-0.04, -0.07, -0.01), "right first -4.0 [-7.0, -1.0] points; it is worse."),
        ((0.02, -0.01, 0.06), "cannot tell them apart"),
        ((0.0, 0.0, 0.0), "cannot tell them apart"),
    ],
)
def test_a_gain_is_one_where_its_interval_says_so(gain: tuple[float, float, float], judged: str) -> None:
    rows = [model("shipped"), model("ours", gain)]
    [said] = comparison_verdict(rows)
    assert judged in said
    assert said in comparison_table(rows), "the command prints it too"


def test_one_model_is_compared_with_none() -> None:
    assert comparison_verdict([model("shipped")]) == comparison_verdict([]) == []
