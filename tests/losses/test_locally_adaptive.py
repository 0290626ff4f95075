"""Locally adaptive learning against loops over centres and windows."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
import oracles
import pytest
from loss_tester import (
    VOID,
    LossTester,
    batch,
    softmax,
    value_and_gradient,
)

from tf_levelset.losses import CrossEntropyLevelSetLoss, LocallyAdaptiveLoss


class TestLocallyAdaptiveLoss(LossTester):
    loss = LocallyAdaptiveLoss
    options: ClassVar[dict[str, Any]] = {
        "patch_size": 5,
        "stride": 2,
        "sigma": 0.7,
        "k": 3.0,
        "merge": "probabilities",
        "per_image": True,
    }
    bad_options: ClassVar[dict[str, list[Any]]] = {
        "patch_size": [4, -1, "3", 3.0],
        "stride": [0, 1.5, None],
        "sigma": [0.0, 1j],
        "k": [0.5, "5"],
        "merge": ["labels"],
    }

    @pytest.mark.parametrize("merge", ["logits", "probabilities"])
    @pytest.mark.parametrize(("patch_size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 3)])
    @pytest.mark.parametrize("per_image", [True, False])
    def test_value(
        self, merge: str, patch_size: int, stride: int, per_image: bool
    ) -> None:
        labels, logits = batch()
        labels %= 3  # Three classes make larger regions; void becomes a class.
        labels = np.where(batch(seed=1)[0] == VOID, VOID, labels)
        options: dict[str, Any] = {
            "patch_size": patch_size,
            "stride": stride,
            "sigma": 0.8,
            "merge": merge,
        }
        merged = logits.astype(np.float64) if merge == "logits" else softmax(logits)
        costs = [
            oracles.locally_adaptive_costs(y, x, **options)
            for y, x in zip(np.where(labels == VOID, -1, labels), merged, strict=True)
        ]
        loss = self.make(per_image=per_image, **options)(labels, logits)
        pools = costs if per_image else [list(itertools.chain(*costs))]
        expected = [np.mean(np.array(pool) ** 5) ** (1 / 5) for pool in pools]
        np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)

    def test_with_single_pixels_it_is_the_cross_entropy(self) -> None:
        labels, logits = batch()
        expected = CrossEntropyLevelSetLoss(0.0, from_logits=True, ignore_class=VOID)
        found = self.make(patch_size=1, k=1.0)(labels, logits)
        np.testing.assert_allclose(found, expected(labels, logits), rtol=1e-6)

    def test_a_patch_with_tiny_probabilities_has_a_gradient(self) -> None:
        logits = np.zeros((1, 3, 3, 2), np.float32)
        logits[..., 0] = 300.0
        loss = LocallyAdaptiveLoss(merge="probabilities", from_logits=True)
        value, gradient = value_and_gradient(loss, np.ones((1, 3, 3), int), logits)
        np.testing.assert_allclose(value, 300, rtol=1e-6)
        np.testing.assert_allclose(gradient[..., 0].sum(), 1, rtol=1e-5)
