"""A callback that raises the weight of a loss term over the first steps."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import check_not_negative, expect, is_whole, plain_options


@plain_options
class WeightRamp(keras.callbacks.Callback):
    """Raises a weight from zero to its full value over the first steps of training.

    While the predictions are still poor, regions carry little information, so that the
    cross-entropy should lead.

        weight = tf.Variable(0.0, trainable=False)
        loss = CrossEntropyLevelSetLoss(weight, normalization="mean", from_logits=True)
        model.compile("sgd", loss)
        model.fit(batches, callbacks=[WeightRamp(weight, 0.67, steps=1000)])

    The steps are those that the optimizer has counted, so that training which is
    resumed (`ExactResume`) continues with the same weights. With `steps_per_execution`,
    several steps share the weight of the first of them.

    Args:
        weight: The variable, of TensorFlow or Keras 3, such as the loss's
            `level_set_weight`.
        full: Value from step `steps` on, zero or more.
        steps: Number of steps over which the weight rises, at least 1.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(self, weight: tf.Variable | Any, full: float, steps: int) -> None:
        super().__init__()
        check_not_negative(full=full)
        whole = is_whole(steps) and steps >= 1
        expect(whole, "`steps` to be an integer of at least 1", steps)
        self.weight = compat.tensor_variable(weight)
        self.full, self.steps = full, steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the weight of the step: full · step / steps, at most full."""
        optimizer = self.model.optimizer
        # Under mixed precision, the wrapped optimizer counts the steps that are taken.
        counted = getattr(optimizer, "inner_optimizer", optimizer).iterations
        # On the device, because fetching the value would wait for the last step.
        step = tf.cast(tf.convert_to_tensor(counted), self.weight.dtype)
        self.weight.assign(self.full * tf.minimum(step / self.steps, 1))
