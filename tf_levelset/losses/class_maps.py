"""Maps of class ids, and the share of each class in a loss that averages over classes.

Shapes: B images with spatial axes "…" and C classes; R rows of M pixels, where a row is
an image or, for losses that pool over it, the batch (see `base.rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf

from tf_levelset.checks import expect, is_whole
from tf_levelset.labels import Labels
from tf_levelset.losses.base import rows

Classes = str | Sequence[int]
"""The classes that a loss averages over: "present", "all", or a list of class ids."""

VOID = -1
"""The id of void pixels in maps of class ids."""


def flat_classes(labels: Labels) -> tf.Tensor:
    """Returns the class ids, int32 (B, N), with −1 on void."""
    return tf.where(labels.valid, labels.ids, VOID)


def class_map(labels: Labels, scores: tf.Tensor) -> tf.Tensor:
    """Returns the class ids in the shape of the images, int32 (B, …), −1 on void."""
    classes = tf.reshape(flat_classes(labels), tf.shape(scores)[:-1])
    return tf.ensure_shape(classes, scores.shape[:-1])


def own_class(classes: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Returns where a class is the true class of the pixel, bool (B, …, C)."""
    return classes[..., tf.newaxis] == tf.range(scores.shape[-1])


def class_counts(
    labels: Labels, scores: tf.Tensor, per_image: bool = True
) -> tf.Tensor:
    """Counts the valid pixels of each class, (R, C), in the dtype of the scores."""
    num_classes = scores.shape[-1]
    batch = tf.shape(labels.ids)[0]
    cells = labels.ids + tf.range(batch)[:, tf.newaxis] * num_classes
    # Integers, because float32 cannot count beyond 2^24 pixels.
    counts = tf.math.unsorted_segment_sum(
        tf.cast(labels.valid, tf.int32), cells, batch * num_classes
    )
    counts = tf.reshape(counts, [-1, num_classes])
    if not per_image:
        counts = tf.reduce_sum(counts, axis=0, keepdims=True)
    return tf.cast(counts, scores.dtype)


def class_shares(
    counts: tf.Tensor, classes: str | list[int], class_weight: Sequence[float] | None
) -> tf.Tensor:
    """Returns the factor of each class in the mean over classes.

    Args:
        counts: Floating (R, C), the number of valid pixels of each class.
        classes: "present", "all", or class ids.
        class_weight: C numbers that multiply the factors, or None.

    Returns:
        (R, C). Without class weights, the factors of a row sum to one, or to zero
        where none of the classes is present.

    Raises:
        ValueError: If `classes` holds an id of C or more.
    """
    num_classes = counts.shape[-1]
    if classes == "present":
        chosen = tf.cast(counts > 0, counts.dtype)
    elif classes == "all":
        chosen = tf.ones_like(counts)
    else:
        known = all(label < num_classes for label in classes)
        expect(known, f"`classes` below {num_classes}", classes)
        mask = [float(label in classes) for label in range(num_classes)]
        chosen = tf.ones_like(counts) * tf.constant(mask, counts.dtype)
    total = tf.reduce_sum(chosen, axis=-1, keepdims=True)
    shares = tf.math.divide_no_nan(chosen, total)
    if class_weight is not None:
        shares *= tf.constant(class_weight, shares.dtype)
    return shares


def pixel_shares(labels: Labels, per_image: bool, dtype: tf.DType) -> tf.Tensor:
    """Returns the factor of each pixel in the mean over the valid pixels, (R, M)."""
    valid = tf.cast(rows(labels.valid, per_image), dtype)
    return tf.math.divide_no_nan(valid, tf.reduce_sum(valid, axis=1, keepdims=True))


def check_classes(classes: Classes) -> str | list[int]:
    """Returns `classes` as a configuration stores it, or raises `ValueError`."""
    if isinstance(classes, str):
        known = classes in ("present", "all")
        expect(known, '`classes` to be "present", "all" or class ids', classes)
        return classes
    ids = list(classes) if isinstance(classes, Iterable) else []
    valid = ids != [] and all(is_whole(label) and label >= 0 for label in ids)
    distinct = valid and len(set(ids)) == len(ids)
    expect(distinct, "`classes` to hold class ids, each of them once", classes)
    return [int(label) for label in ids]
