"""Paired differences against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import holm, mean_with_interval, paired_difference


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 8))
    difference = paired_difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    expected = stats.ttest_rel(ours, theirs)
    low, high = expected.confidence_interval(0.95)
    assert difference.mean == pytest.approx(np.mean(ours - theirs))
    assert difference.interval == pytest.approx((low, high))
    assert difference.p_value == pytest.approx(expected.pvalue)


def test_only_common_pairs_count() -> None:
    ours = {("a", 0): 3.0, ("a", 1): 5.0, ("b", 0): 100.0}
    theirs = {("a", 1): 1.0, ("a", 0): 1.0, ("c", 0): -100.0}
    assert paired_difference(ours, theirs).values == (2.0, 4.0)


def test_no_common_pair_raises() -> None:
    with pytest.raises(ValueError, match="a pair that both have"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_p_values_without_spread() -> None:
    assert mean_with_interval([2.0, 2.0]).p_value == 0
    assert mean_with_interval([0.0, 0.0]).p_value == 1
    assert mean_with_interval([2.0]).p_value == 1


def test_holms_correction_by_hand() -> None:
    # Sorted 0.01, 0.015, 0.04, times 3, 2 and 1; none is below the one before it.
    assert holm([0.04, 0.01, 0.015]) == pytest.approx([0.04, 0.03, 0.03])
    assert holm([0.9, 0.6]) == [1, 1]
    assert holm([]) == []
