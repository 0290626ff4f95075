"""Ground truth as the losses read it: one integer per pixel, and which are void."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tf_levelset import xla
from tf_levelset.checks import check_numeric
from tf_levelset.scores import CHANNELS_LAST

_ONE_HOT = "Expected labels in one-hot rows: along the last axis, one 1 among zeros"
_NOT_ONE_HOT = (
    " Soft and multi-label targets are not supported: give the id of one class per "
    "pixel, as tf.argmax(y_true, -1) does. Divide rows of 0 and 255 by 255. "
    + CHANNELS_LAST
)


class Labels(NamedTuple):
    """Ground truth of a batch, its spatial axes flattened into N positions."""

    ids: tf.Tensor
    """int32 (B, N): the class of each valid pixel, 0 elsewhere."""
    valid: tf.Tensor
    """bool (B, N): False on void pixels."""
    invalid: tf.Tensor
    """bool (B, N): True where the label is neither a class nor void."""


class Masked(NamedTuple):
    """Labels with the Keras mask of the outputs that they belong to."""

    labels: tf.Tensor
    mask: tf.Tensor


def parse_labels(
    y_true: tf.Tensor,
    scores: tf.Tensor,
    ignore_class: int | None,
    mask: tf.Tensor | None = None,
    from_logits: bool = True,
) -> Labels:
    """Reads sparse or one-hot ground truth.

    Args:
        y_true: Sparse labels (B, …) or (B, …, 1) of any integer dtype, or of a
            floating dtype that holds integers; or one-hot (B, …, C), where a row of
            zeros is void.
        scores: The class scores (B, …, C) that the labels belong to. Only the shape is
            read, except that probabilities (B, 1, …, C) sum to 1 along the last axis:
            sigmoid outputs with channels first do not, and rows of their masks may look
            like one-hot ones.
        ignore_class: The label of void pixels, or None.
        mask: A Keras mask, or None. Its axes are the first ones of the images, and what
            it leaves out is void.
        from_logits: Whether the scores are logits rather than probabilities.

    Returns:
        The labels. For a label that is neither a class nor void, an
        `InvalidArgumentError` is raised when the operation runs, except under XLA,
        which drops assertions: `invalid` lets the caller return NaN there.

    Raises:
        ValueError: If the shapes do not match, or the labels are not real numbers.
    """
    check_numeric("y_true", y_true)
    num_classes = scores.shape[-1]
    void = "" if ignore_class is None else f" or ignore_class={ignore_class}"
    expected = f"Expected labels in [0, {num_classes}){void}."
    remedy = remedies(ignore_class)
    if _is_one_hot(y_true.shape, scores.shape):
        ids, valid, invalid = _from_one_hot(y_true)
        expected, remedy = f"{_ONE_HOT}, or zeros for void.", _NOT_ONE_HOT
        if scores.shape[1] == 1 and not from_logits:
            other = tf.abs(tf.reduce_sum(scores, axis=-1) - 1) > 0.1
            invalid, valid = invalid | other, valid | other
            expected = f"{_ONE_HOT}, and y_pred {scores.shape} to sum to 1 along it."
    else:
        if y_true.shape.rank == scores.shape.rank:
            y_true = tf.squeeze(y_true, axis=-1)
        ids, invalid = _integers(y_true)
        valid = tf.ones_like(ids, tf.bool)
    same_shape = _check_size(ids, scores)
    if ignore_class is not None:
        valid = valid & (ids != ignore_class)
    if mask is not None:
        valid = valid & _on_pixels(mask, ids)
    foreign = valid & (invalid | (ids < 0) | (ids >= num_classes))
    _assert_none(foreign, y_true, expected, remedy)
    invalid = ~same_shape | foreign
    ids = tf.where(valid & ~invalid, ids, 0)
    flat = tf.stack([tf.shape(scores)[0], -1])
    return Labels(*(tf.reshape(tensor, flat) for tensor in (ids, valid, invalid)))


def remedies(ignore_class: int | None) -> str:
    """Returns how to correct the usual labels out of range, for messages."""
    if ignore_class == 255:
        return ""
    return (
        " In a binary mask of 0 and 255, 255 may be the foreground: use `mask > 0`, or "
        "divide by 255. If 255 marks pixels to ignore, set `ignore_class=255`."
    )


def _is_one_hot(labels: tf.TensorShape, scores: tf.TensorShape) -> bool:
    """Whether labels are one-hot rather than sparse; raises where they are neither."""
    if labels.rank is None or scores.rank is None or scores.rank < 3:
        raise ValueError(
            "Expected y_pred of a known rank of at least 3, (B, …, C). Received: "
            f"y_pred of shape {scores} and y_true of shape {labels}."
        )
    if labels.rank == scores.rank and labels[-1] is None:
        raise ValueError(
            "Expected y_true with a known last axis, which distinguishes sparse labels "
            f"(B, …, 1) from one-hot labels (B, …, {scores[-1]}). Received: {labels}. "
            + CHANNELS_LAST
        )
    if labels.is_compatible_with(scores):
        return True
    sparse = labels if labels.rank == scores.rank - 1 else labels[:-1]
    is_sparse = labels.rank == scores.rank - 1 or labels[-1:] == [1]
    if not (is_sparse and sparse.is_compatible_with(scores[:-1])):
        raise ValueError(
            f"Expected y_true of shape {scores[:-1]}, {[*scores[:-1], 1]} (sparse) "
            f"or {scores} (one-hot). Received: y_true of shape {labels}. "
            + CHANNELS_LAST
        )
    return False


def _check_size(ids: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Whether labels and scores have the same size. Raises if not, except under XLA."""
    size, expected = tf.shape(ids), tf.shape(scores)[:-1]
    if not (ids.shape.is_fully_defined() and scores.shape[:-1].is_fully_defined()):
        text = "Expected y_true and y_pred of one size. Received: {} and {}. "
        text += CHANNELS_LAST
        differ = tf.reduce_any(size != expected)
        fail_if(differ, lambda: tf.strings.format(text, [size, expected]))
    return tf.reduce_all(size == expected)


def _on_pixels(mask: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns a Keras mask as one that broadcasts to the pixels."""
    mask = tf.cast(mask, tf.bool)
    if mask.shape.rank == ids.shape.rank + 1 and mask.shape[-1] == 1:
        mask = tf.squeeze(mask, axis=-1)
    missing = ids.shape.rank - (mask.shape.rank or 0)
    if missing < 0 or not ids.shape[: mask.shape.rank].is_compatible_with(mask.shape):
        raise ValueError(
            "Expected the Keras mask of y_pred to have the axes of the labels from the "
            f"batch axis on, {ids.shape}. Received: shape {mask.shape}"
        )
    return tf.reshape(mask, tf.concat([tf.shape(mask), [1] * missing], 0))


def _integers(y_true: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns int32 ids, and whether each label is a fraction."""
    if y_true.dtype.is_floating:
        # Keras passes labels on in floating point.
        ids = tf.cast(y_true, tf.int32)
        return ids, tf.cast(ids, y_true.dtype) != y_true
    if y_true.dtype in (tf.int64, tf.uint32, tf.uint64):
        # Clipped to the range of int32, so that no other id wraps into a class.
        wide = tf.cast(y_true, tf.int64)
        wide = tf.clip_by_value(wide, tf.int32.min, tf.int32.max)
        return tf.cast(wide, tf.int32), tf.zeros_like(wide, tf.bool)
    return tf.cast(y_true, tf.int32), tf.zeros_like(y_true, tf.bool)


def _from_one_hot(y_true: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns ids, valid and invalid of one-hot rows; soft rows are invalid."""
    y_true = tf.cast(y_true, tf.float32)
    total = tf.reduce_sum(y_true, axis=-1)
    binary = tf.reduce_all((y_true == 0) | (y_true == 1), axis=-1)
    ids = tf.argmax(y_true, axis=-1, output_type=tf.int32)
    valid = ~(binary & (total == 0))
    return ids, valid, ~binary | (total > 1)


def _assert_none(
    foreign: tf.Tensor, y_true: tf.Tensor, expected: str, remedy: str
) -> None:
    """Raises where labels are foreign, bool (B, …); see `fail_if`.

    Args:
        foreign: Where y_true is neither a class nor void.
        y_true: Sparse labels (B, …) or one-hot rows (B, …, C).
        expected: First sentence of the message.
        remedy: Its end.
    """

    def message() -> tf.Tensor:
        labels = tf.cast(y_true, tf.float32 if y_true.dtype.is_floating else tf.int64)
        first = tf.where(foreign)[0]
        found = [tf.gather_nd(labels, first), first]
        found += [tf.math.count_nonzero(foreign), tf.size(foreign)]
        text = f"{expected} Received: {{}} at index {{}}; {{}} of {{}} pixels are wrong"
        if labels.shape.rank == foreign.shape.rank:
            text += ", and the labels found are {}"
            found.append(tf.sort(tf.unique(tf.reshape(labels, [-1])).y))
        return tf.strings.format(f"{text}.{remedy}", found, summarize=10)

    fail_if(tf.reduce_any(foreign), message)


def fail_if(wrong: tf.Tensor, message: Callable[[], tf.Tensor]) -> None:
    """Raises `InvalidArgumentError` if a condition holds when the operation runs.

    XLA drops assertions, and cannot compile their text: nothing is raised there.

    Args:
        wrong: bool scalar.
        message: Returns the text, a scalar string. It is computed only if needed.
    """
    if xla.in_xla():
        return

    def fail() -> None:
        text = message()
        if tf.executing_eagerly():
            raise tf.errors.InvalidArgumentError(None, None, text.numpy().decode())
        tf.debugging.Assert(False, [text])

    tf.cond(wrong, fail, lambda: None)


def nan_where(invalid: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns values that are NaN where labels are invalid.

    A constant would make a NaN for sound labels, too, and
    `tf.debugging.enable_check_numerics` would stop there.
    """
    nan = tf.sqrt(-tf.cast(invalid, values.dtype))  # √−1, and √−0 elsewhere
    return tf.where(invalid, nan, values)
