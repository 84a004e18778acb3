"""The serving form gives the numbers of the literal one, for every setting."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from threadmatch.model.config import GRNetConfig
from threadmatch.model.engine import Engine, in_chunks
from threadmatch.model.features import REGIONS
from threadmatch.model.grnet import SimilarityHead
from threadmatch.model.matching import Matcher
from threadmatch.model.region_matchers import FeatureMatcher, GreedyMatcher, LiteralMatcher
from threadmatch.model.similarity import global_similarity

CHANNELS = 20
SETTINGS: list[dict[str, Any]] = [
    {},
    {"edges": "frozen"},
    {"edges": "frozen", "steps": 1},
    {"step_weights": "shared"},
    {"step_weights": "shared", "steps": 4},
    {"intra_scale_edges": False},
    {"inter_scale_edges": False},
    {"intra_scale_edges": False, "inter_scale_edges": False, "edges": "frozen"},
    {"steps": 1},
    {"steps": 2, "classifier": "one_logit"},
    {"scales": ("1x1",)},
    {"scales": ("1x1", "1x2", "2x1", "2x2")},
    {"projection_bias": True, "position_code": True, "blend": ("global", "greedy")},
    {"blend": ("greedy",), "region_norm": "l2", "similarity_channels": 12, "node_channels": 24},
]


def _head(**settings: Any) -> SimilarityHead:
    config = GRNetConfig(**{"similarity_channels": 24, "node_channels": 12, **settings})
    generator = torch.Generator().manual_seed(3)
    head = SimilarityHead(config, CHANNELS).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            spread = (2 / parameter.shape[-1]) ** 0.5 if parameter.ndim > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return head


def _regions(config: GRNetConfig, count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, config.regions, CHANNELS, generator=torch.Generator().manual_seed(seed)).relu()


def _scores(matcher: Matcher, query: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    [scores] = matcher.score_many([{REGIONS: query.numpy()}], [{REGIONS: candidates.numpy()}])
    return torch.from_numpy(scores)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_serving_form_agrees_with_the_literal_one(settings: dict[str, Any]) -> None:
    head = _head(**settings)
    query, candidates = _regions(head.config, 1, 0)[0], _regions(head.config, 13, 1)
    expected = _scores(LiteralMatcher(head), query, candidates)
    for chunk_pairs in (1, 5, 64):
        actual = Engine(head, chunk_pairs=chunk_pairs).score(query, candidates)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 1e-3, "a head that answers everything alike tests nothing"


def test_the_paper_sized_forms_agree_to_1e_5() -> None:
    config = GRNetConfig()
    torch.manual_seed(0)
    head = SimilarityHead(config, 1024).eval()
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(config.regions, 1024, generator=generator).relu()
    candidates = torch.randn(6, config.regions, 1024, generator=generator).relu()
    with torch.no_grad():
        head.classifier.weight.mul_(20)
    expected = _scores(LiteralMatcher(head), query, candidates)
    actual = Engine(head).score(query, candidates)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_each_of_several_queries_has_the_scores_of_itself_alone() -> None:
    head = _head()
    queries = list(_regions(head.config, 3, 4))
    candidates = [_regions(head.config, count, seed) for seed, count in ((5, 4), (6, 0), (7, 9))]
    engine = Engine(head, chunk_pairs=6)
    together = engine.score_many(queries, candidates)
    assert [len(scores) for scores in together] == [4, 0, 9]
    for query, block, scores in zip(queries, candidates, together, strict=True):
        torch.testing.assert_close(scores, engine.score(query, block), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk_pairs", [1, 6, 100])
def test_chunks_of_several_queries_give_the_scores_of_chunks_of_one(chunk_pairs: int) -> None:
    head = _head()
    queries = list(_regions(head.config, 3, 4))
    candidates = [_regions(head.config, count, seed) for seed, count in ((5, 4), (6, 0), (7, 9))]
    score = Engine(head).score_pairs
    mixed, apart = (
        in_chunks(score, queries, candidates, device=torch.device("cpu"), chunk_pairs=chunk_pairs, mixed=mixed)
        for mixed in (True, False)
    )
    for one, other in zip(mixed, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_greedy_matching_of_several_queries_is_that_of_each_alone() -> None:
    head = _head()
    queries = list(_regions(head.config, 3, 4))
    candidates = [_regions(head.config, count, seed) for seed, count in ((5, 4), (6, 0), (7, 150))]
    matcher = GreedyMatcher(head.config.grids)
    together = matcher.score_many([{REGIONS: q.numpy()} for q in queries], [{REGIONS: c.numpy()} for c in candidates])
    assert [len(scores) for scores in together] == [4, 0, 150]
    for query, block, scores in zip(queries, candidates, together, strict=True):
        torch.testing.assert_close(torch.from_numpy(scores), _scores(matcher, query, block), rtol=0, atol=1e-5)


def test_stored_half_precision_is_taken_as_it_is() -> None:
    head = _head()
    query, candidates = _regions(head.config, 1, 0)[0], _regions(head.config, 5, 1)
    halved = Engine(head).score(query.half(), candidates.half())
    torch.testing.assert_close(halved, Engine(head).score(query.half().float(), candidates.half().float()))


def test_the_paper_form_is_symmetric_in_query_and_gallery() -> None:
    head = _head()
    x, y = _regions(head.config, 1, 0), _regions(head.config, 1, 1)
    torch.testing.assert_close(head(x, y), head(y, x), rtol=1e-5, atol=1e-5)


def test_fewer_scales_edges_and_steps_change_the_answer() -> None:
    config = GRNetConfig()
    query, candidates = _regions(config, 1, 0)[0], _regions(config, 4, 1)
    answers = [
        Engine(_head(**settings)).score(query, candidates)
        for settings in ({}, {"intra_scale_edges": False}, {"inter_scale_edges": False}, {"edges": "frozen"})
    ]
    for one, other in itertools.combinations(answers, 2):
        assert not torch.allclose(one, other, atol=1e-4)


def test_every_matcher_answers_behind_one_interface() -> None:
    head = _head()
    query, candidates = _regions(head.config, 1, 0)[0], _regions(head.config, 5, 1)
    candidates[3] = query
    engine = Engine(head)
    graph = FeatureMatcher("graph", REGIONS, engine.score_pairs, chunk_pairs=engine.chunk_pairs)
    for matcher in (graph, LiteralMatcher(head)):
        assert _scores(matcher, query, candidates).shape == (5,)
    cosine = FeatureMatcher("cosine", REGIONS, lambda q, g: global_similarity(q[:, 0], g[:, 0]))
    for matcher in (cosine, GreedyMatcher(head.config.grids)):
        scores = _scores(matcher, query, candidates)
        assert int(scores.argmax()) == 3
        assert float(scores[3]) == pytest.approx(1, abs=1e-5)
