"""A loss forward and backward: what the benchmarks of losses time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def value_and_gradient(loss: Loss, jit_compile: bool | None) -> Callable[..., Any]:
    """Returns a graph of labels and logits that gives a loss and its gradient.

    Args:
        loss: of labels and logits.
        jit_compile: whether XLA compiles the whole of it.
    """

    @tf.function(jit_compile=jit_compile)
    def both(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    return both
