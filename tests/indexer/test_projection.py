"""The small copy of vectors, against sums written as loops; every dimension another one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from threadmatch.indexer import projection_bench
from threadmatch.indexer.projection import Axes, Projection, Widths, byte_quantizer
from threadmatch.indexer.scanning import Scan

N, E, C = 90, 12, 5
PARTS = (40, 1, 49)
Array = NDArray[np.float32]


def vectors(count: int, seed: int = 0, *, directions: int = E) -> Array:
    """(count, E) unit vectors that vary in so many directions alone."""
    random = np.random.default_rng(seed)
    spread = np.random.default_rng(99).standard_normal((directions, E))
    values = random.standard_normal((count, directions)) @ spread
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def projected(values: Array, components: int = C, *, widths: Widths = Widths(20)) -> Projection:  # noqa: B008
    axes = Axes.of(values, components)
    parts = np.split(axes.codes(values), np.cumsum(PARTS)[:-1])
    return Projection(axes.weights, parts, widths=widths)


def coded_products(values: Array, query: Array, components: int = C) -> list[float]:
    """The sum over components of (W q) times the signed byte, one by one."""
    axes = Axes.of(values, components)
    products = []
    for row in axes.codes(values):
        total = 0.0
        for component, byte in enumerate(row.tolist()):
            weight = sum(float(axes.weights[component, n]) * float(query[n]) for n in range(E))
            total += weight * (byte - 128)
        products.append(total)
    return products


def test_where_vectors_vary_in_few_directions_codes_give_their_products() -> None:
    values = vectors(N, directions=C)
    query = vectors(1, seed=1, directions=C)[0]
    np.testing.assert_allclose(coded_products(values, query), values @ query, atol=0.02)


def test_axes_are_the_strongest_and_at_right_angles() -> None:
    values = vectors(N)
    basis = Axes.of(values, C).basis
    assert basis.shape == (C, E)
    np.testing.assert_allclose(basis @ basis.T, np.eye(C), atol=1e-5)
    strength = np.square(values @ basis.T).sum(axis=0)
    assert (np.diff(strength) <= 0).all()
    _, singular, _ = np.linalg.svd(values)
    np.testing.assert_allclose(strength, singular[:C] ** 2, rtol=1e-3)
    assert Axes.of(values, 64).basis.shape == (E, E), "no more than there are"


def test_what_is_larger_than_any_of_the_sample_is_cut_off() -> None:
    values = vectors(N)
    codes = Axes.of(values, C).codes(100 * values)
    assert (codes.min(), codes.max()) == (1, 255)
    assert Axes.of(np.zeros((3, E), np.float32), C).codes(np.zeros((2, E), np.float32)).tolist() == [[128] * C] * 2


@pytest.mark.parametrize("count", [1, 7, N, N + 10])
@pytest.mark.parametrize("chosen", [None, [3], [0, 39, 40, 41, 89], list(range(42, 80)), []])
def test_the_nearest_are_those_of_the_sums(count: int, chosen: list[int] | None) -> None:
    values, query = vectors(N), vectors(1, seed=1)[0]
    positions = None if chosen is None else np.array(chosen, np.int64)
    found = projected(values).nearest(query, count, positions)
    among = list(range(N)) if chosen is None else chosen
    products = coded_products(values, query)
    expected = sorted(sorted(among, key=lambda place: -products[place])[:count])
    assert found.tolist() == expected


def test_more_are_compared_where_more_are_asked_for() -> None:
    projection, (query,) = projected(vectors(N), widths=Widths(400)), vectors(1, seed=1)
    assert [projection.wide(k, query) for k in (1, 200, 201, 1000)] == [400, 400, 402, 2000]
    assert projection.with_widths(Widths(500)).wide(200, query) == 500
    assert len(projection) == N


def test_the_share_of_a_query_in_the_axes_says_which_width_is_taken() -> None:
    values = vectors(N)
    basis = Axes.of(values, C).basis
    projection = projected(values, widths=Widths(400, 900, 0.5))
    (beside,) = vectors(1, seed=1)
    beside = beside - (basis @ beside) @ basis
    beside /= np.linalg.norm(beside)
    for share, wide in ((1.0, 400), (0.51, 400), (0.49, 900), (0.0, 900)):
        query = np.sqrt(share, dtype=np.float32) * basis[2] + np.sqrt(1 - share, dtype=np.float32) * beside
        assert projection.share(query) == pytest.approx(share, abs=1e-5)
        assert projection.wide(200, query) == wide


def test_axes_that_nothing_lies_in_are_no_share() -> None:
    values = vectors(N)
    values[:, 3:] = 0
    projection = projected(values, E)
    assert projection.share(np.eye(E, dtype=np.float32)[0]) == pytest.approx(1.0, abs=1e-4)
    assert np.isfinite(projection.share(np.eye(E, dtype=np.float32)[7]))


def test_widths_are_read_as_they_were_written_and_former_versions_know_one() -> None:
    widths = Widths(1600, 6400, 0.4321)
    assert Widths.read(widths.parameters()) == widths
    assert Widths.read({"projected": 64, "projectedWide": 800, "projectedRecall": "1.0000"}) == Widths(800)


def test_a_scan_gives_equal_rows_by_number_and_no_more_than_it_was_shown() -> None:
    scan = Scan(byte_quantizer(2), np.array([1, 1], np.float32), 4)
    assert scan.best()[0].tolist() == []
    scan.add(np.array([[130, 128], [129, 129], [120, 120]], np.uint8), np.array([9, 4, 1]))
    labels, products = scan.best()
    assert (labels.tolist(), products.tolist()) == ([4, 9, 1], pytest.approx([2.0, 2.0, -16.0]))
    scan.add(np.array([[140, 128], [138, 128]], np.uint8), np.array([12, 20]))
    assert scan.best()[0].tolist() == [12, 20, 4, 9]


@pytest.mark.parametrize("components", [1, 5, 8, 16, 24, 32, 48, 64, 96, 128])
def test_products_with_bytes_are_sums_of_fractions_whatever_their_number(components: int) -> None:
    """Faiss has code of its own for some numbers of components."""
    random = np.random.default_rng(components)
    codes = random.integers(1, 256, (200, components)).astype(np.uint8)
    query = random.standard_normal(components).astype(np.float32) / 10
    scan = Scan(byte_quantizer(components), query, 300)
    scan.add(codes, np.arange(200))
    found, products = scan.best()
    expected = (codes.astype(np.float64) - 128) @ query
    assert sorted(found.tolist()) == list(range(200))
    np.testing.assert_allclose(products, expected[found], atol=1e-3)


def test_the_measurement_prints_a_line_a_size_and_share(capsys: pytest.CaptureFixture[str]) -> None:
    projection_bench.main(["--dim", "24", "--sizes", "300", "400"])
    heading, _, *lines = capsys.readouterr().out.splitlines()
    rows = [dict(zip(heading.split("|"), line.split("|"), strict=True)) for line in lines]
    assert [row[" items "] for row in rows] == [" 300 "] * 5 + [" 400 "] * 5
    recalls = {row[" recall@200, like and unlike "] for row in rows}
    assert recalls == {" 1.0000, 1.0000 "}, "so few are all compared"
    assert all(float(row[f" projected, {kind}, ms "]) > 0 for row in rows for kind in ("like", "unlike"))
