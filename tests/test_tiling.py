"""Windows and batches: every pixel in one place, and back."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_levelset.labels import Labels, parse_labels
from tf_levelset.tiling import pixels_of, whole_batch, windows


def numbered(shape: tuple[int, int, int]) -> tuple[Labels, tf.Tensor]:
    """Labels that are all 1, and scores that number the pixels from 1."""
    numbers = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(*shape, 1)
    scores = tf.constant(np.concatenate([numbers, -numbers], axis=-1))
    return parse_labels(tf.ones(shape, tf.int32), scores, None), scores


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(2, 5))
def test_windows_hold_each_pixel_once(
    batch: int, height: int, width: int, side: int
) -> None:
    labels, scores = numbered((batch, height, width))
    tiles = windows(labels, scores, side)
    count = batch * -(-height // side) * -(-width // side)
    assert tiles.scores.shape == (count, side, side, 2)
    assert tiles.labels.ids.shape == (count, side * side)
    valid = tiles.labels.valid.numpy()
    numbers = tiles.scores.numpy()[..., 0].reshape(count, -1)
    # Padding is void, and nothing else is.
    np.testing.assert_array_equal(valid, numbers > 0)
    np.testing.assert_array_equal(
        np.sort(numbers[valid]), np.arange(1, labels.ids.shape.num_elements() + 1)
    )
    back = pixels_of(tf.constant(numbers), scores, side)
    np.testing.assert_array_equal(back, scores[..., 0].numpy().reshape(batch, -1))


def test_a_window_is_a_square_of_the_picture() -> None:
    tiles = windows(*numbered((1, 4, 5)), 2)
    np.testing.assert_array_equal(tiles.scores[1, ..., 0], [[3, 4], [8, 9]])
    np.testing.assert_array_equal(tiles.scores[2, ..., 0], [[5, 0], [10, 0]])
    np.testing.assert_array_equal(tiles.labels.valid[2], [True, False, True, False])


def test_a_batch_is_one_image() -> None:
    labels, scores = numbered((2, 3, 4))
    tiles = whole_batch(labels, scores)
    assert tiles.scores.shape == (1, 6, 4, 2)
    np.testing.assert_array_equal(
        tf.reshape(tiles.scores[..., 0], [-1]), np.arange(1, 25)
    )
    assert tiles.labels.ids.shape == (1, 24)


def test_windows_are_of_pictures() -> None:
    labels, scores = numbered((2, 3, 4))
    with pytest.raises(ValueError, match=r"y_pred \(B, H, W, C\)"):
        windows(labels, scores[:, 0], 2)
