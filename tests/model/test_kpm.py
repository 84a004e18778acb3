"""Kronecker-product matching written as loops, every dimension different; and the colour floor."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from threadmatch.model.color import BINS, ColorMatcher, color_regions
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.kpm import KPMConfig, KPMHead, KPMMatcher, load_kpm, save_kpm, warped_difference

B, GRID, C, GROUPS = 2, (1, 3), 10, 2
P = 3


def _maps(seed: int, count: int = B) -> torch.Tensor:
    return torch.randn(count, P, C, generator=torch.Generator().manual_seed(seed))


def _difference_as_loops(query: torch.Tensor, gallery: torch.Tensor) -> list[float]:
    """One pair: (P, C) twice -> C numbers."""
    total = [0.0] * query.shape[1]
    for p in range(P):
        x = gallery[p]
        cosines = [float(x @ query[r] / (x.norm() * query[r].norm())) for r in range(P)]
        weights = [math.exp(cosine) / sum(math.exp(other) for other in cosines) for cosine in cosines]
        for c in range(query.shape[1]):
            warped = sum(weights[r] * float(query[r, c]) for r in range(P))
            total[c] += (warped - float(x[c])) / P
    return total


def test_the_warped_difference_is_the_paper_s_written_as_loops() -> None:
    query, gallery = _maps(0), _maps(1)
    actual = warped_difference(query, gallery)
    for b in range(B):
        torch.testing.assert_close(actual[b], torch.tensor(_difference_as_loops(query[b], gallery[b])))


def test_every_head_reads_every_group_and_the_score_is_the_mean_logit_difference() -> None:
    torch.manual_seed(2)
    head = KPMHead(KPMConfig(channels=C, grid=GRID, groups=GROUPS)).eval()
    for norm, classifier in zip(head.norms, head.classifiers, strict=True):
        torch.nn.init.normal_(classifier.weight)
        torch.nn.init.normal_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.normal_(norm.weight)
    query, gallery = _maps(3), _maps(4)
    width = C // GROUPS
    for b in range(B):
        differences = []
        for h, g in itertools.product(range(GROUPS), range(GROUPS)):
            part = slice(g * width, (g + 1) * width)
            u = torch.tensor(_difference_as_loops(query[b, :, part], gallery[b, :, part]))
            norm, classifier = head.norms[h], head.classifiers[h]
            seen = (u * u - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
            logits = classifier.weight @ seen + classifier.bias
            differences.append(logits[1] - logits[0])
        expected = torch.stack(differences).mean()
        torch.testing.assert_close(head(query, gallery)[b], expected)


def test_the_matcher_reads_the_last_regions_in_chunks_of_any_size() -> None:
    torch.manual_seed(5)
    head = KPMHead(KPMConfig(channels=C, grid=GRID, groups=GROUPS))
    query, items = _maps(6, 1)[0], _maps(7, 5)
    whole = torch.zeros(1, C), torch.zeros(5, 1, C)
    expected = _scores(KPMMatcher(head), query, items)
    chunked = KPMMatcher(head, chunk_pairs=2)
    found = _scores(chunked, torch.cat([whole[0], query]), torch.cat([whole[1], items], dim=1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert _scores(KPMMatcher(head), query, items[:0]).shape == (0,)


def _scores(matcher: KPMMatcher, query: torch.Tensor, items: torch.Tensor) -> NDArray[np.float32]:
    [scores] = matcher.score_many([{"map": query.numpy()}], [{"map": items.numpy()}])
    return scores


def test_a_head_survives_the_disk_and_refuses_other_features(tmp_path: Path) -> None:
    torch.manual_seed(8)
    head = KPMHead(KPMConfig(channels=C, grid=GRID, groups=GROUPS))
    head.train()(_maps(9, 6), _maps(10, 6))  # moves the running statistics
    save_kpm(head, tmp_path, features_fingerprint="aa")
    again = load_kpm(tmp_path, features_fingerprint="aa")
    torch.testing.assert_close(again(_maps(0), _maps(1)), head.eval()(_maps(0), _maps(1)))
    with pytest.raises(CheckpointError, match="trained on features aa"):
        load_kpm(tmp_path, features_fingerprint="bb")
    with pytest.raises(CheckpointError, match="no matching head"):
        load_kpm(tmp_path / "none", features_fingerprint="aa")
    with pytest.raises(ConfigError, match="multiple of groups"):
        KPMConfig(channels=5, groups=2)


def test_a_colour_histogram_counts_pixels_and_compares_by_overlap() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    pixels[2] = pixels[0, ::-1, ::-1]  # the same colours elsewhere
    found = color_regions(pixels)
    assert found.shape == (3, 1, math.prod(BINS))
    counts = np.zeros((3, *BINS))
    for n, row, column in itertools.product(range(3), range(8), range(8)):
        hue, saturation, value = cv2.cvtColor(pixels[n : n + 1, row, column][None], cv2.COLOR_RGB2HSV)[0, 0]
        counts[n, int(hue) * BINS[0] // 180, int(saturation) * BINS[1] // 256, int(value) * BINS[2] // 256] += 1
    np.testing.assert_allclose(found[:, 0], np.sqrt(counts.reshape(3, -1) / 64), atol=1e-6)
    [scores] = ColorMatcher().score_many([{"color": found[0]}], [{"color": found}])
    overlap = sum(math.sqrt(a * b) / 64 for a, b in zip(counts[0].ravel(), counts[1].ravel(), strict=True))
    np.testing.assert_allclose(scores, [1.0, overlap, 1.0], rtol=1e-5)
