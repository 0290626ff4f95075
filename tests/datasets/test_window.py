from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.datasets.augment import resize_labels
from tf_levelset.datasets.window import Window, image_window, label_window, taps


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
    @given(case=windows(), seed=st.integers(0, 1000), dtype=st.sampled_from("Bfdl"))
    def test_is_that_of_the_whole_resized_by_tensorflow(
        self,
        case: tuple[tuple[int, int], Window, tuple[int, int]],
        seed: int,
        dtype: str,
    ) -> None:
        old, window, padded_size = case
        image = np.random.default_rng(seed).integers(0, 256, (*old, 3)).astype(dtype)
        whole = tf.image.resize(image, window.size, antialias=True).numpy()
        result = image_window(image, window, padded_size)
        assert result.dtype == np.float32
        assert result.shape == (*padded_size, 3)
        height, width = window.shape
        # TensorFlow computes where the centres fall in float32.
        np.testing.assert_allclose(
            result[:height, :width], expected(whole, window), atol=0.02
        )
        mean = np.array(IMAGENET_MEAN_RGB, np.float32)
        assert np.all(result[height:] == mean)
        assert np.all(result[:, width:] == mean)

    @pytest.mark.parametrize("size", [(5, 4), (23, 17), (40, 50)])
    def test_white_stays_white_and_no_brighter(self, size: tuple[int, int]) -> None:
        white = np.full((31, 29, 3), 255, np.uint8)
        result = image_window(white, Window(size, (0, 0), size, False), size)
        assert result.max() <= 255
        np.testing.assert_allclose(result, 255, atol=1e-3)

    def test_a_copy_of_the_picture_is_exact(self) -> None:
        image = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
        result = image_window(image, Window((5, 6), (1, 2), (3, 4), True), (3, 4))
        np.testing.assert_array_equal(result, image[1:4, 5:1:-1])


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


class TestTaps:
    def test_by_hand(self) -> None:
        # 4 pixels to 2: the centres stand at 1 and 3, and the triangle reaches 2
        # pixels to each side. Pixel centres ½, 1½ and 2½ lie ½, ½ and 1½ from 1 and
        # weigh 3, 3 and 1 quarters; the same from the other end.
        matrix, first, stop = taps(4, 2, 0, 2)
        assert (first, stop) == (0, 4)
        weights = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7
        np.testing.assert_allclose(matrix.toarray(), weights, rtol=1e-6)

    def test_reads_no_more_than_it_needs(self) -> None:
        # Twice the size: pixel 6 has its centre at 3¼, between those of 2 and 3.
        matrix, first, stop = taps(10, 20, 6, 1)
        assert (first, stop) == (2, 4)
        np.testing.assert_allclose(matrix.toarray(), [[0.25, 0.75]], rtol=1e-6)

    @pytest.mark.parametrize(("old", "new"), [(7, 3), (7, 7), (5, 11), (100, 3)])
    def test_flip_turns_the_rows_around(self, old: int, new: int) -> None:
        options: dict[str, Any] = {"old": old, "new": new, "start": 1, "count": 2}
        straight, mirrored = taps(**options)[0], taps(**options, flip=True)[0]
        np.testing.assert_array_equal(straight.toarray()[::-1], mirrored.toarray())
