"""What an evaluation says, in sentences: whether to deploy, with which matcher, and what cannot be relied on.

Every sentence is read off the report's figures; none has a threshold that is not named here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from threadmatch.model.chain import STAGE_ONE
from threadmatch.model.evaluate.ranking import EXHAUSTIVE, FINAL, FULL

RELIABLE_ECE: Final = 0.05
"""Gap between stated and found probability up to which probabilities are taken at their word."""
SAID_WHEN_GONE: Final = 0.7
SAID_WHEN_THERE: Final = 0.05
""""No match" is reliable where it is said of so many searches without the garment, and of so few with it."""
LOST_IN_STAGE_ONE: Final = 0.02
"""Share of the queries whose right item never reaches the second stage from which on that is worth a sentence."""
FEW_QUERIES: Final = 300
SMALL_GROUP: Final = 20
"""Queries of a group below which its rates say little."""
NORMAL_95: Final = 1.959964


def verdict(result: dict[str, Any]) -> list[str]:
    """The sentences of a report, the most important first.

    Args:
        result: of `evaluation.report`.
    """
    return [*_first(result), *_reranking(result), *_sure(result), *_lost(result), *_weakest(result), *_few(result)]


def wilson(rate: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n, 0..1 (Wilson, 1927): holds for few queries and near 0 and 1, too."""
    if not n:
        return 0.0, 1.0
    z2 = NORMAL_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _best(result: dict[str, Any]) -> str:
    return FINAL if FINAL in result["methods"] else STAGE_ONE


def _first(result: dict[str, Any]) -> Iterator[str]:
    name, n = _best(result), result["queries"]
    rates = result["methods"][name]
    low, high = wilson(rates["top1"], n)
    yield (
        f"The right item comes first for {_percent(rates['top1'])} % of {n} queries "
        f"[{_percent(low)}, {_percent(high)}], and among the first five for {_percent(rates['top5'])} %."
    )


def _reranking(result: dict[str, Any]) -> Iterator[str]:
    """What the chain adds over each cheaper way, and the cheapest that does as well."""
    over = {name: gain["top1"] for name, gain in result.get("gain_over", {}).items() if name not in (FULL, EXHAUSTIVE)}
    enough = next((name for name, gain in over.items() if gain["low"] <= 0), None)
    for name, gain in over.items():
        what = "stage one alone" if name == STAGE_ONE else name
        worth = ""
        if gain["high"] < 0:
            worth = f"; that is a loss, so take `matcher={name}`"
        elif name == enough:
            worth = f"; it is within chance, so `matcher={name}` will do"
        yield f"The whole chain adds {_interval(gain)} points over {what}{worth}."


def _sure(result: dict[str, Any]) -> Iterator[str]:
    calibration, no_match = result.get("calibration"), result.get("no_match")
    if calibration:
        ece = calibration["ece"]
        if ece <= RELIABLE_ECE:
            yield f"Probabilities hold: stated and found differ by {_percent(ece)} points in the mean."
        else:
            yield (
                f"Probabilities are off by {_percent(ece)} points in the mean: run `threadmatch calibrate` on pairs of "
                "your own."
            )
    if no_match and no_match["threshold"] is not None:
        there, gone = no_match["false_reject"], 1 - no_match["false_accept"]
        said = (
            f'"No match" is said of {_percent(gone)} % of the searches whose garment is not there, and wrongly of '
            f"{_percent(there)} % of those whose garment is"
        )
        if gone >= SAID_WHEN_GONE and there <= SAID_WHEN_THERE:
            yield f"{said}."
        else:
            yield (
                f"{said}: it is no reason to send a customer away. `threadmatch calibrate` fits it, where that was not "
                "done."
            )


def _lost(result: dict[str, Any]) -> Iterator[str]:
    recall = {int(k): value for k, value in result["shortlist_recall"].items()}
    depths = [k for k in recall if k <= result["candidates"]]
    if not depths:
        return
    at = max(depths)
    missed = result["answerable"] / max(1, result["queries"]) - recall[at]
    if missed > LOST_IN_STAGE_ONE:
        yield (
            f"For {_percent(missed)} % of the queries the right item is in the gallery but not among the first {at} of "
            "stage one, where no reranking finds it: raise `candidates`, or train on pairs of your own."
        )


def _weakest(result: dict[str, Any]) -> Iterator[str]:
    name = _best(result)
    groups = {**result["by_setup"], **result["by_category"]}
    large = {group: own for group, own in groups.items() if own["queries"] >= SMALL_GROUP and name in own}
    if len(large) > 1:
        group = min(large, key=lambda one: float(large[one][name]["top1"]))
        own = large[group]
        yield f"Weakest: {group}, with {_percent(own[name]['top1'])} % of {own['queries']} queries."


def _few(result: dict[str, Any]) -> Iterator[str]:
    if gone := result["queries"] - result["answerable"]:
        yield f"{gone} queries show a product that the gallery does not have; they count as misses."
    if result["queries"] < FEW_QUERIES:
        low, high = wilson(0.5, result["queries"])
        yield (
            f"{result['queries']} queries are few: rates are known to about {50 * (high - low):.0f} points only. Gains "
            "are known better, since both methods see the same queries."
        )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}".removesuffix(".0")


def _interval(gain: dict[str, float]) -> str:
    return f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
