"""`tf.debugging.enable_check_numerics`, which users find NaN and infinity with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_tester import CLASSES, VOID, batch, in_graph

from tf_levelset import CrossEntropyLevelSetLoss, losses, xla

CASES: list[tuple[str, dict[str, Any]]] = [
    *((n, {}) for n in losses.__all__ if n not in ("LossSum", "SegmentationLoss")),
    ("CrossEntropyLevelSetLoss", {"heaviside": "hf"}),
    (
        "CrossEntropyLevelSetLoss",
        {"heaviside": "logit", "normalization": "balanced", "jit_compile": True},
    ),
    ("LocallyAdaptiveLoss", {"merge": "probabilities"}),
]


@pytest.fixture
def checked() -> Iterator[None]:
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("on_cpu", [False, True])
def test_sound_data_make_no_nan_or_infinity(
    on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a GPU, large images would be compiled; with one, TensorFlow sorts them.
    monkeypatch.setattr(xla, "on_cpu", lambda: on_cpu)
    monkeypatch.setattr(xla, "MANY_PIXELS", 1)
    labels, logits = batch((2, 5, 6))
    labels[labels == CLASSES - 1] = 0
    labels[0], logits[1, 0] = VOID, 99 * logits[1, 0]
    form = {"ignore_class": VOID, "from_logits": on_cpu}
    total = losses.LossSum([getattr(losses, n)(**form, **o) for n, o in CASES])
    scores = tf.constant(logits) if on_cpu else tf.nn.softmax(logits)
    value, _ = in_graph(total)(tf.constant(labels), scores)
    assert np.isfinite(value)


@pytest.mark.usefixtures("checked")
def test_the_culprit_is_named_and_the_logits_are_found() -> None:
    loss = CrossEntropyLevelSetLoss(0.0)
    labels, logits = tf.ones((1, 2, 2), tf.int32), tf.constant([18.0, 0.0] * 4)
    logits = tf.reshape(logits, (1, 2, 2, 2))

    @tf.function
    def of_softmax(logits: tf.Tensor) -> tf.Tensor:
        return loss(labels, keras.activations.softmax(logits))

    np.testing.assert_allclose(of_softmax(logits), 18, rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"NaN|-Inf"):
        of_softmax(tf.math.log(logits - 1))
