"""The sparse graph and its inputs, rewritten as loops over cells, neighbours and items."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.errors import ConfigError
from threadmatch.model.node_inputs import INPUTS, TINT_INPUTS, node_inputs
from threadmatch.model.sparse_graph import (
    ASKED,
    CENTRE,
    LEAST,
    PLAIN,
    TERMS,
    SparseGraph,
    agreement,
    beside,
    node_terms,
)

GRID = (3, 4)
ROWS, COLUMNS = GRID
N, P, K = 5, 12, 7


def _units(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def _tints(*shape: int, seed: int) -> Tensor:
    wide = torch.tensor([30.0, 15.0, 15.0])[:, None]
    return wide * torch.randn(*shape, 3, P, generator=torch.Generator().manual_seed(seed))


def _inputs(n: int = N) -> Tensor:
    tints = (_tints(seed=3), _tints(n, seed=4))
    return node_inputs(_units(P, K, seed=1), _units(n, P, K, seed=2), grid=GRID, tints=tints)


def _middle(i: int) -> tuple[float, float]:
    return (i % COLUMNS + 0.5) / COLUMNS - 0.5, (i // COLUMNS + 0.5) / ROWS - 0.5


def _outer(i: int) -> bool:
    return i % COLUMNS in (0, COLUMNS - 1) or i // COLUMNS in (0, ROWS - 1)


def _neighbours(i: int) -> list[int]:
    return [
        j for j in range(P) if j != i and abs(i % COLUMNS - j % COLUMNS) <= 1 and abs(i // COLUMNS - j // COLUMNS) <= 1
    ]


def _colours(one: list[float], other: list[float]) -> dict[str, float]:
    (light, a, b), (partners, u, v) = one, other
    return {"tint": math.sqrt(min(40, math.hypot(a - u, b - v)) / 20), "light": min(50, abs(light - partners)) / 25}


def _as_loops(query: Tensor, items: Tensor) -> list[list[dict[str, float]]]:
    """Every number by name, [item][node]."""
    found: list[list[dict[str, float]]] = [[{} for _ in range(P)] for _ in range(N)]
    around_photo = F.normalize(torch.stack([query[k] for k in range(P) if _outer(k)]).mean(0), dim=0)
    for n, i in itertools.product(range(N), range(P)):
        cosines = [float(query[i] @ items[n, j]) for j in range(P)]
        j = max(range(P), key=lambda k: cosines[k])
        back = [max(float(query[m] @ items[n, k]) for m in range(P)) for k in range(P)]
        around_item = F.normalize(torch.stack([items[n, k] for k in range(P) if _outer(k)]).mean(0), dim=0)
        (x, y), (u, v) = _middle(i), _middle(j)
        found[n][i] = {
            "cosine": cosines[j],
            "margin": cosines[j] - max(value for k, value in enumerate(cosines) if k != j),
            "mutual": float(cosines[j] >= back[j] - 1e-7),
            "mutual_gap": cosines[j] - back[j],
            "same_place": cosines[i],
            "backwards": back[i],
            "dx": u - x,
            "dy": v - y,
            "distance": math.hypot(u - x, v - y),
            "partner_border": float(items[n, j] @ around_item),
            "off_centre": math.hypot(x, y),
            "border": float(query[i] @ around_photo),
            "alone": sum(float(query[i] @ query[k]) for k in range(P)) / P,
            **_colours(_tints(seed=3)[:, i].tolist(), _tints(N, seed=4)[n, :, j].tolist()),
        }
    for i in range(P):
        column = [found[n][i]["cosine"] for n in range(N)]
        for n in range(N):
            mean, rest = sum(column) / N, [value for m, value in enumerate(column) if m != n]
            deviation = math.sqrt(sum((value - mean) ** 2 for value in column) / (N - 1))
            found[n][i] |= {
                "spread": deviation,
                "above_mean": column[n] - mean,
                "above_best_other": column[n] - max(rest),
                "standing": (column[n] - mean) / (deviation + 1e-3),
                "share_beaten": sum(column[n] > value for value in rest) / (N - 1),
            }
    return found


@pytest.mark.parametrize("name", INPUTS)
def test_each_input_is_what_loops_find(name: str) -> None:
    expected = _as_loops(_units(P, K, seed=1), _units(N, P, K, seed=2))
    actual = _inputs()
    assert actual.shape == (N, P, len(INPUTS))
    for n, i in itertools.product(range(N), range(P)):
        assert actual[n, i, INPUTS.index(name)].item() == pytest.approx(expected[n][i][name], abs=1e-5), (n, i)


def test_a_lone_item_has_no_rivals() -> None:
    inputs = _inputs(1)
    for name in ("above_mean", "above_best_other", "standing", "share_beaten", "spread"):
        assert not inputs[..., INPUTS.index(name)].any()


def test_colours_that_are_not_known_say_nothing() -> None:
    query, items = _units(P, K, seed=1), _units(N, P, K, seed=2)
    plain = node_inputs(query, items, grid=GRID)
    known = [name not in TINT_INPUTS for name in INPUTS]
    torch.testing.assert_close(plain[..., known], _inputs()[..., known])
    assert not plain[..., [not one for one in known]].any()
    assert SparseGraph(GRID, {"mutual:tint": -1.0}).reads_tints
    assert SparseGraph(GRID, presence={"light": -1.0}).reads_tints
    assert not SparseGraph(GRID, {"cosine": 1.0, "tint": 0.0}).reads_tints


def test_presence_is_its_equation_and_leaves_the_score_as_it_is() -> None:
    inputs, weights = _inputs(), {"cosine": 9.0, "standing": -2.0, "mutual:cosine": 4.0}
    plain = SparseGraph(GRID, {"agree": 2.0}, bias=0.3)
    graph = SparseGraph(GRID, {"agree": 2.0}, bias=0.3, presence=weights, presence_bias=-1.5)
    score, presence = graph.score_and_presence(inputs)
    torch.testing.assert_close(score, plain.score(inputs))
    torch.testing.assert_close(graph.contributions(inputs), plain.contributions(inputs))
    assert presence is not None
    terms = node_terms(inputs, GRID).sum(dim=1)  # (n, T)
    for n in range(N):
        logit = -1.5 + sum(weight * terms[n, TERMS.index(name)].item() for name, weight in weights.items())
        assert presence[n].item() == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)
    assert plain.score_and_presence(inputs)[1] is None


def test_a_graph_comes_back_from_json_with_its_presence_and_without_as_it_was_before_there_was_one() -> None:
    graph = SparseGraph(GRID, {"agree": 2.0}, presence={"cosine": 1.0}, presence_bias=0.5)
    assert SparseGraph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph
    assert set(SparseGraph(GRID, {"agree": 2.0}).to_dict()) == {"grid", "weights", "cosine_scale", "bias"}
    with pytest.raises(ConfigError, match="no terms"):
        SparseGraph(GRID, presence={"nonsense": 1.0})


def test_beside_are_the_cells_around_in_equal_parts() -> None:
    actual = beside(GRID)
    for i, j in itertools.product(range(P), range(P)):
        around = _neighbours(i)
        assert actual[i, j].item() == pytest.approx(1 / len(around) if j in around else 0.0)


def test_agreement_is_its_equation_written_as_loops() -> None:
    moved = _units(N, P, 2, seed=5) / 3
    actual = agreement(moved, GRID)
    for n, i in itertools.product(range(N), range(P)):
        around = _neighbours(i)
        total = 0.0
        for j in around:
            dx, dy = ((moved[n, i] - moved[n, j]) * torch.tensor([COLUMNS, ROWS])).tolist()
            total += math.exp(-(dx**2 + dy**2) / 2)
        assert actual[n, i].item() == pytest.approx(total / len(around), abs=1e-5)


def _terms_as_loops(nodes: list[dict[str, float]], agree: list[float]) -> dict[str, list[float]]:
    """Of one item: each term's nodes."""
    values = [{**node, "agree": a, "agree_cosine": a * node["cosine"]} for node, a in zip(nodes, agree, strict=True)]
    asked = {
        "centre": [math.exp(-((v["off_centre"] / CENTRE) ** 2)) for v in values],
        "inside": [max(LEAST, 1 - v["border"]) for v in values],
        "spread": [v["spread"] for v in values],
        "mutual": [v["mutual"] + 1e-3 for v in values],
        "distinct": [max(LEAST, 1 - v["alone"]) for v in values],
        "partner_inside": [max(LEAST, 1 - v["partner_border"]) for v in values],
        "agree": [v["agree"] + 1e-3 for v in values],
    }
    terms = {name: [v[name] / P for v in values] for name in PLAIN}
    pairs = [(who, what) for who in ASKED for what in ("cosine", "above_best_other")]
    coloured = [(who, what) for who in (*ASKED, "agree") for what in ("tint", "light")]
    for who, what in [*pairs, *coloured, ("centre", "backwards"), ("centre", "agree"), ("agree", "cosine")]:
        total = sum(asked[who]) + 1e-6
        terms[f"{who}:{what}"] = [w / total * v[what] for w, v in zip(asked[who], values, strict=True)]
    terms |= {name: [v[name] / P for v in values] for name in ("tint", "light")}
    terms["agree"] = [v["agree"] / P for v in values]
    terms["agree_cosine"] = [v["agree_cosine"] / P for v in values]
    terms["square"] = [max(0.0, v["cosine"]) ** 2 / P for v in values]
    ordered = sorted(range(P), key=lambda i: -values[i]["cosine"])
    for name, best in (("best_half", 6), ("best_quarter", 3)):
        terms[name] = [values[i]["cosine"] / best if i in ordered[:best] else 0.0 for i in range(P)]
    return terms


@pytest.mark.parametrize("name", TERMS)
def test_each_term_is_what_loops_find(name: str) -> None:
    inputs = _inputs()
    agree = agreement(inputs[..., [INPUTS.index("dx"), INPUTS.index("dy")]], GRID)
    actual = node_terms(inputs, GRID)
    assert actual.shape == (N, P, len(TERMS))
    for n in range(N):
        nodes = [{k: float(inputs[n, i, at]) for at, k in enumerate(INPUTS)} for i in range(P)]
        expected = _terms_as_loops(nodes, agree[n].tolist())[name]
        assert actual[n, :, TERMS.index(name)].tolist() == pytest.approx(expected, abs=1e-5)


def _graph() -> SparseGraph:
    return SparseGraph(GRID, {"mutual:cosine": 3.0, "agree": -2.0, "best_half": 1.5}, bias=0.3)


def test_a_graph_without_weights_is_the_dense_match() -> None:
    inputs = _inputs()
    torch.testing.assert_close(SparseGraph(GRID).score(inputs), 40 * inputs[..., 0].mean(1))


def test_the_score_is_its_equation() -> None:
    inputs, graph = _inputs(), _graph()
    terms = node_terms(inputs, GRID).sum(1)
    for n in range(N):
        expected = 40 * float(inputs[n, :, 0].mean()) + 0.3
        expected += sum(weight * float(terms[n, TERMS.index(name)]) for name, weight in graph.weights.items())
        assert graph.score(inputs)[n].item() == pytest.approx(expected, abs=1e-4)


def test_contributions_and_bias_add_up_to_the_score() -> None:
    inputs, graph = _inputs(), _graph()
    torch.testing.assert_close(graph.contributions(inputs).sum(1) + 0.3, graph.score(inputs))


def test_a_graph_comes_back_from_json() -> None:
    assert SparseGraph.from_dict(json.loads(json.dumps(_graph().to_dict()))) == _graph()


@pytest.mark.parametrize("wrong", [{"weights": {"nonsense": 1.0}}, {"more": 1}, {"grid": 7}])
def test_a_damaged_graph_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SparseGraph.from_dict(_graph().to_dict() | wrong)


def test_what_a_search_computes_at_once_is_the_sum_of_the_terms() -> None:
    inputs = _inputs()
    weights = {name: 0.3 + 0.1 * at for at, name in enumerate(TERMS)}
    by_terms = node_terms(inputs, GRID) @ torch.tensor(list(weights.values())) + 40 * inputs[..., 0] / P
    torch.testing.assert_close(SparseGraph(GRID, weights).contributions(inputs), by_terms)
