"""MAP against an independent library and against loops; who asks, who answers, and what an interval is of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from threadmatch.model.data.attribute_labels import AttributeSet
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.evaluate.attribute_precision import (
    attribute_precision,
    average_precision,
    mean_precision,
    precision_gain,
    precisions,
    triplet_accuracy,
)

RNG = np.random.default_rng(6)


def photo(n: int, product: str) -> LabelledImage:
    return LabelledImage(Path(f"{n}.jpg"), str(n), product, None, "", "")


def test_average_precision_is_that_of_an_independent_library(ranx: Any) -> None:
    similar = RNG.permuted(np.tile(np.arange(40, dtype=np.float32), (12, 1)), axis=1)
    relevant = RNG.random((12, 40)) < 0.2
    relevant[:, 0] = True
    qrels = ranx.Qrels({str(q): {str(n): 1 for n in np.flatnonzero(row)} for q, row in enumerate(relevant)})
    run = ranx.Run({str(q): {str(n): float(s) for n, s in enumerate(row)} for q, row in enumerate(similar)})
    ours = average_precision(similar, relevant)
    assert ours.mean() == pytest.approx(ranx.evaluate(qrels, run, "map"), abs=1e-6)


def test_a_query_without_anything_relevant_has_no_precision() -> None:
    assert np.isnan(average_precision(np.ones((1, 3), np.float32), np.zeros((1, 3), np.bool_))).all()


def test_photos_of_the_same_garment_and_of_unknown_value_neither_answer_nor_count() -> None:
    queries = np.array([[1.0, 0.0]], np.float32)
    candidates = np.array([[1.0, 0.0], [0.9, 0.0], [0.8, 0.0], [0.7, 0.0], [0.6, 0.0]], np.float32)
    marks = np.array([[1, 0], [0, 0], [0, 1], [1, 0], [1, 0]], np.bool_)  # own garment, unknown, wrong, right, right
    found = attribute_precision(
        queries,
        candidates,
        marks=(np.array([[1, 0]], np.bool_), marks),
        products=(np.array(["p"]), np.array(["p", "a", "b", "c", "d"])),
    )
    assert found == pytest.approx([(1 / 2 + 2 / 3) / 2])


def test_customers_ask_and_shops_answer_and_in_a_set_of_one_kind_all_do_both() -> None:
    embeddings = np.eye(4, dtype=np.float32)[:, None] * 0.5 + 0.5
    values = {"fit": [("slim",), ("slim",), ("loose",), ("loose",)]}
    images = [photo(n, f"p{n}") for n in range(4)]
    mixed = AttributeSet(images, values, [True, False, False, True])
    shops = AttributeSet(images, values, [False] * 4)
    marks = [mixed.marks("fit", ("slim", "loose"))]
    assert precisions(embeddings, mixed, marks, ["fit"])["fit"].shape == (2,)
    assert precisions(embeddings, shops, marks, ["fit"])["fit"].shape == (4,)


def test_all_is_weighed_by_queries_and_mean_by_attributes() -> None:
    found = {"a": np.array([1.0, 0.0, 0.5]), "b": np.array([np.nan, 1.0, np.nan]), "c": np.full(3, np.nan)}
    assert mean_precision(found) == pytest.approx({"a": 0.5, "b": 1.0, "all": 0.625, "mean": 0.75})


def test_the_interval_of_a_gain_holds_its_mean_and_is_wider_where_photos_are_of_few_garments() -> None:
    before = {"a": RNG.random(200), "b": RNG.random(200)}
    after = {name: own + 0.1 + 0.2 * RNG.standard_normal(200) for name, own in before.items()}
    many = precision_gain(before, after, np.arange(200).astype(str))
    few = precision_gain(before, after, (np.arange(200) // 20).astype(str))
    assert many.low < many.mean < many.high
    assert many.mean == pytest.approx(few.mean)
    assert many.mean == pytest.approx(np.mean([(after[name] - before[name]).mean() for name in before]))
    assert 0.02 < many.high - many.low < 0.08


def test_triplet_accuracy_counts_a_tie_as_wrong() -> None:
    anchor = np.array([[1.0, 0.0]] * 3, np.float32)
    near = np.array([[0.9, 0.0], [0.2, 0.0], [0.5, 0.0]], np.float32)
    far = np.array([[0.1, 0.0], [0.3, 0.0], [0.5, 0.0]], np.float32)
    assert triplet_accuracy(anchor, near, far) == pytest.approx(1 / 3)
