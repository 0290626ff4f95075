"""When a function is compiled, and that it is what it was."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import xla

LARGE = (2, 128, 128, 3)


def plain(scores: tf.Tensor, factor: float) -> tf.Tensor:
    return tf.reduce_sum(factor * scores, axis=-1)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((2, 128, 128), True),
        ((None, 128, 128), True),
        ((2, 64, 64), False),
        ((2, None, 128), False),
        (None, False),
    ],
)
@pytest.mark.parametrize("on_cpu", [True, False])
def test_what_is_worth_compiling(
    sizes: tuple[int | None, ...] | None,
    expected: bool,
    on_cpu: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xla, "on_cpu", lambda: on_cpu)
    assert not xla.is_worth_compiling(tf.TensorShape(sizes))  # eager
    with tf.Graph().as_default():
        assert xla.is_worth_compiling(tf.TensorShape(sizes)) == (expected and on_cpu)


def test_a_fused_function_is_compiled_in_graphs_of_large_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xla, "on_cpu", lambda: True)
    seen: list[bool] = []

    @xla.fused
    def function(scores: tf.Tensor, factor: float) -> tf.Tensor:
        seen.append(xla.in_xla())
        return plain(scores, factor)

    graph = tf.function(lambda scores: function(scores, 2.0), autograph=False)
    for shape, compiled in ((LARGE, True), ((2, 8, 8, 3), False)):
        scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for call in (graph, lambda scores: function(scores, 2.0)):
            np.testing.assert_allclose(call(scores), plain(scores, 2.0), atol=1e-5)
        assert seen == [compiled, False]  # in the graph, and eagerly
        seen.clear()


def test_a_fused_gradient_is_computed_from_the_arguments_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xla, "on_cpu", lambda: True)
    seen: list[bool] = []

    @xla.fused_with_gradient
    def function(scores: tf.Tensor, factor: float) -> tf.Tensor:
        seen.append(xla.in_xla())
        return plain(scores**2, factor)

    def gradient(scores: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            # Pixels have different upstream gradients.
            total = tf.reduce_sum(function(scores, 3.0) ** 2)
        return tape.gradient(total, scores)

    for shape, compiled in ((LARGE, True), ((2, 8, 8, 3), False)):
        scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        # f = 3 Σ s² and d(f²)/ds = 2 f · 6 s.
        expected = 36 * np.sum(scores**2, axis=-1, keepdims=True) * scores
        for call in (tf.function(gradient), gradient):
            found = call(tf.constant(scores))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        # The function is traced for its value and again for its gradient.
        assert seen == [compiled, compiled, False, False]
        seen.clear()
