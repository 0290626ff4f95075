from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.datasets.pipeline.window import (
    Window,
    as_float,
    image_window,
    label_window,
)


@st.composite
def windows(draw: st.DrawFn) -> tuple[tuple[int, int], Window, tuple[int, int]]:
    """An old size, a window of a new one, and a size to pad it to."""
    old, size, start, shape, padded = [], [], [], [], []
    for _ in range(2):
        old.append(draw(st.integers(1, 40)))
        size.append(draw(st.just(old[-1]) | st.integers(1, 60)))
        start.append(draw(st.integers(0, size[-1] - 1)))
        shape.append(draw(st.integers(1, size[-1] - start[-1])))
        padded.append(shape[-1] + draw(st.integers(0, 3)))
    window = Window(pair(size), pair(start), pair(shape), draw(st.booleans()))
    return pair(old), window, pair(padded)


def pair(values: list[int]) -> tuple[int, int]:
    return values[0], values[1]


def cut(whole: np.ndarray, window: Window) -> np.ndarray:
    (top, left), (height, width) = window.start, window.shape
    part = whole[top : top + height, left : left + width]
    return part[:, ::-1] if window.flip else part


@settings(deadline=None, max_examples=100)
@given(case=windows(), seed=st.integers(0, 1000))
def test_image_is_a_window_of_the_one_that_tensorflow_resizes(
    case: tuple[tuple[int, int], Window, tuple[int, int]], seed: int
) -> None:
    old, window, padded_size = case
    image = np.random.default_rng(seed).integers(0, 256, (*old, 3), np.uint8)
    whole = tf.image.resize(image, window.size, antialias=True).numpy()
    result = image_window(image, window, padded_size)
    assert result.dtype == np.uint8
    assert result.shape == (*padded_size, 3)
    height, width = window.shape
    # The passes over rows and over columns round by at most ½ each, and TensorFlow
    # computes the places of the centres in float32.
    inside = result[:height, :width]
    np.testing.assert_allclose(inside, cut(whole, window), atol=1.02)
    assert not result[height:].any()
    assert not result[:, width:].any()


@settings(deadline=None, max_examples=100)
@given(case=windows(), dtype=st.sampled_from("Bil"))
def test_labels_are_those_under_the_new_centres(
    case: tuple[tuple[int, int], Window, tuple[int, int]], dtype: str
) -> None:
    old, window, padded_size = case
    labels = (np.arange(old[0] * old[1]).reshape(old) % 251).astype(dtype)
    rows, columns = (
        [int((i + 0.5) * o / n) for i in range(n)]
        for o, n in zip(old, window.size, strict=True)
    )
    result = label_window(labels, window, padded_size)
    assert result.dtype == labels.dtype
    assert result.shape == padded_size
    height, width = window.shape
    expected = cut(labels[np.ix_(rows, columns)], window)
    np.testing.assert_array_equal(result[:height, :width], expected)
    assert np.all(result[height:] == 255)
    assert np.all(result[:, width:] == 255)


def test_labels_by_hand() -> None:
    # The centres of 3 pixels on a row of 6 are 1, 3, 5, where pixels 1, 3, 5 begin.
    labels = np.arange(6)[np.newaxis]
    for width, expected in ((3, [[1, 3, 5]]), (2, [[1, 4]])):
        size = (1, width)
        resized = label_window(labels, Window(size, (0, 0), size, False), size)
        assert resized.tolist() == expected


@pytest.mark.parametrize("size", [(5, 4), (23, 17), (40, 50), (40, 17)])
def test_the_mean_and_white_are_preserved(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (31, 29, 3), np.uint8)
    window = Window(size, (0, 0), size, False)
    whole = tf.image.resize(image, size, antialias=True).numpy()
    # OpenCV's fixed-point arithmetic rounds down, by an eighth on average.
    assert abs(np.mean(image_window(image, window, size) - whole)) < 0.15
    white = np.full_like(image, 255)
    assert np.all(image_window(white, window, size) == 255)


def test_without_resizing_the_copy_is_exact() -> None:
    image = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    result = image_window(image, Window((5, 6), (1, 2), (3, 4), True), (3, 4))
    np.testing.assert_array_equal(result, image[1:4, 5:1:-1])


def test_float_images_have_the_mean_colour_as_padding() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3), np.uint8)
    insides = np.array([[5, 6], [2, 6], [3, 4]], np.int32)
    result = as_float(images, insides)
    assert result.dtype == np.float32
    mean = np.array(IMAGENET_MEAN_RGB, np.float32)
    for image, before, (height, width) in zip(result, images, insides, strict=True):
        outside = np.ones((5, 6), bool)
        outside[:height, :width] = False
        np.testing.assert_array_equal(image[~outside], before[~outside])
        assert np.all(image[outside] == mean)
    # TensorFlow adopts such memory instead of copying it.
    assert result.ctypes.data % 64 == 0
    assert result.flags.c_contiguous
