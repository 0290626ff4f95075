"""The active contour loss against loops over pixels and classes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import oracles
import pytest
from class_average_tester import ClassAverageTester, chosen_classes
from loss_tester import (
    INFINITY,
    NAN,
    VOID,
    WEIGHTS,
    batch,
    softmax,
)

from tf_levelset.losses import ActiveContourLoss


class TestActiveContourLoss(ClassAverageTester):
    loss = ActiveContourLoss
    options: ClassVar[dict[str, Any]] = {
        "length_weight": 0.5,
        "region_weight": 2.0,
        "inside_weight": 3.0,
        "classes": "all",
    }
    bad_options: ClassVar[dict[str, list[Any]]] = {
        "length_weight": [-1.0, "a"],
        "region_weight": [INFINITY, None],
        "inside_weight": [NAN],
    }
    uses_neighbours = True

    @pytest.mark.parametrize("classes", ["present", "all", [1, 3]])
    @pytest.mark.parametrize("shape", [(3, 6, 7), (2, 3, 4, 5)])
    def test_value(self, classes: Any, shape: tuple[int, ...]) -> None:
        labels, logits = batch(shape)
        labels[0][labels[0] == 2] = 1
        expected = []
        for y, p in zip(labels, softmax(logits), strict=True):
            length, region = oracles.active_contour_losses(
                np.where(y == VOID, -1, y), p, mu=0.6
            )
            of_classes = np.array(WEIGHTS) * (0.3 * length + 2.0 * region)
            expected.append(np.mean(of_classes[chosen_classes(classes, y)]))
        loss = self.make(
            length_weight=0.3,
            region_weight=2.0,
            inside_weight=0.6,
            classes=classes,
            class_weight=WEIGHTS,
        )
        np.testing.assert_allclose(loss(labels, logits), np.mean(expected), rtol=1e-5)
