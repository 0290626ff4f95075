"""Tests of the confusion matrix against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from metric_tester import VOID, random_masks, sklearn_matrix

from tf_levelset.metrics.confusion import confusion_matrix


@pytest.mark.parametrize("seed", range(5))
def test_random_masks_against_sklearn(seed: int) -> None:
    labels, predictions = random_masks(seed, 5, (3, 17, 13))
    matrix = confusion_matrix(labels, predictions, 5, VOID)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, sklearn_matrix(labels, predictions, 5))
