from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.datasets.augment import resize_labels
from tf_levelset.datasets.window import Window, as_float, image_window, label_window


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


def expected(whole: np.ndarray, window: Window) -> np.ndarray:
    (top, left), (height, width) = window.start, window.shape
    part = whole[top : top + height, left : left + width]
    return part[:, ::-1] if window.flip else part


class TestImageWindow:
    @settings(deadline=None, max_examples=100)
    @given(case=windows(), seed=st.integers(0, 1000))
    def test_is_that_of_the_whole_resized_by_tensorflow(
        self, case: tuple[tuple[int, int], Window, tuple[int, int]], seed: int
    ) -> None:
        old, window, padded_size = case
        image = np.random.default_rng(seed).integers(0, 256, (*old, 3), np.uint8)
        whole = tf.image.resize(image, window.size, antialias=True).numpy()
        result = image_window(image, window, padded_size)
        assert result.dtype == np.uint8
        assert result.shape == (*padded_size, 3)
        height, width = window.shape
        # Both passes, over rows and over columns, round by ½ at most; and TensorFlow
        # computes where the centres fall in float32.
        np.testing.assert_allclose(
            result[:height, :width], expected(whole, window), atol=1.02
        )
        assert not result[height:].any()
        assert not result[:, width:].any()

    @pytest.mark.parametrize("size", [(5, 4), (23, 17), (40, 50), (40, 17)])
    def test_hardly_shifts_the_mean(self, size: tuple[int, int]) -> None:
        image = np.random.default_rng(0).integers(0, 256, (31, 29, 3), np.uint8)
        whole = tf.image.resize(image, size, antialias=True).numpy()
        result = image_window(image, Window(size, (0, 0), size, False), size)
        # OpenCV's fixed point rounds down a little: by an eighth on average.
        assert abs(np.mean(result - whole)) < 0.15

    @pytest.mark.parametrize("size", [(5, 4), (23, 17), (40, 50)])
    def test_white_stays_white(self, size: tuple[int, int]) -> None:
        white = np.full((31, 29, 3), 255, np.uint8)
        result = image_window(white, Window(size, (0, 0), size, False), size)
        assert np.all(result == 255)

    def test_a_copy_of_the_picture_is_exact(self) -> None:
        image = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
        result = image_window(image, Window((5, 6), (1, 2), (3, 4), True), (3, 4))
        np.testing.assert_array_equal(result, image[1:4, 5:1:-1])


class TestAsFloat:
    def test_keeps_what_is_inside_and_brings_the_mean_colour_around(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3), np.uint8)
        insides = np.array([[5, 6], [2, 6], [3, 4]], np.int32)
        result = as_float(images, insides)
        assert result.dtype == np.float32
        mean = np.array(IMAGENET_MEAN_RGB, np.float32)
        for image, before, (height, width) in zip(
            result, images, insides.tolist(), strict=True
        ):
            outside = np.ones((5, 6), bool)
            outside[:height, :width] = False
            np.testing.assert_array_equal(image[~outside], before[~outside])
            assert np.all(image[outside] == mean)

    def test_tensorflow_need_not_copy_it(self) -> None:
        images = np.zeros((1, 3, 3, 3), np.uint8)
        result = as_float(images, np.array([[3, 3]]))
        assert result.ctypes.data % 64 == 0
        assert result.flags.c_contiguous


class TestLabelWindow:
    @settings(deadline=None, max_examples=100)
    @given(case=windows(), dtype=st.sampled_from("Bil"))
    def test_is_that_of_the_whole(
        self, case: tuple[tuple[int, int], Window, tuple[int, int]], dtype: str
    ) -> None:
        old, window, padded_size = case
        labels = (np.arange(old[0] * old[1]).reshape(old) % 251).astype(dtype)
        whole = resize_labels(tf.constant(labels), window.size).numpy()
        result = label_window(labels, window, padded_size)
        assert result.dtype == labels.dtype
        assert result.shape == padded_size
        height, width = window.shape
        np.testing.assert_array_equal(result[:height, :width], expected(whole, window))
        assert np.all(result[height:] == 255)
        assert np.all(result[:, width:] == 255)
