"""The soft Dice loss (Milletari et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_levelset import compat, xla
from tf_levelset.checks import check_not_negative
from tf_levelset.labels import Labels
from tf_levelset.losses.base import SegmentationLoss, rows, scaled, zero_on_void
from tf_levelset.losses.class_maps import (
    Classes,
    check_classes,
    class_counts,
    class_shares,
    flat_classes,
    own_class,
    pixel_shares,
)
from tf_levelset.scores import softmax_gradient


def dice(overlap: tf.Tensor, total: tf.Tensor, smooth: float) -> tf.Tensor:
    """Returns the soft Dice coefficient of each class (Milletari et al. 2016, Sec. 3).

    Args:
        overlap: Σ P G, (R, C).
        total: Σ P + Σ G, or Σ P² + Σ G², (R, C).
        smooth: Number that is added to the numerator and to the denominator.

    Returns:
        (2 Σ P G + s) / (total + s), (R, C). It is 1 where the denominator is zero.
    """
    total += smooth
    # `total > 0` is false for NaN, which would then pass for an empty class.
    occupied = ~(total <= 0)
    ratio = (2 * overlap + smooth) / tf.where(occupied, total, 1)
    return tf.where(occupied, ratio, 1)


def class_sums(
    scores: tf.Tensor, classes: tf.Tensor, squared: bool, from_logits: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns Σ P G and Σ P (or Σ P²) of each class over the valid pixels.

    Args:
        scores: (R, M, C).
        classes: int32 (R, M), −1 on void.
        squared: Whether P is squared in the second sum.
        from_logits: Whether the scores are logits.

    Returns:
        Two tensors (R, C).
    """

    @tf.custom_gradient
    def sums(
        scores: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tf.Tensor]]:
        probabilities = _softmax(scores) if from_logits else scores

        def gradient(of_overlap: tf.Tensor, of_predicted: tf.Tensor) -> tf.Tensor:
            return _class_sums_gradient(
                probabilities, classes, of_overlap, of_predicted, squared, from_logits
            )

        return _class_sums(probabilities, classes, squared), gradient

    overlap, predicted = sums(scores)
    return overlap, predicted


@xla.fused
def _softmax(scores: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(scores)


def _class_sums(
    probabilities: tf.Tensor, classes: tf.Tensor, squared: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    num_rows, num_classes = tf.shape(classes)[0], probabilities.shape[-1]
    valid, ids = classes >= 0, tf.maximum(classes, 0)
    own = tf.where(valid, tf.gather(probabilities, ids, batch_dims=2), 0)
    cells = ids + tf.range(num_rows)[:, tf.newaxis] * num_classes
    overlap = tf.math.unsorted_segment_sum(
        tf.cast(own, tf.float64), cells, num_rows * num_classes
    )
    predicted = tf.square(probabilities) if squared else probabilities
    if xla.in_xla():
        # XLA adds the pixels one by one, which would lose four digits in float32.
        exact = tf.cast(tf.where(valid[..., tf.newaxis], predicted, 0), tf.float64)
        total = tf.cast(tf.reduce_sum(exact, axis=1), probabilities.dtype)
    else:
        # A matrix product adds in blocks, which keeps the digits and is faster.
        ones = tf.cast(valid, probabilities.dtype)
        total = tf.linalg.matvec(predicted, ones, transpose_a=True)
    overlap = tf.reshape(tf.cast(overlap, probabilities.dtype), [-1, num_classes])
    return overlap, total


@xla.fused
def _class_sums_gradient(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    of_overlap: tf.Tensor,
    of_predicted: tf.Tensor,
    squared: bool,
    from_logits: bool,
) -> tf.Tensor:
    of_overlap, of_predicted = of_overlap[:, tf.newaxis], of_predicted[:, tf.newaxis]
    slopes = 2 * of_predicted * probabilities if squared else of_predicted
    own = own_class(classes, probabilities)
    slopes = tf.where(own, slopes + of_overlap, slopes)
    slopes = tf.where((classes >= 0)[..., tf.newaxis], slopes, 0)
    return softmax_gradient(probabilities, slopes) if from_logits else slopes


@compat.register
class DiceLoss(SegmentationLoss):
    """Soft Dice loss, averaged over classes (Milletari et al. 2016).

    With P the probabilities of a class and G its binary ground truth, over the valid
    pixels of an image,

        L = mean over the classes of 1 − (2 Σ P G + s) / (Σ P + Σ G + s).

    The loss is shared out evenly among those pixels.

    Args:
        squared: Whether the denominator holds Σ P² + Σ G², as in Milletari et al.,
            rather than Σ P + Σ G.
        smooth: S, zero or more. With 0, a class that is absent and has no predicted
            probability costs 0, and one that is absent costs 1 as soon as it has any.
        per_image: Whether to compute the sums over each image and average the loss over
            the images. Otherwise the sums are over the batch.
        classes: Classes to average over: "present" in the image (or batch), "all", or
            class ids, such as [1] for the foreground of a binary task.
        from_logits: Whether y_pred holds logits rather than probabilities.
        ignore_class: Label of void pixels.
        class_weight: C numbers. They multiply the terms of the mean over classes.
        reduction, name, dtype: As in `keras.losses.Loss`.

    The call arguments and errors are those of `SegmentationLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(DiceLoss()(labels, probabilities)), 4)
    0.3125
    """

    def __init__(
        self,
        squared: bool = False,
        smooth: float = 0.0,
        per_image: bool = True,
        classes: Classes = "present",
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "dice_loss",
        dtype: Any = None,
    ) -> None:
        check_not_negative(smooth=smooth)
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.squared = squared
        self.smooth = smooth
        self.per_image = per_image
        self.classes = check_classes(classes)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns each valid pixel's even share of the loss, (B, N), scaled."""
        overlap, predicted = class_sums(
            rows(zero_on_void(labels, scores), self.per_image),
            rows(flat_classes(labels), self.per_image),
            self.squared,
            self.from_logits,
        )
        counts = class_counts(labels, scores, self.per_image)
        losses = 1 - dice(overlap, predicted + counts, self.smooth)
        shares = class_shares(counts, self.classes, self.class_weight)
        loss = tf.reduce_sum(shares * losses, axis=-1, keepdims=True)
        return scaled(loss * pixel_shares(labels, self.per_image, loss.dtype), labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "squared": self.squared,
            "smooth": self.smooth,
            "per_image": self.per_image,
            "classes": self.classes,
        }
