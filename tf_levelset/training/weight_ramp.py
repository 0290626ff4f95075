"""Callbacks for `fit`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import is_number, is_whole


class WeightRamp(keras.callbacks.Callback):
    """Raises a weight from zero to its full value over the first steps of training.

    Far from the truth, regions say little: the cross-entropy leads first.

        weight = tf.Variable(0.0, trainable=False)
        loss = CrossEntropyLevelSetLoss(weight, normalization="mean", from_logits=True)
        model.compile("sgd", loss)
        model.fit(batches, callbacks=[WeightRamp(weight, 0.67, steps=1000)])

    Steps are those that the optimizer has counted, so that training which goes on
    (`ExactResume`) has the weights that it would have had. With `steps_per_execution`
    the weight of some steps is that of the first of them.

    Args:
        weight: the variable, of TensorFlow or Keras 3, such as the loss's
            `level_set_weight`.
        full: its value from step `steps` on, zero or more.
        steps: over how many steps it rises, at least 1.

    Raises:
        ValueError: for values out of range.
    """

    def __init__(self, weight: tf.Variable | Any, full: float, steps: int) -> None:
        super().__init__()
        if not (is_number(full) and 0 <= full < float("inf")) or not (
            is_whole(steps) and steps >= 1
        ):
            raise ValueError(
                "Expected `full` of zero or more, `steps` of at least 1. "
                f"Received: full={full!r}, steps={steps!r}"
            )
        self.weight = compat.tensor_variable(weight)
        self.full, self.steps = full, steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the weight of the step: full · step / steps, at most full."""
        optimizer = self.model.optimizer
        # The one that mixed precision wraps counts the steps that were taken.
        counted = getattr(optimizer, "inner_optimizer", optimizer).iterations
        # Read where it is: to fetch it would wait for the step before.
        step = tf.cast(tf.convert_to_tensor(counted), self.weight.dtype)
        self.weight.assign(self.full * tf.minimum(step / self.steps, 1))
