"""The Lovász-softmax loss (Berman et al. 2018)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset import compat, xla
from tf_levelset.labels import Labels
from tf_levelset.losses.base import SegmentationLoss, rows, scaled, zero_on_void
from tf_levelset.losses.class_maps import (
    Classes,
    check_classes,
    class_counts,
    class_shares,
    flat_classes,
    own_class,
)


def lovasz_terms(
    scores: tf.Tensor, classes: tf.Tensor, shares: tf.Tensor, from_logits: bool
) -> tf.Tensor:
    """Returns each pixel's term of the Lovász extension (Berman et al. 2018, Eq. 8).

    Args:
        scores: (R, M, C).
        classes: int32 (R, M), −1 on void.
        shares: (R, C), the factor of each class.
        from_logits: Whether the scores are logits.

    Returns:
        (R, M), zero on void. The gradient holds the order of the errors fixed.
    """
    errors = tf.stop_gradient(_errors_by_class(scores, classes, from_logits))
    if xla.in_xla() or not xla.on_cpu():
        steps = jaccard_steps(errors, classes)
    else:
        steps = numpy_jaccard_steps(errors, classes, shares > 0)
    weights = tf.stop_gradient(steps) * shares[..., tf.newaxis]
    return _weighted_errors(scores, classes, weights, from_logits)


def _errors(scores: tf.Tensor, classes: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Returns 1 − P on a class's pixels and P on the others, (R, M, C)."""
    probabilities = tf.nn.softmax(scores) if from_logits else scores
    return tf.where(own_class(classes, scores), 1 - probabilities, probabilities)


@xla.fused
def _errors_by_class(
    scores: tf.Tensor, classes: tf.Tensor, from_logits: bool
) -> tf.Tensor:
    return tf.transpose(_errors(scores, classes, from_logits), [0, 2, 1])


@xla.fused_with_gradient
def _weighted_errors(
    scores: tf.Tensor, classes: tf.Tensor, weights: tf.Tensor, from_logits: bool
) -> tf.Tensor:
    """Returns Σ_c w e of each pixel, (R, M); the weights are (R, C, M)."""
    errors = _errors(scores, classes, from_logits)
    terms = tf.reduce_sum(tf.transpose(weights, [0, 2, 1]) * errors, axis=-1)
    return tf.where(classes >= 0, terms, 0)


def jaccard_steps(errors: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Returns how much the Jaccard loss grows as each pixel becomes wrong.

    Pixels become wrong in the order of their errors, the largest first. The result is
    the gradient of the Lovász extension (Berman et al. 2018, Eq. 9). Let the class have
    S pixels, of which f are wrong, and let b other pixels be wrong. The index is I/U
    with I = S − f and U = S + b. The next pixel of the class lowers it by 1/U; the next
    pixel of another class by I/(U(U + 1)), or by 1 if the class is absent. This form
    has no difference of nearly equal numbers.

    Args:
        errors: (R, C, M) in [0, 1].
        classes: int32 (R, M), −1 on void.

    Returns:
        (R, C, M), zero on void.
    """
    shape = tf.shape(errors)
    # Void counts neither for the class nor for the others, so its place is arbitrary.
    own = classes[:, tf.newaxis] == tf.range(errors.shape[1])[:, tf.newaxis]
    rest = (classes >= 0)[:, tf.newaxis] & ~own
    order = tf.argsort(errors, axis=-1, direction="DESCENDING")
    starts = tf.range(shape[0] * shape[1])[:, tf.newaxis] * shape[2]
    order = tf.reshape(tf.reshape(order, [-1, shape[2]]) + starts, [-1])
    # Integers, because float32 cannot count beyond 2^24 pixels.
    own, rest = (
        tf.reshape(tf.gather(tf.reshape(tf.cast(t, tf.int32), [-1]), order), shape)
        for t in (own, rest)
    )
    size = tf.reduce_sum(own, axis=-1, keepdims=True)
    intersection = tf.cast(size - tf.cumsum(own, axis=-1), errors.dtype)
    union = tf.cast(size + tf.cumsum(rest, axis=-1), errors.dtype)
    truth, others = tf.cast(own, errors.dtype), tf.cast(rest, errors.dtype)
    of_class = tf.math.divide_no_nan(truth, union)
    before = tf.maximum(union - 1, 1)
    of_others = others * tf.math.divide_no_nan(intersection, before * union)
    first = others * tf.cast((size == 0) & (union == 1), errors.dtype)
    steps = tf.reshape(of_class + of_others + first, [-1])
    return tf.reshape(tf.gather(steps, tf.math.invert_permutation(order)), shape)


def numpy_jaccard_steps(
    errors: tf.Tensor, classes: tf.Tensor, wanted: tf.Tensor
) -> tf.Tensor:
    """Computes `jaccard_steps` with NumPy, which sorts faster than TensorFlow on a CPU.

    Args:
        errors: (R, C, M).
        classes: int32 (R, M).
        wanted: bool (R, C), the rows and classes whose steps are needed.

    Returns:
        (R, C, M), zero for the other rows and classes. XLA cannot compile it.
    """
    steps = tf.numpy_function(
        _steps_of_batch, [errors, classes, wanted], errors.dtype, stateful=False
    )
    return tf.ensure_shape(steps, errors.shape)


def _steps_of_batch(
    errors: np.ndarray, classes: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Returns the steps (R, C, M), with rows and classes in parallel threads."""
    steps = np.zeros_like(errors)

    def fill(place: tuple[int, int]) -> None:
        row, label = place
        order = _descending(errors[place], classes[row] >= 0)
        steps[place][order] = _sorted_steps(classes[row][order] == label, errors.dtype)

    # NumPy releases the lock of the interpreter while it sorts.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fill, zip(*np.nonzero(wanted), strict=True)))
    return steps


def _descending(errors: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Returns the indices of the valid errors (M,) in stable descending order."""
    count = np.count_nonzero(valid)
    fits = 0 < errors.size < 2**31
    if errors.dtype != np.float32 or not fits or errors.min() < 0:
        return np.argsort(np.where(valid, -errors, np.inf), kind="stable")[:count]
    # Sorting integers that hold error and index is faster than an argsort. The bits of
    # floats are in the order of the floats if these are zero or more; adding 0 turns
    # −0 into 0.
    bits = (errors + np.float32(0)).view(np.int32)
    keys = np.multiply(bits, -(2**32), dtype=np.int64)
    keys |= np.arange(errors.size)
    keys[~valid] = np.iinfo(np.int64).max
    keys.sort()
    return keys[:count] & (2**32 - 1)


def _sorted_steps(own: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns the steps of sorted pixels; bool (n,) tells which are of the class."""
    found = np.cumsum(own, dtype=np.int32 if own.size < 2**31 else np.int64)
    size = found[-1] if own.size else 0
    if not size:
        return np.arange(own.size) == 0
    others = np.arange(1, own.size + 1, dtype=found.dtype) - found
    union = (size + others).astype(dtype)
    # 1/U for the class's own and I/(U(U − 1)) for the others, where U counts the pixel.
    steps = (size - found).astype(dtype)
    steps /= np.maximum(union - 1, 1)
    steps[own] = 1
    steps /= union
    return steps


@compat.register
class LovaszSoftmaxLoss(SegmentationLoss):
    """Lovász-softmax loss, averaged over classes (Berman et al. 2018, Eq. 8 and 12).

    The errors e of a class are 1 − P on its pixels and P on the others. In descending
    order, each pixel adds e times the amount by which the Jaccard index of the class
    falls when this pixel becomes wrong after those before it. On predictions of 0 and 1
    the loss is one minus the mean IoU. The loss of a pixel is its own term.

    Most of the time is spent on sorting. On a machine without a GPU and outside of XLA,
    NumPy sorts, because it is faster than TensorFlow there. A graph that holds the loss
    then runs only in the Python process that built it.

    Args:
        per_image: Whether to compute the index over each image and average the loss
            over the images. Otherwise it is computed over the batch, as in the authors'
            code.
        classes: Classes to average over: "present" in the image (or batch), "all", or
            class ids. A class that is absent costs its largest error.
        from_logits: Whether y_pred holds logits rather than probabilities.
        ignore_class: Label of void pixels.
        class_weight: C numbers. They multiply the terms of the mean over classes.
        reduction, name, dtype: As in `keras.losses.Loss`.

    The call arguments and errors are those of `SegmentationLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(LovaszSoftmaxLoss()(labels, probabilities)), 4)
    0.4
    """

    def __init__(
        self,
        per_image: bool = False,
        classes: Classes = "present",
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "lovasz_softmax_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.per_image = per_image
        self.classes = check_classes(classes)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns the term of each pixel, (B, N), scaled to a mean."""
        classes = rows(flat_classes(labels), self.per_image)
        counts = class_counts(labels, scores, self.per_image)
        shares = class_shares(counts, self.classes, self.class_weight)
        scores = rows(zero_on_void(labels, scores), self.per_image)
        return scaled(lovasz_terms(scores, classes, shares, self.from_logits), labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "per_image": self.per_image,
            "classes": self.classes,
        }
