"""The boundary loss, and the signs of its distances."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from loss_tester import ClassAverageTester, check_weighted_gradient

from tf_levelset.losses import BoundaryLoss
from tf_levelset.losses.boundary import signed_distances


class TestBoundaryLoss(ClassAverageTester):
    loss = BoundaryLoss
    options: ClassVar[dict[str, Any]] = {"normalize": True, "classes": [0, 2]}
    bad_options: ClassVar[dict[str, list[Any]]] = {}
    compiles = False

    def test_weights_of_pixels_multiply_their_gradients(self) -> None:
        check_weighted_gradient(self.make())


def test_signs_of_the_distances() -> None:
    # A class of 3 × 3 pixels inside 5 × 5: its outermost pixels are at 0.
    classes = np.zeros((5, 5), int)
    classes[1:4, 1:4] = 1
    distances = signed_distances(classes, 3)
    diagonal = np.sqrt(2)
    np.testing.assert_allclose(distances[0, :, 1], [diagonal, 1, 1, 1, diagonal])
    np.testing.assert_allclose(distances[2, :, 1], [1, 0, -1, 0, 1])
    np.testing.assert_allclose(distances[2, :, 0], [0, 1, 2, 1, 0])
    np.testing.assert_array_equal(distances[..., 2], 0)
