"""Losses of a network's softmax or sigmoid, which are those of its logits as in Keras.

Logits of ±120 become probabilities of exactly 0 and 1, where the gradient is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_tester import (
    CLASSES,
    ON_LOGITS,
    VOID,
    WEIGHTS,
    batch,
    in_graph,
    value_and_gradient,
)

from tf_levelset import CrossEntropyLevelSetLoss, losses

Loss = Callable[..., tf.Tensor]
CHANNELS = {"softmax": CLASSES, "sigmoid": 1}
PARTS = losses.FocalLoss, losses.DiceLoss, CrossEntropyLevelSetLoss
LOSSES: dict[str, Callable[..., Any]] = {
    name: getattr(losses, name)
    for name in losses.__all__
    if name not in ("SegmentationLoss", "LossSum")
}
LOSSES["LossSum"] = lambda **o: losses.LossSum([part(**o) for part in PARTS])


def saturated(channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns labels with void, and logits of which many are ±120."""
    labels, logits = batch()
    if channels == 1:
        labels[labels != VOID] %= 2
    logits[0] = 120 * np.sign(logits[0])
    return tf.constant(labels), tf.constant(logits[..., :channels])


def of_output(activation: str | Callable[..., Any] | None, loss: Loss) -> Loss:
    """Returns the loss of an activation's output as a function of its input."""
    function = keras.activations.get(activation)
    return lambda y, z, sample_weight=None: loss(y, function(z))


def check_equal(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=1e-8)


@pytest.mark.parametrize("activation", CHANNELS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_reads_the_logits(name: str, activation: str) -> None:
    batch = saturated(CHANNELS[activation])
    loss = of_output(activation, LOSSES[name](ignore_class=VOID))
    expected = value_and_gradient(LOSSES[name](**ON_LOGITS), *batch)
    check_equal(value_and_gradient(loss, *batch), expected)
    if name in ("LossSum", "CrossEntropyLevelSetLoss"):
        found = in_graph(loss, jit_compile=name != "LossSum")(*batch)
        check_equal(found, expected, 1e-4)


def keras_own(activation: str, from_logits: bool) -> Loss:
    """Returns Keras' cross-entropy as a mean over valid pixels with class weights."""
    binary = activation == "sigmoid"
    name = "BinaryCrossentropy" if binary else "SparseCategoricalCrossentropy"
    own = getattr(keras.losses, name)(from_logits=from_logits, reduction="none")

    def mean(labels: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        valid = labels != VOID
        ids = tf.where(valid, labels, 0)
        losses = own(ids[..., tf.newaxis] if binary else ids, y_pred)
        losses *= tf.where(valid, tf.gather(tf.constant(WEIGHTS), ids), 0)
        return tf.reduce_sum(losses) / tf.reduce_sum(tf.cast(valid, tf.float32))

    return mean


@pytest.mark.parametrize(
    "evaluate", [value_and_gradient, lambda f, *b: in_graph(f)(*b)]
)
@pytest.mark.parametrize("form", ["logits", "outputs", "probabilities"])
@pytest.mark.parametrize("activation", CHANNELS)
def test_without_level_set_it_is_the_cross_entropy_of_keras(
    activation: str, form: str, evaluate: Callable[..., Any]
) -> None:
    labels, scores = saturated(CHANNELS[activation])
    if form == "probabilities":  # of exactly 0 and 1, and from no known activation
        scores = tf.constant(keras.activations.get(activation)(scores).numpy())
    ours: Loss = CrossEntropyLevelSetLoss(
        0.0,
        from_logits=form == "logits",
        ignore_class=VOID,
        class_weight=WEIGHTS[: max(2, CHANNELS[activation])],
    )
    theirs = keras_own(activation, form == "logits")
    ours, theirs = (
        of_output(activation if form == "outputs" else None, loss)
        for loss in (ours, theirs)
    )
    expected = evaluate(theirs, labels, scores)
    assert expected[0] > 1
    check_equal(evaluate(ours, labels, scores), expected)


@pytest.mark.parametrize("activation", CHANNELS)
def test_a_network_that_is_certain_of_the_wrong_class_learns(activation: str) -> None:
    bias = [18.0, 0.0] if activation == "softmax" else [-18.0]
    layer = keras.layers.Conv2D(
        len(bias),
        1,
        activation=activation,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(bias),
    )
    model = keras.Sequential([keras.Input((2, 2, 1)), layer])
    model.compile(keras.optimizers.SGD(0.5), CrossEntropyLevelSetLoss())
    images, labels = np.ones((60, 2, 2, 1)), np.ones((60, 2, 2))
    model.fit(images, labels, batch_size=1, verbose=0)  # 60 steps
    assert model.predict(images[:1], verbose=0)[..., -1].min() > 0.97


@pytest.mark.parametrize("activation", CHANNELS)
def test_half_precision_keeps_the_logits(activation: str) -> None:
    labels, logits = saturated(CHANNELS[activation])
    logits = tf.cast(logits, tf.float16)
    loss = CrossEntropyLevelSetLoss(ignore_class=VOID)
    expected = value_and_gradient(CrossEntropyLevelSetLoss(**ON_LOGITS), labels, logits)
    check_equal(
        value_and_gradient(of_output(activation, loss), labels, logits), expected
    )
    act = keras.activations.get(activation)
    wider = of_output(lambda z: tf.cast(act(z), tf.float32), loss)
    check_equal(in_graph(wider)(labels, logits), expected, 2e-3)


def test_other_activations_are_probabilities() -> None:
    labels, logits = saturated(CLASSES)
    loss = CrossEntropyLevelSetLoss(ignore_class=VOID)
    along_rows = keras.layers.Softmax(axis=1)
    for activation in (keras.activations.sigmoid, along_rows):
        expected = loss(labels, activation(logits).numpy())
        function = of_output(activation, loss)
        for evaluate in (function, tf.function(function)):
            np.testing.assert_allclose(evaluate(labels, logits), expected, rtol=1e-5)


def test_an_activation_is_not_applied_twice() -> None:
    batch = saturated(CLASSES)
    expected = value_and_gradient(losses.DiceLoss(**ON_LOGITS), *batch)
    with pytest.warns(UserWarning, match="Expected y_pred to hold logits"):
        found = value_and_gradient(
            of_output("softmax", losses.DiceLoss(**ON_LOGITS)), *batch
        )
    check_equal(found, expected)
