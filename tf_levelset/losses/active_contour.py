"""The active contour loss (Chen et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    gradient_of_logits,
    own_class,
    pixel_shares,
    softmax,
)

SQUARED_LENGTH_FLOOR = 1e-8
"""Added to ‖∇P‖², so that the square root is differentiable (Chen et al. 2019)."""


@xla.fused
def contour_losses(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    length_weight: float,
    region_weight: float,
    inside_weight: float,
) -> tf.Tensor:
    """Returns length plus region of each pixel (Chen et al. 2019, Eq. 10).

    Args:
        probabilities: (B, …, C), with any number of spatial axes.
        classes: int32 (B, …), −1 on void.
        shares: (B, C), the factor of each class in the sum over classes.
        length_weight: factor of the length.
        region_weight: λ.
        inside_weight: μ.

    Returns:
        (B, …), zero on void.
    """
    own = own_class(classes, probabilities)
    # Because G is binary, (G − 1)² and (G − 0)² are each 0 or 1.
    region = tf.where(own, 1 - probabilities, inside_weight * probabilities)
    lengths = tf.sqrt(_squared_lengths(probabilities, classes))
    costs = length_weight * lengths + region_weight * region
    sums = tf.reduce_sum(_beside_scores(shares, probabilities) * costs, axis=-1)
    return tf.where(classes >= 0, sums, 0)


def contour_gradient(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    upstream: tf.Tensor,
    length_weight: float,
    region_weight: float,
    inside_weight: float,
) -> tf.Tensor:
    """Returns the gradient of `contour_losses` with respect to the probabilities.

    Args:
        probabilities: see `contour_losses`, also for the other arguments.
        classes: int32 (B, …).
        shares: (B, C).
        upstream: (B, …), the gradient with respect to the losses.
        length_weight: factor of the length.
        region_weight: λ.
        inside_weight: μ.

    Returns:
        (B, …, C).
    """
    upstream = tf.where(classes >= 0, upstream, 0)
    # Two functions, because in one XLA would compute each root again at every use.
    pulls = _pulls(probabilities, classes, shares, upstream, length_weight)
    return _contour_slopes(
        probabilities, classes, shares, upstream, pulls, region_weight, inside_weight
    )


@xla.fused
def _pulls(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    upstream: tf.Tensor,
    length_weight: float,
) -> tf.Tensor:
    """Returns the factor of a pixel's differences in the gradient of the length."""
    weights = upstream[..., tf.newaxis] * _beside_scores(shares, probabilities)
    squares = _squared_lengths(probabilities, classes)
    return length_weight * weights * tf.math.rsqrt(squares)


@xla.fused
def _contour_slopes(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    upstream: tf.Tensor,
    pulls: tf.Tensor,
    region_weight: float,
    inside_weight: float,
) -> tf.Tensor:
    """Returns the gradient of the regions, and of each length at both its pixels."""
    weights = upstream[..., tf.newaxis] * _beside_scores(shares, probabilities)
    one = tf.ones([], probabilities.dtype)
    own = own_class(classes, probabilities)
    slopes = region_weight * weights * tf.where(own, -one, inside_weight * one)
    for axis in range(1, classes.shape.rank):
        slopes -= pulls * _steps(probabilities, classes, axis, 1)
        before = _shifted(pulls, axis, -1, 0)
        slopes -= before * _steps(probabilities, classes, axis, -1)
    return slopes


def _squared_lengths(probabilities: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Returns ‖∇P‖² + 1e-8 of each pixel and class (Eq. 11), (B, …, C)."""
    squares = tf.constant(SQUARED_LENGTH_FLOOR, probabilities.dtype)
    for axis in range(1, classes.shape.rank):
        squares += tf.square(_steps(probabilities, classes, axis, 1))
    return squares


def _steps(
    probabilities: tf.Tensor, classes: tf.Tensor, axis: int, by: int
) -> tf.Tensor:
    """Returns the differences to the next pixel, zero across the border and to void."""
    valid = classes >= 0
    both = valid & _shifted(valid, axis, by, False)
    step = _shifted(probabilities, axis, by, 0) - probabilities
    return tf.where(both[..., tf.newaxis], step, 0)


def _shifted(values: tf.Tensor, axis: int, by: int, fill: Any) -> tf.Tensor:
    """Returns the values `by` pixels further along an axis, or `fill` outside."""
    rank = values.shape.rank
    kept = slice(by, None) if by > 0 else slice(None, by)
    part = values[tuple(kept if i == axis else slice(None) for i in range(rank))]
    margin = [max(-by, 0), max(by, 0)]
    margins = [margin if i == axis else [0, 0] for i in range(rank)]
    return tf.pad(part, margins, constant_values=tf.cast(fill, values.dtype))


def _beside_scores(shares: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Reshapes shares (B, C) so that they broadcast against scores (B, …, C)."""
    ones = [1] * (scores.shape.rank - 2)
    return tf.reshape(shares, [-1, *ones, scores.shape[-1]])


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
        length_weight: factor of the length, zero or more.
        region_weight: λ, zero or more.
        inside_weight: μ, zero or more, the factor of the region inside the contour.
        classes: classes to average over: "present" in the image, "all", or class ids.
        from_logits: whether y_pred holds logits rather than probabilities.
        ignore_class: label of void pixels.
        class_weight: C numbers. They multiply the terms of the mean over classes.
        reduction: as in Keras.
        name: name of the loss.
        dtype: dtype of the computation.

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
        weights = (self.length_weight, self.region_weight, self.inside_weight)

        @tf.custom_gradient
        def losses(
            scores: tf.Tensor,
        ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            probabilities = softmax(scores) if self.from_logits else scores

            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                slopes = contour_gradient(
                    probabilities, classes, shares, upstream, *weights
                )
                if self.from_logits:
                    return gradient_of_logits(probabilities, slopes)
                return slopes

            return contour_losses(probabilities, classes, shares, *weights), gradient

        sums = tf.reshape(losses(scores), tf.shape(labels.ids))
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
