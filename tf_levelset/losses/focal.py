"""The focal loss (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import check_not_negative, check_positive
from tf_levelset.labels import Labels
from tf_levelset.losses.base import SegmentationLoss


def focal_factor(losses: tf.Tensor, gamma: float) -> tf.Tensor:
    """Returns (1 − p)^γ, the focal loss's factor (Lin et al. 2017, Eq. 4).

    Args:
        losses: Cross-entropies −log p, of any shape.
        gamma: γ, zero or more.

    Returns:
        A tensor of the same shape. It is 1 where p = 1: the focal loss is zero there
        whatever the factor, and the derivative of 0^γ need not be finite.
    """
    doubt = -tf.math.expm1(-losses)
    return tf.where(doubt > 0, doubt, 1) ** gamma


@compat.register
class FocalLoss(SegmentationLoss):
    """Focal loss, α (1 − p)^γ (−log p) (Lin et al. 2017, Eq. 5).

    p is the probability of the pixel's true class. The loss is the mean over the valid
    pixels of the batch. Its values are those of Keras' `CategoricalFocalCrossentropy`,
    but it is computed from the log-probability. Keras clips the softmax at 1e-7, so
    that the pixels with the largest errors have no gradient.

    Args:
        gamma: Focusing parameter γ, zero or more. The larger it is, the less the pixels
            count that are classified well. With 0 the loss is α times the
            cross-entropy.
        alpha: Positive factor α of the whole loss. For one α per class, use
            `class_weight`.
        from_logits: Whether y_pred holds logits rather than probabilities.
        ignore_class: Label of void pixels.
        class_weight: C numbers. Each multiplies the losses of the pixels of its class.
        reduction: As in Keras. With "sum" and "none", which are not means, the loss of
            each pixel is left as it is.
        name, dtype: As in `keras.losses.Loss`.

    The call arguments and errors are those of `SegmentationLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(FocalLoss(alpha=1.0)(labels, probabilities)), 4)
    0.0872
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.25,
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "focal_loss",
        dtype: Any = None,
    ) -> None:
        check_not_negative(gamma=gamma)
        check_positive(alpha=alpha)
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.gamma = gamma
        self.alpha = alpha

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns losses (B, N) whose mean is that of the valid pixels."""
        losses = self._cross_entropy(labels, scores)
        losses = self.alpha * focal_factor(losses, self.gamma) * losses
        return self._mean_of_valid(self._weigh_classes(losses, labels), labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {**super().get_config(), "gamma": self.gamma, "alpha": self.alpha}
