"""Which pixels share the regions of the energy: an image's, a batch's or a window's."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tf_levelset.labels import Labels


class Tiles(NamedTuple):
    """A batch cut anew, so that what was B images of N pixels is T tiles of M.

    What is padded is void.
    """

    labels: Labels
    """Each (T, M)."""
    scores: tf.Tensor
    """(T, …, C)."""


def whole_batch(labels: Labels, scores: tf.Tensor) -> Tiles:
    """Makes one image of a batch, its images one above the other.

    Args:
        labels: ground truth (B, N).
        scores: (B, …, C).
    """
    inner = scores.shape[2:]
    scores = tf.reshape(scores, tf.concat([[1, -1], tf.shape(scores)[2:]], axis=0))
    return Tiles(
        Labels(*(tf.reshape(t, [1, -1]) for t in labels)),
        tf.ensure_shape(scores, [1, None, *inner]),
    )


def windows(labels: Labels, scores: tf.Tensor, side: int) -> Tiles:
    """Cuts pictures into square windows, the last of each row and column padded.

    Args:
        labels: ground truth (B, N), N = H·W.
        scores: (B, H, W, C).
        side: of the windows, in pixels.

    Raises:
        ValueError: unless scores are of pictures.
    """
    if scores.shape.rank != 4:
        raise ValueError(
            "Expected y_pred (B, H, W, C), to cut it into windows. Received: "
            f"{scores.shape}"
        )
    shape = tf.shape(scores)
    cut = [_cut(tf.reshape(t, shape[:3])[..., tf.newaxis], side) for t in labels]
    pixels = [tf.reshape(t, [-1, side * side]) for t in cut]
    return Tiles(Labels(*pixels), _cut(scores, side))


def pixels_of(values: tf.Tensor, like: tf.Tensor, side: int) -> tf.Tensor:
    """Puts values of windows (T, side²) back to pictures (B, H·W).

    Args:
        values: one a pixel of `windows`.
        like: scores (B, H, W, C), that were cut.
        side: of the windows.
    """
    shape = tf.shape(like)
    rows, columns = (-(-shape[axis] // side) for axis in (1, 2))
    grid = tf.reshape(values, [shape[0], rows, columns, side, side])
    picture = tf.transpose(grid, (0, 1, 3, 2, 4))
    picture = tf.reshape(picture, [shape[0], rows * side, columns * side])
    return tf.reshape(picture[:, : shape[1], : shape[2]], [shape[0], -1])


def _cut(values: tf.Tensor, side: int) -> tf.Tensor:
    """Cuts (B, H, W, D), padded with zeros, into (T, side, side, D)."""
    shape, depth = tf.shape(values), values.shape[-1]
    rows, columns = (-(-shape[axis] // side) for axis in (1, 2))
    missing = [rows * side - shape[1], columns * side - shape[2]]
    padding = [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]
    padded = tf.pad(values, padding)
    grid = tf.reshape(padded, [shape[0], rows, side, columns, side, depth])
    return tf.reshape(tf.transpose(grid, (0, 1, 3, 2, 4, 5)), [-1, side, side, depth])
