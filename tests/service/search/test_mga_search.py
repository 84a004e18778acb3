"""Multi-granular alignment all the way: ingested, searched with, explained by pairs of slots and heat maps."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.conftest import TINY_CONFIG
from tests.support.serving import build_gallery, photo
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.alignment.config import AlignmentConfig
from threadmatch.model.alignment.part import AlignmentPart
from threadmatch.model.chain import Stage
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.retriever import Retriever


def aligned_model() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GRNet(TINY_CONFIG)
    network.name = "aligned"
    sizes = {"channels": network.region_channels, "embedding_channels": network.embedding_dim}
    network.attach(AlignmentPart(AlignmentConfig(grid=network.map_grid(), slot_channels=16, sides=(1, 2), **sizes)))
    network.chain = (Stage("mga"), Stage("greedy", 2))
    return Model(network)


async def test_a_search_ranks_by_slots_and_shows_where_they_looked(tmp_path: Path) -> None:
    model = aligned_model()
    folder = build_gallery(tmp_path, model, ["a", "b", "c", "d", "e"])
    options = SearchOptions.model_validate(
        {"matcher": "mga", "explain": True, "heatmaps": "inline", "collapse_duplicates": False, "top_k": 5}
    )
    async with ModelQueues(model) as queues:
        retriever = Retriever(Gallery.open(folder, features_fingerprint=model.features_fingerprint), queues)
        found = await retriever.search(photo(3), options)
        chained = await retriever.search(photo(3), SearchOptions(top_k=5, collapse_duplicates=False))
    assert found.matches[0].item.id == "c", "the photo itself"
    assert {match.stage for match in found.matches} == {"mga"}
    assert {match.probability for match in found.matches} == {None}
    for match in found.matches:
        assert match.evidence
        assert {pair.scale for pair in match.evidence} == {"2x2"}
        assert match.heatmaps is not None
    assert [match.stage for match in chained.matches] == ["greedy"] * 2 + ["mga"] * 3, (
        "a stage of a chain like any other"
    )
