"""Where XLA makes a function faster on a CPU.

TensorFlow passes over its tensors once for each operation, which is what dense losses
and metrics spend their time on. XLA fuses many operations into one loop, but compiles
anew for each shape, and Keras does not use it on CPUs. `fused` uses it for graphs of
large images of one size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

MANY_PIXELS = 2**14
"""Number of pixels of an image from which on a function is compiled."""

F = TypeVar("F", bound=Callable[..., Any])


def on_cpu() -> bool:
    """Whether TensorFlow sees only CPUs."""
    return all(d.device_type == "CPU" for d in tf.config.get_visible_devices())


def in_xla() -> bool:
    """Whether XLA will compile what is being traced."""
    return tf.__internal__.get_enclosing_xla_context() is not None


def is_debugging() -> bool:
    """Whether TensorFlow adds checks to graphs, which XLA cannot compile.

    `tf.debugging.enable_check_numerics` and `experimental.enable_dump_debug_info` do
    so, and tell no one. In a graph, they follow each new operation with others.
    """
    probe = tf.constant(0.0)
    return probe.op.type != "Const" or bool(probe.consumers())


def is_worth_compiling(pixels: tf.TensorShape) -> bool:
    """Whether a graph of large images of one size is traced on a machine without GPU.

    Args:
        pixels: Shape of the images, (B, …). Only the batch size may be unknown.

    Returns:
        False in eager mode, where each size of image would be compiled, and while
        TensorFlow debugs graphs.
    """
    if (
        tf.executing_eagerly()
        or is_debugging()
        or pixels.rank is None
        or None in pixels[1:]
    ):
        return False
    return pixels[1:].num_elements() >= MANY_PIXELS and on_cpu()


def fused(function: F) -> F:
    """Wraps a pure function of tensors so that XLA compiles it where that is faster.

    Args:
        function: Its first argument is a tensor (B, …, C); the others are tensors, or
            Python values that can be hashed. It may be called in any mode: it must hold
            for itself, and compile.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def chosen(scores: tf.Tensor, *arguments: Any) -> Any:
        if is_worth_compiling(scores.shape[:-1]):
            return compiled(scores, *arguments)
        return function(scores, *arguments)

    return chosen  # type: ignore[return-value]


def fused_with_gradient(function: F) -> F:
    """Like `fused`, and computes the gradient in one compiled function, too.

    The gradient with respect to the first argument is computed from the arguments
    alone. On a CPU, keeping intermediate results of the forward pass would cost more
    than computing them again.

    Args:
        function: Returns one tensor; see `fused`. The other arguments have no gradient.
    """
    value = fused(function)

    @fused
    def gradient(scores: tf.Tensor, upstream: tf.Tensor, *arguments: Any) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            result = function(scores, *arguments)
        return tape.gradient(result, scores, upstream)

    @functools.wraps(function)
    def chosen(scores: tf.Tensor, *arguments: Any) -> tf.Tensor:
        @tf.custom_gradient
        def with_gradient(
            scores: tf.Tensor,
        ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            return value(scores, *arguments), lambda up: gradient(
                scores, up, *arguments
            )

        return with_gradient(scores)

    return chosen  # type: ignore[return-value]
