"""The active contour loss (Chen et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_levelset import compat, xla
from tf_levelset.checks import check_not_negative
from tf_levelset.labels import Labels
from tf_levelset.losses.base import SegmentationLoss, scaled, zero_on_void
from tf_levelset.losses.class_maps import (
    Classes,
    check_classes,
    class_counts,
    class_map,
    class_shares,
    own_class,
    pixel_shares,
)

SQUARED_LENGTH_FLOOR = 1e-8
"""Added to ‖∇P‖², so that the square root is differentiable (Chen et al. 2019)."""


@xla.fused_with_gradient
def contour_losses(
    scores: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    length_weight: float,
    region_weight: float,
    inside_weight: float,
    from_logits: bool,
) -> tf.Tensor:
    """Returns length plus region of each pixel (Chen et al. 2019, Eq. 10).

    Args:
        scores: (B, …, C), with any number of spatial axes.
        classes: int32 (B, …), −1 on void.
        shares: (B, C), the factor of each class in the sum over classes.
        length_weight: Factor of the length.
        region_weight: λ.
        inside_weight: μ.
        from_logits: Whether the scores are logits.

    Returns:
        (B, …), zero on void.
    """
    probabilities = tf.nn.softmax(scores) if from_logits else scores
    # Because G is binary, (G − 1)² and (G − 0)² are each 0 or 1.
    own = own_class(classes, scores)
    region = tf.where(own, 1 - probabilities, inside_weight * probabilities)
    length = tf.sqrt(_squared_lengths(probabilities, classes))
    spatial_axes = [1] * (scores.shape.rank - 2)
    shares = tf.reshape(shares, [-1, *spatial_axes, scores.shape[-1]])
    costs = shares * (length_weight * length + region_weight * region)
    return tf.where(classes >= 0, tf.reduce_sum(costs, axis=-1), 0)


def _squared_lengths(probabilities: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Returns ‖∇P‖² + 1e-8 of each pixel and class (Eq. 11), (B, …, C)."""
    squares = tf.constant(SQUARED_LENGTH_FLOOR, probabilities.dtype)
    valid = classes >= 0
    for axis in range(1, classes.shape.rank):
        both = valid & _next(valid, axis)
        step = _next(probabilities, axis) - probabilities
        squares += tf.square(tf.where(both[..., tf.newaxis], step, 0))
    return squares


def _next(values: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns the value of the next pixel along an axis, zero beyond the border."""
    from_second = (*[slice(None)] * axis, slice(1, None))
    margins = [[0, int(i == axis)] for i in range(values.shape.rank)]
    return tf.pad(
        values[from_second], margins, constant_values=tf.cast(0, values.dtype)
    )


@compat.register
class ActiveContourLoss(SegmentationLoss):
    """Active contour loss, averaged over classes (Chen et al. 2019, Eq. 10–12).

    With P the probabilities of a class and G its binary ground truth,

        L = length · √(‖∇P‖² + 1e-8) + λ (μ P (G − c1)² + (1 − P) (G − c2)²),

    where c1 = 1 and c2 = 0 are constants; in the level set loss they are the means of
    the two regions. The loss is the mean over the valid pixels of an image, where the
    paper has a sum, so that only its length depends on the resolution. ∇P holds the
    differences to the next pixel along each axis, which are zero across the border of
    the image and of void.

    Args:
        length_weight: Factor of the length, zero or more.
        region_weight: λ, zero or more.
        inside_weight: μ, zero or more, the factor of the region inside the contour.
        classes: Classes to average over: "present" in the image, "all", or class ids.
        from_logits: Whether y_pred holds logits rather than probabilities.
        ignore_class: Label of void pixels.
        class_weight: C numbers. They multiply the terms of the mean over classes.
        reduction, name, dtype: As in `keras.losses.Loss`.

    The call arguments and errors are those of `SegmentationLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(ActiveContourLoss()(labels, probabilities)), 4)
    0.5001
    """

    def __init__(
        self,
        length_weight: float = 1.0,
        region_weight: float = 1.0,
        inside_weight: float = 1.0,
        classes: Classes = "present",
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "active_contour_loss",
        dtype: Any = None,
    ) -> None:
        check_not_negative(
            length_weight=length_weight,
            region_weight=region_weight,
            inside_weight=inside_weight,
        )
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.length_weight = length_weight
        self.region_weight = region_weight
        self.inside_weight = inside_weight
        self.classes = check_classes(classes)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns each pixel's length and region terms, (B, N), scaled."""
        counts = class_counts(labels, scores)
        shares = class_shares(counts, self.classes, self.class_weight)
        classes = class_map(labels, scores)
        scores = tf.reshape(zero_on_void(labels, scores), tf.shape(scores))
        sums = contour_losses(
            scores,
            classes,
            shares,
            self.length_weight,
            self.region_weight,
            self.inside_weight,
            self.from_logits,
        )
        sums = tf.reshape(sums, tf.shape(labels.ids))
        return scaled(pixel_shares(labels, True, sums.dtype) * sums, labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "length_weight": self.length_weight,
            "region_weight": self.region_weight,
            "inside_weight": self.inside_weight,
            "classes": self.classes,
        }
