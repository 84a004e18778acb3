"""Features and their form on disk."""

from __future__ import annotations

import numpy as np
import pytest

from threadmatch.model.features import FeatureSpec, FeatureType, indexed_feature


@pytest.mark.parametrize(
    ("dtype", "size", "error"), [("float32", 96, 0.0), ("float16", 48, 1e-3), ("int8", 36, 5e-3), ("int4", 24, 0.35)]
)
def test_a_record_has_its_size_and_comes_back(dtype: FeatureType, size: int, error: float) -> None:
    spec = FeatureSpec("cells", (2, 3, 4), dtype)
    values = np.random.default_rng(0).uniform(-1, 1, (5, 2, 3, 4)).astype(np.float32)
    records = [spec.pack(one) for one in values]
    assert spec.size_bytes == size == len(records[0])
    back = spec.unpack(records)
    assert back.dtype == (np.float16 if dtype == "float16" else np.float32)
    np.testing.assert_allclose(back.astype(np.float32), values, atol=error, rtol=0)


def test_each_int8_vector_has_a_scale_of_its_own_and_zeros_stay_zeros() -> None:
    spec = FeatureSpec("cells", (3, 4), "int8")
    values = np.array([[1e-3, -2e-3, 0, 5e-4], [100.0, 3, -50, 0], [0, 0, 0, 0]], np.float32)
    [back] = spec.unpack([spec.pack(values)])
    for vector, kept in zip(values, back, strict=True):
        np.testing.assert_allclose(kept, vector, atol=float(np.abs(vector).max()) / 127)
    assert not back[2].any()


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_vector_of_whole_numbers_keeps_its_length(dtype: FeatureType) -> None:
    spec = FeatureSpec("cells", (20, 16), dtype)
    values = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
    [back] = spec.unpack([spec.pack(values)])
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), np.linalg.norm(values, axis=1), rtol=1e-3)


def test_four_bits_keep_directions_in_half_the_bytes() -> None:
    spec = FeatureSpec("cells", (49, 256), "int4")
    values = np.random.default_rng(1).standard_normal((49, 256)).astype(np.float32)
    [back] = spec.unpack([spec.pack(values)])
    cosines = (values * back).sum(axis=1) / np.linalg.norm(values, axis=1) / np.linalg.norm(back, axis=1)
    assert cosines.min() > 0.98
    assert spec.size_bytes == 49 * (128 + 2) == 6370
    assert not spec.unpack([spec.pack(np.zeros((49, 256)))])[0].any()
    with pytest.raises(ValueError, match="int4 packs two a byte"):
        FeatureSpec("cells", (2, 3), "int4")


def test_another_shape_or_size_is_refused_by_name() -> None:
    spec = FeatureSpec("cells", (3, 4))
    with pytest.raises(ValueError, match=r"'cells' has shape \(4, 3\), expected \(3, 4\)"):
        spec.pack(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="has 5 bytes, expected 24"):
        spec.unpack([b"12345"])


def test_a_spec_survives_json() -> None:
    spec = FeatureSpec("embedding", (7,), "float32", indexed=True)
    assert FeatureSpec.from_dict(spec.to_dict()) == spec


def test_exactly_one_feature_is_indexed() -> None:
    one, other = FeatureSpec("a", (2,), indexed=True), FeatureSpec("b", (2,))
    assert indexed_feature([other, one]) is one
    with pytest.raises(ValueError, match="0 features are indexed"):
        indexed_feature([other])
