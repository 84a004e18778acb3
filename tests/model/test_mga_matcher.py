"""Alignment as matchers over what a gallery keeps: scores, exact shares, maps; and as a part of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import TINY_CONFIG
from threadmatch.model.alignment.config import AlignmentConfig
from threadmatch.model.alignment.part import AlignmentPart, fused_embedding
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model, load_model
from threadmatch.model.matching import as_explaining
from threadmatch.model.mga_matcher import MGAEmbeddingMatcher, MGAMatcher

CONFIG = AlignmentConfig(grid=(4, 5), channels=7, embedding_channels=6, slot_channels=8)
Features = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def part() -> AlignmentPart:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AlignmentPart(CONFIG)
        for weight in made.parameters():
            weight.data.add_(0.2 * torch.randn_like(weight))
    return made.eval().requires_grad_(False)


def features(part: AlignmentPart, count: int, seed: int) -> Features:
    random = np.random.default_rng(seed)
    cells = torch.from_numpy(random.standard_normal((count, 20, 7)).astype(np.float32))
    with torch.inference_mode():
        slots, maps = part.aggregator(cells)
    vectors = random.standard_normal((count, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {"slots": slots.numpy(), "slot_maps": maps.numpy(), "embedding": vectors}


def first(many: Features) -> Features:
    return {name: values[0] for name, values in many.items()}


def test_an_items_score_is_the_same_alone_and_among_others(part: AlignmentPart) -> None:
    matcher, query, items = MGAMatcher(part), first(features(part, 1, 1)), features(part, 5, 2)
    none = {name: values[:0] for name, values in items.items()}
    single = {name: values[3:4] for name, values in items.items()}
    together, alone, nothing = matcher.score_many([query] * 3, [items, single, none])
    assert together.shape == (5,)
    assert together.dtype == np.float32
    assert nothing.shape == (0,)
    np.testing.assert_allclose(alone, together[3:4], atol=1e-6)
    assert np.abs(together).max() <= 1


def test_the_score_is_the_same_the_other_way_round(part: AlignmentPart) -> None:
    matcher, one, other = MGAMatcher(part), features(part, 1, 1), features(part, 1, 2)
    [there], [back] = (matcher.score_many([first(query)], [items]) for query, items in ((one, other), (other, one)))
    np.testing.assert_allclose(there, back, atol=1e-6)


def test_the_shares_of_all_pairs_and_of_the_global_vectors_are_the_score(part: AlignmentPart) -> None:
    matcher, query, items = MGAMatcher(part), first(features(part, 1, 3)), features(part, 3, 4)
    [scores] = matcher.score_many([query], [items])
    weight = float(part.alignment.weights()[-1])
    shares = matcher._shares(query, items)  # what `evidence` sorts, before any is left out
    told = matcher.evidence(query, items, top=200)
    for n, one in enumerate(told):
        said = sum(pair.contribution or 0 for pair in one.after) + float(shares[0][n].sum())  # the pair of whole photos
        assert said + weight * float(items["embedding"][n] @ query["embedding"]) == pytest.approx(scores[n], abs=1e-5)
        assert sum(pair.weight for pair in one.after) == pytest.approx(1, abs=1e-5)
        assert {(pair.scale) for pair in one.after} == {"2x2", "3x3"}
        assert all(0 < pair.query_region < 14 and 0 < pair.item_region < 14 for pair in one.after)
        heaviest = [pair.contribution or 0 for pair in one.after]
        assert heaviest == sorted(heaviest, reverse=True)
    assert len(matcher.evidence(query, items, top=2)[0].after) == 2


def test_maps_of_both_photos_are_where_the_slots_look(part: AlignmentPart) -> None:
    matcher, query, items = MGAMatcher(part), first(features(part, 1, 3)), features(part, 3, 4)
    photo, shown = matcher.heat(query, items)
    assert photo.shape == shown.shape == (3, 4, 5)
    assert min(photo.min(), shown.min()) >= 0
    moved = {**items, "slot_maps": np.zeros_like(items["slot_maps"])}
    moved["slot_maps"][:, :, 7] = 1
    _, pinned = matcher.heat(query, moved)
    assert set(pinned.reshape(3, -1).argmax(axis=1)) == {7}
    assert (np.delete(pinned.reshape(3, -1), 7, axis=1) == 0).all()


def test_a_slots_box_holds_its_window() -> None:
    boxes = MGAMatcher(AlignmentPart(AlignmentConfig(grid=(6, 6)))).region_boxes()
    assert boxes.shape == (14, 4)
    np.testing.assert_allclose(boxes[1], [0, 0, 0.5, 0.5], atol=0.17)
    np.testing.assert_allclose(boxes[13], [2 / 3, 2 / 3, 1, 1], atol=0.17)
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_the_one_vector_ranks_by_its_cosine(part: AlignmentPart) -> None:
    query, items = features(part, 1, 5), features(part, 4, 6)
    [scores] = MGAEmbeddingMatcher(part).score_many([first(query)], [items])
    one, many = (
        fused_embedding(torch.from_numpy(of["embedding"]), torch.from_numpy(of["slots"]), CONFIG.spans)
        for of in (query, items)
    )
    np.testing.assert_allclose(scores, (many @ one[0]).numpy(), atol=1e-6)


def test_a_model_with_the_part_makes_slots_and_has_the_matcher(tmp_path: Path) -> None:
    network = GRNet(TINY_CONFIG)
    network.name = "tiny"
    rows, columns = network.map_grid()
    network.attach(
        AlignmentPart(
            AlignmentConfig(
                grid=(rows, columns),
                channels=network.region_channels,
                embedding_channels=network.embedding_dim,
                slot_channels=16,
                sides=(1, 2),
            )
        )
    )
    save_checkpoint(network, tmp_path / "tiny")
    model = load_model(tmp_path / "tiny", device="cpu", engine="torch")
    assert "mga" in model.matchers
    assert as_explaining(model.matchers["mga"]) is not None
    made = model.encode(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))
    assert made["slots"].shape == (3, 5, 16)
    np.testing.assert_allclose(np.linalg.norm(made["slots"], axis=-1), 1, atol=1e-4)
    np.testing.assert_allclose(made["slot_maps"].sum(axis=-1), 1, atol=1e-4)
    query = {name: values[1] for name, values in made.items()}
    [scores] = model.matchers["mga"].score_many([query], [made])
    assert scores.argmax() == 1
    assert "mga" not in load_model_without(tmp_path / "tiny").matchers


def load_model_without(folder: Path) -> Model:
    """The same model, its part's folder taken out."""
    for path in (folder / "alignment").iterdir():
        path.unlink()
    (folder / "alignment").rmdir()
    return load_model(folder, device="cpu", engine="torch")
