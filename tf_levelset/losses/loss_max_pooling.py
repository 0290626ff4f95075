"""Loss max-pooling (Rota Bulò et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import expect, is_number
from tf_levelset.labels import Labels
from tf_levelset.losses.base import SegmentationLoss, rows, scaled


def max_pooling_weights(
    losses: tf.Tensor, valid: tf.Tensor, ratio: float, p: float
) -> tf.Tensor:
    """Returns the pixel weights that maximise Σ w ℓ (Rota Bulò et al. 2017).

    With τ the upper bound of a weight, w = τ where ℓ > α, and τ (ℓ/α)^(q−1) elsewhere.
    α^q is the sum of ℓ^q over ℓ ≤ α, divided by m − k, where k losses are above α. With
    the losses in descending order, k is the smallest number for which α is not below
    the next loss, ℓ_(k+1).

    Args:
        losses: (R, M), zero or more, and zero where not valid. Each row is pooled.
        valid: bool (R, M).
        ratio: M = ⌊ratio · number of valid pixels⌋, but at least 1.
        p: Exponent of the norm.

    Returns:
        Weights (R, M) in the dtype of the losses, zero where the loss is zero. They
        have no gradient.
    """
    q = p / (p - 1)
    exact = tf.cast(tf.stop_gradient(losses), tf.float64)
    n = tf.cast(tf.math.count_nonzero(valid, axis=1, keepdims=True), tf.float64)
    n = tf.maximum(n, 1)
    m = tf.maximum(tf.floor(ratio * n), 1)
    # In logarithms, because the powers of small losses underflow. The logarithm of a
    # zero is that of the smallest number, so that it is finite.
    logs = tf.math.log(tf.maximum(exact, np.finfo(np.float64).tiny))
    powers = q * tf.sort(logs, axis=1, direction="DESCENDING")
    rest = tf.math.cumulative_logsumexp(powers, axis=1, reverse=True)
    k = tf.range(tf.shape(powers)[1])[tf.newaxis]
    left = m - tf.cast(k, tf.float64)
    powers_of_alpha = rest - tf.math.log(tf.maximum(left, 1))
    found = (powers_of_alpha >= powers) | (left <= 1)
    first = tf.reduce_min(tf.where(found, k, k.dtype.max), axis=1, keepdims=True)
    log_alpha = tf.where(k == first, powers_of_alpha / q, 0)
    log_alpha = tf.reduce_sum(log_alpha, axis=1, keepdims=True)
    relative = tf.exp((q - 1) * tf.minimum(logs - log_alpha, 0))
    bound = n ** (-1 / q) * m ** (-1 / p)
    return tf.cast(bound * tf.where(exact > 0, relative, 0), losses.dtype)


@compat.register
class LossMaxPooling(SegmentationLoss):
    """Loss max-pooling, LMP (Rota Bulò et al. 2017).

    The cross-entropies ℓ of the n valid pixels are weighted by the worst weights among
    those allowed. With m = ⌊ratio·n⌋ and q = p/(p − 1),

        L = max_w Σ w ℓ    subject to ‖w‖_p ≤ n^(−1/q) and 0 ≤ w ≤ n^(−1/q) m^(−1/p),

    which has a closed form. The second bound spreads the weight over at least m pixels.
    Where all losses are equal, w = 1/n and L is their mean. Because w attains the
    maximum, the gradient is that of Σ w ℓ with w held fixed.

    Args:
        ratio: In (0, 1], the smallest share of the pixels that bears the weight. If m
            is 0 or 1, the second bound has no effect.
        p: Exponent of the norm, above 1 and finite. The closer it is to 1, the more the
            pixels with the largest losses weigh.
        per_image: Whether to pool over each image and average over the images, as in
            the paper. Otherwise the loss pools over the batch, as public ports do.
        from_logits: Whether y_pred holds logits rather than probabilities.
        ignore_class: Label of void pixels, which n does not count.
        class_weight: C numbers. They multiply the cross-entropies before pooling.
        reduction, name, dtype: As in `keras.losses.Loss`.

    The call arguments and errors are those of `SegmentationLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(LossMaxPooling()(labels, probabilities)), 4)
    0.5232
    """

    def __init__(
        self,
        ratio: float = 0.3,
        p: float = 1.7,
        per_image: bool = True,
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "loss_max_pooling",
        dtype: Any = None,
    ) -> None:
        expect(is_number(ratio) and 0 < ratio <= 1, "`ratio` in (0, 1]", ratio)
        expect(is_number(p) and 1 < p < math.inf, "`p` above 1 and finite", p)
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.ratio = ratio
        self.p = p
        self.per_image = per_image

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns w ℓ of each pixel, (B, N), scaled to a mean."""
        losses = self._cross_entropy(labels, scores)
        losses = rows(self._weigh_classes(losses, labels), self.per_image)
        valid = rows(labels.valid, self.per_image)
        weights = max_pooling_weights(losses, valid, self.ratio, self.p)
        return scaled(weights * losses, labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "p": self.p,
            "per_image": self.per_image,
        }
