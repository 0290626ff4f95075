"""The boundary loss against distances between all pairs of pixels."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import oracles
import pytest
from class_average_tester import ClassAverageTester, chosen_classes
from loss_tester import (
    CLASSES,
    VOID,
    WEIGHTS,
    batch,
    check_weighted_gradient,
    softmax,
)

from tf_levelset.losses import BoundaryLoss
from tf_levelset.losses.boundary import signed_distances


class TestBoundaryLoss(ClassAverageTester):
    loss = BoundaryLoss
    options: ClassVar[dict[str, Any]] = {"normalize": True, "classes": [0, 2]}
    bad_options: ClassVar[dict[str, list[Any]]] = {}
    compiles = False
    uses_neighbours = True

    @pytest.mark.parametrize("normalize", [True, False])
    @pytest.mark.parametrize("classes", ["present", "all", [1, 3]])
    @pytest.mark.parametrize("shape", [(3, 6, 7), (2, 3, 4, 5)])
    def test_value(self, normalize: bool, classes: Any, shape: tuple[int, ...]) -> None:
        labels, logits = batch(shape)
        labels[0][labels[0] == 2] = 1
        labels[1] = np.where(labels[1] == VOID, VOID, 3)  # Class 3 fills its image.
        expected = []
        for y, p in zip(labels, softmax(logits), strict=True):
            distances = oracles.signed_distances(np.where(y == VOID, -1, y), CLASSES)
            if normalize:
                distances /= np.sqrt(np.sum(np.square(y.shape)))
            of_classes = (distances * p)[y != VOID].mean(axis=0) * WEIGHTS
            expected.append(of_classes[chosen_classes(classes, y)].mean())
        loss = self.make(normalize=normalize, classes=classes, class_weight=WEIGHTS)
        np.testing.assert_allclose(loss(labels, logits), np.mean(expected), rtol=1e-5)

    def test_documentation_says_that_xla_cannot_compile_it(self) -> None:
        assert "XLA cannot compile" in " ".join(str(BoundaryLoss.__doc__).split())

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
