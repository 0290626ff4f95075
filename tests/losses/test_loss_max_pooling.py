"""Loss max-pooling against a general solver of the maximum that defines it."""

from __future__ import annotations

from typing import Any, ClassVar

import hypothesis
import numpy as np
import oracles
import pytest
from hypothesis import strategies as st
from loss_tester import (
    INFINITY,
    VOID,
    WEIGHTS,
    LossTester,
    batch,
    check_weighted_gradient,
    softmax,
)

from tf_levelset.losses import LossMaxPooling
from tf_levelset.losses.loss_max_pooling import max_pooling_weights


class TestLossMaxPooling(LossTester):
    loss = LossMaxPooling
    options: ClassVar[dict[str, Any]] = {"ratio": 0.2, "p": 1.3, "per_image": False}
    bad_options: ClassVar[dict[str, list[Any]]] = {
        "ratio": [0.0, 1.1, "a"],
        "p": [1.0, INFINITY, [2.0]],
    }

    def test_value(self) -> None:
        labels, logits = batch((2, 4, 5))
        losses = [
            -np.log(softmax(logits)[i][v][np.arange(v.sum()), labels[i][v]])
            for i, v in enumerate(labels != VOID)
        ]
        weighted = [
            x * np.array(WEIGHTS)[y[y != VOID]]
            for x, y in zip(losses, labels, strict=True)
        ]
        for loss, rows in (
            (self.make(), losses),
            (self.make(per_image=False), [np.concatenate(losses)]),
            (self.make(class_weight=WEIGHTS), weighted),
        ):
            expected = np.mean([oracles.max_pooling(row, 0.3, 1.7) for row in rows])
            np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-6)

    def test_weights_of_pixels_multiply_their_gradients(self) -> None:
        check_weighted_gradient(self.make())


@pytest.mark.parametrize("p", [1.3, 1.7, 3.0])
@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("case", ["random", "ties", "zeros", "one", "equal", "steep"])
def test_weights_attain_the_maximum(p: float, ratio: float, case: str) -> None:
    rng = np.random.default_rng(0)
    losses = {
        "random": rng.exponential(size=15),
        "ties": rng.integers(1, 4, 15) / 2,
        "zeros": rng.integers(0, 2, 15) * rng.exponential(size=15),
        "one": np.eye(15)[3],
        "equal": np.full(15, 0.8),
        "steep": 10.0 ** -np.arange(15),
    }[case]
    expected = oracles.max_pooling(losses, ratio, p)
    weights = max_pooling_weights(losses[np.newaxis], np.ones((1, 15), bool), ratio, p)
    np.testing.assert_allclose(np.sum(weights * losses), expected, rtol=1e-6)
    # Void pixels change nothing, wherever they are.
    losses, valid = (
        np.insert(losses, [0, 7, 15], 0),
        np.insert(np.ones(15), [0, 7, 15], 0),
    )
    weights = max_pooling_weights(losses[np.newaxis], valid[np.newaxis] > 0, ratio, p)
    np.testing.assert_allclose(np.sum(weights * losses), expected, rtol=1e-6)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=30),
    st.floats(0.01, 1),
    st.floats(1.01, 8),
)
def test_weights_keep_their_constraints(
    values: list[float], ratio: float, p: float
) -> None:
    losses = np.array([values])
    n, q = len(values), p / (p - 1)
    m = max(int(ratio * n), 1)
    weights = max_pooling_weights(losses, np.ones((1, n), bool), ratio, p).numpy()
    assert np.isfinite(weights).all()
    assert weights.min() >= 0
    assert weights.max() <= n ** (-1 / q) * m ** (-1 / p) * (1 + 1e-12)
    assert np.sum(weights**p) ** (1 / p) <= n ** (-1 / q) * (1 + 1e-9)
    # Equal weights 1/n are allowed too, so the maximum is not below the mean.
    assert np.sum(weights * losses) >= np.mean(losses) * (1 - 1e-9)
