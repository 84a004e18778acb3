"""Features and their form on disk."""

from __future__ import annotations

import numpy as np
import pytest

from threadmatch.model.coded import Coded
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


@pytest.mark.parametrize("dtype", ["int8", "int4", "int2"])
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
    with pytest.raises(ValueError, match="int4 packs 2 a byte"):
        FeatureSpec("cells", (2, 3), "int4")


def test_two_bits_keep_twice_as_many_numbers_in_the_same_bytes() -> None:
    spec = FeatureSpec("cells", (49, 512), "int2")
    values = np.random.default_rng(1).standard_normal((49, 512)).astype(np.float32)
    [record] = [spec.pack(values)]
    stored = spec.stored([record])
    assert isinstance(stored, Coded)
    assert set(np.unique(stored.codes)) == {-3, -1, 1, 3}
    np.testing.assert_array_equal(np.sign(stored.codes[0]), np.sign(values))
    back = stored.floats()[0]
    cosines = (values * back).sum(axis=1) / np.linalg.norm(values, axis=1) / np.linalg.norm(back, axis=1)
    # Four levels leave 0.1188 of the squared length of normal numbers (Max, 1960), so a cosine of sqrt(1 - 0.1188).
    assert cosines.mean() == pytest.approx(0.939, abs=0.004)
    assert len(record) == spec.size_bytes == 49 * (128 + 2) == 6370
    assert not spec.unpack([spec.pack(np.zeros((49, 512)))])[0].any()
    with pytest.raises(ValueError, match="int2 packs 4 a byte"):
        FeatureSpec("cells", (2, 6), "int2")


@pytest.mark.parametrize("dtype", ["int4", "int2"])
def test_numbers_that_share_a_byte_come_back_in_their_places(dtype: FeatureType) -> None:
    """The first bytes of the first vector, worked out by hand: number n stands with n + K / 2, or with n + K / 4."""
    spec = FeatureSpec("cells", (1, 8), dtype)
    values = np.array([[-3, -1, 1, 3, 3, 1, -1, -3]], np.float32)
    record = spec.pack(values)
    if dtype == "int2":  # -3, -1, 1, 3 are 0, 1, 2, 3; byte 0 has numbers 0, 2, 4, 6 and byte 1 the others
        assert record[:2] == bytes([0 | 2 << 2 | 3 << 4 | 1 << 6, 1 | 3 << 2 | 2 << 4 | 0 << 6])
    else:  # a code is 8 less than its half byte, and here 7 / (2.6 sqrt 5) = 1.204 times the number: -4, -1, 1, 4
        assert record[:2] == bytes([4 | 12 << 4, 7 | 9 << 4])
    np.testing.assert_array_equal(np.sign(spec.unpack([record])[0]), np.sign(values))


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
