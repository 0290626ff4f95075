from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.datasets.pipeline.window import (
    Window,
    as_float,
    image_window,
)


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
