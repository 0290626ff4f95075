"""Callbacks for `fit`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class WeightRamp(keras.callbacks.Callback):
    """Raises a weight from zero to its full value over the first steps of training.

    Far from the truth, regions say little: the cross-entropy leads first.

        weight = tf.Variable(0.0, trainable=False)
        loss = CrossEntropyLevelSetLoss(weight, normalization="mean", from_logits=True)
        model.compile("sgd", loss)
        model.fit(batches, callbacks=[WeightRamp(weight, 0.67, steps=1000)])

    Args:
        weight: the variable, such as the loss's `level_set_weight`.
        full: its value from step `steps` on, zero or more.
        steps: over how many steps it rises, at least 1.
        start: how many steps were taken before, where training goes on.

    Raises:
        ValueError: for values out of range.
    """

    def __init__(
        self, weight: tf.Variable, full: float, steps: int, start: int = 0
    ) -> None:
        super().__init__()
        if not 0 <= full < float("inf") or steps < 1 or start < 0:
            raise ValueError(
                "Expected `full` and `start` of zero or more, `steps` of at least 1. "
                f"Received: full={full!r}, steps={steps!r}, start={start!r}"
            )
        self.weight, self.full = weight, full
        self.steps, self.step = steps, start

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the weight of the step: full · step / steps, at most full."""
        self.weight.assign(self.full * min(1.0, self.step / self.steps))
        self.step += 1
