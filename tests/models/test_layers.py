"""Layers against literal formulas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tester import bilinear
from scipy import ndimage

from tf_levelset.models.layers import (
    CaffePreprocessing,
    PadToStride,
    PadWithMean,
    ResizeLike,
    ScaleImage,
    SymmetricAveragePooling2D,
    SymmetricMaxPooling2D,
    Upsample2x,
)

SIZES = st.integers(1, 9)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10, shape).astype(np.float32)


# --- Caffe's pooling and preprocessing ---


@pytest.mark.parametrize("strides", [1, 2, 3])
def test_max_pooling_takes_nothing_from_outside(strides: int) -> None:
    for size in [(1, 1), (2, 5), (6, 7), (9, 4), (8, 8)]:
        x = noise(2, *size, 3) - 99  # all below zero
        pooled = ndimage.maximum_filter(x, (1, 3, 3, 1), mode="constant", cval=-np.inf)
        expected = pooled[:, ::strides, ::strides]
        np.testing.assert_array_equal(SymmetricMaxPooling2D(strides)(x), expected)


def test_average_pooling_divides_by_nine_at_the_border() -> None:
    pooled = SymmetricAveragePooling2D()(tf.ones((1, 3, 3, 1)))[0, :, :, 0]
    np.testing.assert_allclose(
        pooled, np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]) / 9, rtol=1e-6
    )


def test_preprocessing_is_caffes() -> None:
    red = tf.constant([[[[255.0, 0.0, 0.0]]]])
    np.testing.assert_allclose(
        CaffePreprocessing()(red)[0, 0, 0], [-104.008, -116.669, 255 - 122.675]
    )


# --- Upsampling by 2 ---


@settings(deadline=None, max_examples=25)
@given(height=SIZES, width=SIZES, channels=st.integers(1, 4), learnable=st.booleans())
def test_upsampling_starts_bilinear(
    height: int, width: int, channels: int, learnable: bool
) -> None:
    x = noise(2, height, width, channels)
    upsampled = Upsample2x(learnable)(x)
    expected = bilinear(x, 2 * height - 1, 2 * width - 1)
    np.testing.assert_allclose(upsampled, expected, rtol=1e-5, atol=1e-5)


def test_learned_upsampling_is_a_transposed_convolution() -> None:
    # Input (i, j) adds its kernel's (3, 3) values around output (2i, 2j); what falls
    # outside is cropped.
    layer = Upsample2x()
    layer.build((None, None, None, 2))
    kernel, x = noise(3, 3, 2, 2), noise(1, 3, 4, 2, seed=1)
    layer.set_weights([kernel])
    expected = np.zeros((2 * 3 + 1, 2 * 4 + 1, 2))
    for i in range(3):
        for j in range(4):
            expected[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += kernel @ x[0, i, j]
    np.testing.assert_allclose(layer(x)[0], expected[1:-1, 1:-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("learnable", [True, False])
def test_upsampling_has_gradients_in_half_precision(
    policy: str, learnable: bool
) -> None:
    layer = Upsample2x(learnable, dtype=keras.mixed_precision.Policy(policy))
    x = tf.cast(tf.ones((1, 3, 4, 2)), policy.removeprefix("mixed_"))
    with tf.GradientTape() as tape:
        tape.watch(x)
        upsampled = layer(x)
        total = tf.reduce_sum(upsampled)
    assert upsampled.dtype == x.dtype
    # Along an axis of n an input counts twice, ends 1½ times.
    expected = np.outer([1.5, 2, 1.5], [1.5, 2, 2, 1.5])
    gradient = np.asarray(tape.gradient(total, x), np.float32)[0]
    np.testing.assert_allclose(gradient, np.stack([expected] * 2, -1))


@pytest.mark.parametrize("learnable", [True, False])
def test_upsampling_compiles(learnable: bool) -> None:
    layer, x = Upsample2x(learnable), tf.constant(noise(2, 3, 4, 2))
    layer.build(x.shape)

    def step(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(layer(x) ** 2)
        return layer(x), tape.gradient(total, x)

    compiled = tf.function(step, jit_compile=True)(x)
    for ours, theirs in zip(step(x), compiled, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-3)


# --- Padding ---


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    stride=st.sampled_from([1, 8, 32]),
)
def test_padding_with_the_mean_is_padding_after_it_with_zeros(
    height: int, width: int, stride: int
) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, height, width, 3))
    image = image.astype(np.float32)
    before = CaffePreprocessing()(PadWithMean(stride)(image))
    after = PadToStride(stride)(CaffePreprocessing()(image))
    np.testing.assert_array_equal(before, after)
    for size, found in zip((height, width), before.shape[1:3], strict=True):
        assert (found - 1) % stride == 0
        assert size <= found < size + stride


# --- Scales ---


@settings(deadline=None, max_examples=25)
@given(old=st.tuples(SIZES, SIZES), new=st.tuples(SIZES, SIZES))
def test_maps_are_resized_corner_to_corner(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    x = noise(2, *old, 3)
    resized = ResizeLike()([x, noise(2, *new, 1)])
    # Where one position is asked for, both take the first.
    np.testing.assert_allclose(resized, bilinear(x, *new), rtol=1e-4, atol=1e-4)


# --- Shrinking ---


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.floats(0.1, 1.5),
)
def test_portable_resize_is_tensorflows_antialiased_one(
    height: int, width: int, scale: float
) -> None:
    images = noise(2, height, width, 3)
    layer = ScaleImage(scale)
    expected = layer(images)
    layer.portable = True
    # The same operations in float32, in another order.
    np.testing.assert_allclose(layer(images), expected, atol=1e-3)


def test_portable_resize_keeps_sizes_free_and_compiles() -> None:
    layer = ScaleImage(1 / 3)
    layer.portable = True
    images = noise(1, 17, 30, 3)
    free = tf.function(
        layer, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)]
    )
    expected = tf.image.resize(images, (6, 10), antialias=True)
    np.testing.assert_allclose(free(images), expected, atol=1e-4)
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_allclose(compiled(images), expected, atol=1e-4)
