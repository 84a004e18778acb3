"""A matching head learns over the shared loop: it resumes to the same bits and keeps its best weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.sides import Sides
from threadmatch.model.kpm import KPMConfig, KPMHead
from threadmatch.model.train.loop.run_folder import KPM, Run
from threadmatch.model.train.phases.kpm_head import KPMSettings, train_kpm_head

SETTINGS = KPMSettings(steps=60, queries=16, negatives=5, shortlist=20, learning_rate=1e-2, evaluate_every=20)


def _head() -> KPMHead:
    torch.manual_seed(0)
    return KPMHead(KPMConfig(channels=8, grid=(2, 2), dropout=0.1))


def test_a_matching_head_learns_to_rank_maps_whose_parts_moved(tmp_path: Path) -> None:
    head = _head()
    train, val = _moved(range(60), 0), _moved(range(100, 140), 1)
    before = train_kpm_head(head, train, val, settings=replace(SETTINGS, steps=0), run=Run(tmp_path / "start"))
    after = train_kpm_head(head, train, val, settings=SETTINGS, run=Run(tmp_path / "run"))
    assert after["kpm_mrr"] > before["kpm_mrr"] + 0.2


def test_a_killed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    train, val = _moved(range(30), 0), _moved(range(100, 120), 1)
    settings = replace(SETTINGS, steps=9, evaluate_every=3)

    class PowerCutError(RuntimeError):
        pass

    def cut(step: int, _: dict[str, float]) -> None:
        if step == 6:
            raise PowerCutError

    whole, torn, fresh = _head(), _head(), _head()
    train_kpm_head(whole, train, val, settings=settings, run=Run(tmp_path / "whole"))
    with pytest.raises(PowerCutError):
        train_kpm_head(torn, train, val, settings=settings, run=Run(tmp_path / "torn", after_evaluation=cut))
    torch.manual_seed(99)  # another process has drawn other numbers
    train_kpm_head(fresh, train, val, settings=settings, run=Run(tmp_path / "torn"))
    for name, value in whole.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    assert (tmp_path / "torn" / KPM.log).read_text().count("\n") == 4


def _moved(products: range, seed: int) -> Sides[EncodedSet]:
    """Products are maps; a query shows its product's positions in another order. Embeddings say nothing."""
    rng = np.random.default_rng(seed)
    maps = np.stack([np.random.default_rng(n).normal(0, 1, (4, 8)) for n in products])

    def view(shown: np.ndarray) -> EncodedSet:
        images = [LabelledImage(Path("none"), str(n), f"p{n}", None, "", "") for n in products]
        embeddings = rng.normal(0, 1, (len(products), 3)).astype(np.float32)
        regions = (shown + rng.normal(0, 0.1, shown.shape)).astype(np.float16)
        return EncodedSet(images, {"embedding": embeddings, "regions": regions})

    return Sides(view(maps), view(np.stack([one[rng.permutation(4)] for one in maps])))
