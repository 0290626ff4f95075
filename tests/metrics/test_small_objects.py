"""Tests of the recall of small objects against its definition."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tester import VOID, random_image

from tf_levelset import SmallObjectRecall
from tf_levelset.metrics.small_objects import small_object_counts


@settings(max_examples=25, deadline=None, database=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.02, 0.1, 0.5, 1]),
    st.sampled_from([0.07, 0.5, 1]),
)
def test_small_objects_are_the_definition(seed: int, share: float, hit: float) -> None:
    labels, predictions = random_image(seed)
    for least in (1, 3):
        found = small_object_counts(
            labels, predictions, 4, VOID, share, hit, min_pixels=least
        )
        assert found.dtype == np.int64
        expected = oracles.small_objects(labels, predictions, 4, share, hit, least)
        np.testing.assert_array_equal(found, expected)


def test_small_objects_by_hand() -> None:
    # Class 1: two pixels that touch at a corner, one of them found: a hit at 1/2.
    # Class 2: six pixels, of 40; void cuts them into an object of 2 and one of 3.
    labels = np.zeros((4, 10), int)
    labels[0, 0] = labels[1, 1] = 1
    labels[3, 4:10] = 2
    labels[3, 6] = VOID
    predictions = np.zeros_like(labels)
    predictions[0, 0] = 1
    predictions[3, 6:8] = 2
    count = small_object_counts(labels, predictions, 3, VOID, max_share=0.1)
    np.testing.assert_array_equal(count, [[0, 0], [1, 1], [0, 2]])
    # 3 pixels are 7.5 % of 40: not below.
    count = small_object_counts(labels, predictions, 3, VOID, max_share=0.075)
    np.testing.assert_array_equal(count, [[0, 0], [1, 1], [0, 1]])
    count = small_object_counts(labels, predictions, 3, VOID, 0.1, 0.51)
    np.testing.assert_array_equal(count, [[0, 0], [0, 1], [0, 2]])
    count = small_object_counts(labels, predictions, 3, VOID, 0.1, 1 / 3, 3)
    np.testing.assert_array_equal(count, [[0, 0], [0, 0], [1, 1]])


@pytest.mark.parametrize("hits", range(1, 101))
def test_shares_of_pixels_are_exact(hits: int) -> None:
    # As products, 0.07 · 100 is more than 7, and an object of 7 would be missed.
    labels = np.ones((10, 10), int)
    predictions = (np.arange(100) < hits).astype(int).reshape(10, 10)
    labels = np.pad(labels, ((0, 10), (0, 0)))
    predictions = np.pad(predictions, ((0, 10), (0, 0)))
    count = small_object_counts(labels, predictions, 2, None, 0.6, hit=hits / 100)
    assert count[1].tolist() == [1, 1]


@pytest.mark.parametrize(("average", "expected"), [("macro", 3 / 4), ("micro", 4 / 5)])
def test_averages_of_recalls(average: str, expected: float) -> None:
    metric = SmallObjectRecall(3, average=average, dtype="float64")
    assert metric.scores()["micro_recall"] is None
    metric.variables[0].assign([[1, 2], [0, 0], [3, 3]])
    assert float(metric.result()) == expected
    assert metric.scores()[f"{average}_recall"] == expected
    assert metric.per_class() == {"0": 0.5, "1": None, "2": 1.0}
