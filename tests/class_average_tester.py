"""The contract of losses that average over classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from loss_tester import CLASSES, VOID, WEIGHTS, LossTester, batch, softmax


class ClassAverageTester(LossTester):
    """Tests that losses pass which average over classes, too."""

    bad_classes: ClassVar[list[Any]] = [
        "absent",
        [],
        [1, 1],
        [-1],
        [0.5],
        3,
        ["a"],
        None,
    ]

    def test_bad_classes_raise(self) -> None:
        for classes in self.bad_classes:
            with pytest.raises(ValueError, match="Expected `classes` to"):
                self.make(classes=classes)
        with pytest.raises(ValueError, match="Expected `classes` below 4"):
            self.make(classes=[1, 4])(*batch())


def chosen_classes(classes: str | list[int], labels: np.ndarray) -> list[int]:
    """Returns the ids over which a loss with the option `classes` averages."""
    present = sorted(set(labels[labels != VOID].tolist()))
    named = {"present": present, "all": list(range(CLASSES))}
    return named[classes] if isinstance(classes, str) else classes


def check_region_loss(
    loss: Any, oracle: Callable[[np.ndarray, np.ndarray], list[float]]
) -> None:
    """Compares a loss, with and without class weights, with its literal form.

    The rows are the images or the batch. One of the images lacks a class.

    Args:
        loss: The loss, with the attributes `per_image` and `classes`.
        oracle: Returns the loss of each class, given the labels (n,) and the
            probabilities (n, C) of valid pixels.
    """
    labels, logits = batch()
    labels[0][labels[0] == 2] = 1
    labels[:, :2][labels[:, :2] == 3] = 0
    p = softmax(logits)
    rows = list(zip(labels, p, strict=True)) if loss.per_image else [(labels, p)]
    plain, weighted = [], []
    for y, probabilities in rows:
        valid = y != VOID
        of_classes = np.array(oracle(y[valid], probabilities[valid]))
        chosen = chosen_classes(loss.classes, y)
        plain.append(np.mean(of_classes[chosen]))
        weighted.append(np.mean((of_classes * WEIGHTS)[chosen]))
    config = {**loss.get_config(), "class_weight": WEIGHTS}
    with_weights = type(loss).from_config(config)
    np.testing.assert_allclose(loss(labels, logits), np.mean(plain), rtol=1e-5)
    np.testing.assert_allclose(
        with_weights(labels, logits), np.mean(weighted), rtol=1e-5
    )
