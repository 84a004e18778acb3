"""The sparse graph as a matcher: scores, exact shares, and a model that carries it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import TINY_CONFIG
from threadmatch.model.certainty import VALUES, Certainty, match_values, probability
from threadmatch.model.chain import Ranking, Stage
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.dense import DenseMatcher
from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model, load_model
from threadmatch.model.matchers import named
from threadmatch.model.matching import tell_many
from threadmatch.model.sparse_graph import SparseGraph
from threadmatch.model.sparse_matcher import SparseGraphMatcher

P, K = 6, 8
GRAPH = SparseGraph((2, 3), {"mutual:cosine": 3.0, "standing": 0.5}, bias=-1.0)
HALVES = (0.5,) * len(VALUES)
SURE = Certainty(weights=HALVES, offset=0.1, low=(-1.0,) * len(VALUES), high=(1.0,) * len(VALUES), no_match_below=0.2)


def _cells(*shape: int, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((*shape, K)).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def _scores(graph: SparseGraph, query: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float32]:
    [scores] = SparseGraphMatcher(graph).score_many([{"cells": query}], [{"cells": items}])
    return scores


def test_a_graph_without_weights_scores_as_the_dense_match() -> None:
    query, items = _cells(P, seed=1), _cells(7, P, seed=2)
    [dense] = DenseMatcher(lambda: (2, 3)).score_many([{"cells": query}], [{"cells": items}])
    np.testing.assert_allclose(_scores(SparseGraph((2, 3)), query, items), 40 * dense, rtol=1e-5)


def test_what_all_cells_add_and_the_bias_are_the_score() -> None:
    query, items = {"cells": _cells(P, seed=3)}, {"cells": _cells(4, P, seed=4)}
    told = SparseGraphMatcher(GRAPH).evidence(query, items, top=P)
    scores = _scores(GRAPH, query["cells"], items["cells"])
    for one, score in zip(told, scores, strict=True):
        assert sum(pair.contribution or 0 for pair in one.after) - 1.0 == pytest.approx(float(score), abs=1e-4)
        assert [pair.contribution for pair in one.after] == sorted((p.contribution for p in one.after), reverse=True)  # type: ignore[type-var]
        assert sum(pair.weight for pair in one.after) == pytest.approx(1, abs=1e-5)


def test_each_cell_is_shown_with_the_partner_that_it_found() -> None:
    query, items = {"cells": _cells(P, seed=3)}, {"cells": _cells(2, P, seed=4)}
    for n, one in enumerate(SparseGraphMatcher(GRAPH).evidence(query, items, top=P)):
        for pair in one.after:
            alike = items["cells"][n] @ query["cells"][pair.query_region]
            assert pair.item_region == int(alike.argmax())


def test_heat_lies_on_both_maps_and_is_never_negative() -> None:
    query, items = {"cells": _cells(P, seed=3)}, {"cells": _cells(4, P, seed=4)}
    for heat in SparseGraphMatcher(GRAPH).heat(query, items):
        assert heat.shape == (4, 2, 3)
        assert heat.min() >= 0
        assert heat.max() > 0


def test_items_may_come_in_any_order_and_none_gives_no_score() -> None:
    query, items, turned = _cells(P, seed=3), _cells(4, P, seed=4), [2, 0, 3, 1]
    np.testing.assert_allclose(_scores(GRAPH, query, items)[turned], _scores(GRAPH, query, items[turned]), rtol=1e-5)
    assert _scores(GRAPH, query, items[:0]).shape == (0,)
    assert SparseGraphMatcher(GRAPH).evidence({"cells": query}, {"cells": items[:0]}) == []


def _network(*, sure: bool = True) -> GRNet:
    config = {**TINY_CONFIG.to_dict(), "features": ("embedding", "regions", "cells")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GRNet(GRNetConfig.from_dict(config))
    network.graph = SparseGraph(network.map_grid(), {"mutual:cosine": 3.0})
    network.certainty = SURE if sure else None
    network.chain = (Stage("dense"), Stage("sparse", 3))
    return network


def test_a_checkpoint_carries_graph_and_certainty(tmp_path: Path) -> None:
    prints = [save_checkpoint(_network(sure=sure), tmp_path / str(sure)).model for sure in (True, False)]
    assert prints[0] != prints[1], "what decides an answer takes part in the model's fingerprint"
    again = load_model(tmp_path / "True", device="cpu")
    assert again.certainty == SURE
    matcher = again.matchers["sparse"]
    assert isinstance(matcher, SparseGraphMatcher)
    assert matcher.graph == _network().graph
    assert again.chain == (Stage("dense"), Stage("sparse", 3))


def test_a_model_without_a_graph_says_so() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(GRNet(TINY_CONFIG))
    assert list(model.matchers) == ["grnet", "greedy"]
    with pytest.raises(ConfigError, match="this model has no matcher 'sparse'; it has grnet, greedy"):
        named(model.matchers, "sparse")


def test_probabilities_are_of_the_whole_chain_and_of_what_its_last_stage_scored() -> None:
    model = Model(_network())
    ranking = Ranking(5)
    dense = np.asarray([0.3, 0.9, 0.5, 0.7, 0.1], np.float32)
    ranking.rerank("dense", dense)
    assert np.isnan(model.judge(ranking).probabilities).all(), "the dense match alone is not calibrated"
    ranking.rerank("sparse", np.asarray([1.0, 3.0, 2.0], np.float32))  # of places 1, 3, 2
    judged = model.judge(ranking)
    values = match_values(np.asarray([1.0, 3.0, 2.0], np.float32), np.sort(dense)[::-1], np.asarray([1, 3, 2]))
    np.testing.assert_allclose(judged.probabilities[[1, 3, 2]], probability(SURE, values), rtol=1e-6)
    assert np.isnan(judged.probabilities[[0, 4]]).all()
    assert judged.no_match_below == 0.2


TOLD = SparseGraph((2, 3), {"mutual:cosine": 3.0}, presence={"cosine": 6.0, "standing": 1.0}, presence_bias=-2.0)


def test_a_graph_that_knows_presence_tells_it_with_the_scores() -> None:
    query, items = {"cells": _cells(P, seed=3)}, {"cells": _cells(4, P, seed=4)}
    matcher = SparseGraphMatcher(TOLD)
    [told] = tell_many(matcher, [query], [items])
    np.testing.assert_array_equal(told.scores, matcher.score_many([query], [items])[0])
    assert told.presence is not None
    assert told.presence.shape == (4,)
    assert np.ptp(told.presence) > 0.01
    assert ((told.presence > 0) & (told.presence < 1)).all()
    [alone] = tell_many(matcher, [query], [{"cells": items["cells"][:1]}])
    assert (len(alone.scores), alone.presence) == (1, None)
    [none] = tell_many(matcher, [query], [{"cells": items["cells"][:0]}])
    assert (len(none.scores), none.presence) == (0, None)
    [without] = tell_many(SparseGraphMatcher(GRAPH), [query], [items])
    assert without.presence is None
    [dense] = tell_many(DenseMatcher(lambda: (2, 3)), [query], [items])
    assert dense.presence is None


@pytest.mark.parametrize(("presence", "absent"), [([0.9, 0.19, 0.9], True), ([0.1, 0.2, 0.1], False)])
def test_where_presence_is_told_it_alone_says_no_match_and_of_the_first_match(
    presence: list[float], absent: bool
) -> None:
    network = _network()
    network.certainty = replace(SURE, no_match_below=0.0, presence_below=0.2)
    model, ranking = Model(network), Ranking(4)
    dense, last = np.asarray([0.3, 0.9, 0.5, 0.7], np.float32), np.asarray([1.0, 3.0, 2.0], np.float32)
    ranking.rerank("dense", dense)
    ranking.rerank("sparse", last, np.asarray(presence, np.float32))  # of places 1, 3, 2; the second is the first match
    judged = model.judge(ranking)
    assert judged.says_no_match == absent
    values = match_values(last, np.sort(dense)[::-1], np.asarray([1, 3, 2]))
    np.testing.assert_allclose(judged.probabilities[[1, 3, 2]], probability(SURE, values), rtol=1e-6)
    assert judged.no_match_below is None


@pytest.mark.parametrize(("best", "said"), [(0.19, True), (0.2, False), (np.nan, False)])
def test_no_match_is_said_below_the_threshold_alone(best: float, said: bool) -> None:
    from threadmatch.model.inference import Judged

    probabilities = np.asarray([np.nan, best], np.float32)
    assert Judged(probabilities, 0.2).says_no_match == said
    assert not Judged(probabilities, None).says_no_match
