"""Loss max-pooling against a general solver of the maximum that defines it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import oracles
import pytest
from loss_tester import INFINITY, LossTester

from tf_levelset.losses import LossMaxPooling
from tf_levelset.losses.loss_max_pooling import max_pooling_weights


class TestLossMaxPooling(LossTester):
    loss = LossMaxPooling
    options: ClassVar[dict[str, Any]] = {"ratio": 0.2, "p": 1.3, "per_image": False}
    bad_options: ClassVar[dict[str, list[Any]]] = {
        "ratio": [0.0, 1.1, "a"],
        "p": [1.0, INFINITY, [2.0]],
    }


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
    # The constraints, with the bound τ of a weight.
    n, q = len(losses), p / (p - 1)
    bound = n ** (-1 / q) * max(int(ratio * n), 1) ** (-1 / p)
    assert 0 <= np.min(weights) <= np.max(weights) <= bound * (1 + 1e-12)
    assert np.sum(weights**p) ** (1 / p) <= n ** (-1 / q) * (1 + 1e-9)
    # Void pixels change nothing, wherever they are.
    losses, valid = (
        np.insert(losses, [0, 7, 15], 0),
        np.insert(np.ones(15), [0, 7, 15], 0),
    )
    weights = max_pooling_weights(losses[np.newaxis], valid[np.newaxis] > 0, ratio, p)
    np.testing.assert_allclose(np.sum(weights * losses), expected, rtol=1e-6)
